"""Which workers serve a request: services and versions made alive, the split between them, pairs, and the queue."""
