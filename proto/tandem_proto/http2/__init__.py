"""As much of HTTP/2 as a gRPC client of one call on one connection needs, bytes in and bytes out.

grpcio's clients read with threads of their own and copy what they read. Where that is most of the cost (the router's
sessions, the KV of a prompt) Tandem reads the wire itself, each place in its own way; what they have in common is here.
"""
