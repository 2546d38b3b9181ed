"""As much of HTTP/2 as Tandem reads and writes itself, bytes in and bytes out.

grpcio works with threads of its own and copies what it moves. Where that is most of the cost (the router's sessions,
the KV of a prompt) Tandem speaks on the wire itself, each place in its own way; what they have in common is here.
"""
