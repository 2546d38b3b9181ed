"""The prefill worker: computes KV caches and holds them for decode workers."""
