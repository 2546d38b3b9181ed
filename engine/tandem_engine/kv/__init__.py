"""KV transfer over gRPC: handles, leases, staged bytes, and the server and client that move them.

Nothing here knows an engine. The virtual engine and the vLLM connector stage host memory under a lease and fetch into
host memory of their own; the rest (who may fetch, for how long, how much at once, whether bytes arrived whole) is
decided once, here.
"""
