"""The decode worker: takes KV caches over and generates the answers."""
