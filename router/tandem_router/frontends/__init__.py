"""The client's side: what is read of a request, where its answer goes, how each API writes a failure."""
