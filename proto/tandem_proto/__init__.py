"""The wire between router and workers, and between workers: messages, numbers, channels."""
