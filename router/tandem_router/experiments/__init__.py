"""What a router counts of an experiment's two versions. The operator decides on it."""
