"""What a router says of itself: logs, counters and traces."""
