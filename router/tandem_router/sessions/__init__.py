"""The session with each worker: what goes up, what comes down, and the gRPC call below."""
