"""One bidirectional gRPC call on a connection of its own, inside the event loop.

grpc.aio reads with threads of its own, which wake each other before they wake the loop: about 320 µs of CPU for each
message of a router that is otherwise idle, 90 µs under load. A session is one call on one connection, of which a client
needs little of HTTP/2. Read where the bytes arrive, a message costs 80 µs and 30 µs (`bench/README.md`). Workers are
grpcio's servers, and see a gRPC client like any other.
"""

from tandem_router.sessions.rpc.call import Call, Ended, open_call

__all__ = ["Call", "Ended", "open_call"]
