"""Engines, KV transfer, and what both kinds of worker share."""
