"""An engine that computes nothing: it asks servers with OpenAI's API that the user runs (requirements, section 6)."""

from tandem_engine.upstream.engine import UpstreamEngine

__all__ = ["UpstreamEngine"]
