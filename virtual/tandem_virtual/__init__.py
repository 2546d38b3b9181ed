"""Virtual models and the deterministic text they are made of: pure, no clock, no I/O."""
