"""Manifest files: YAML read into `InferenceService`s, and what is wrong said so that a person can mend it.

Every problem of a file is told at once: with line and column, the field's path, what was found and what would be right.
A manifest that `load` takes is one that an API server with Tandem's CRD takes too.
"""

from tandem_api.manifest.errors import Finding, ManifestError
from tandem_api.manifest.loading import Manifest, Other, load, read

__all__ = ["Finding", "Manifest", "ManifestError", "Other", "load", "read"]
