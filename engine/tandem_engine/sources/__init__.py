"""Model sources: from a URI to a folder that an engine can load.

It runs as the init container of every worker pod, and on a laptop: `python -m tandem_engine.sources fetch`. It needs
neither torch nor vLLM, but to convert a GGUF file.
"""

from tandem_engine.sources.errors import SourceError
from tandem_engine.sources.fetching import default_cache, fetch, open_source, resolve
from tandem_engine.sources.gguf import loadable
from tandem_engine.sources.progress import LineWriter, Progress
from tandem_engine.sources.source import Backoff, Source, Work

__all__ = [
    "Backoff",
    "LineWriter",
    "Progress",
    "Source",
    "SourceError",
    "Work",
    "default_cache",
    "fetch",
    "loadable",
    "open_source",
    "resolve",
]
