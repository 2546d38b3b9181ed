"""The tandem command, and the local platform that runs a plan as processes."""
