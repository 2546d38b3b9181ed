"""The model registry: what exists (models, versions, artifacts, keys, outcomes), in a database and behind HTTP."""
