"""How much a key, and an address, may use in a minute: requests, and tokens."""
