"""The paths of a router, each read once and handed on."""
