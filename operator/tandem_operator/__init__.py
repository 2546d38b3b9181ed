"""The operator: turns InferenceServices into workers. `planning` is pure; effects are elsewhere."""
