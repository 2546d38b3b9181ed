"""Prompts that were rendered and never given to the engine.

vLLM renders an image once and then names it by its hash: what its front end has rendered, it takes for known to the
engine. An image that was only counted, or of a call that was refused, is not: the next call with it would fail.
"""

from collections.abc import Iterable
from typing import Any


def take_back(engine: Any, prompts: Iterable[Any]) -> None:
    """Has the next call with an image of these prompts (EngineInput) send it. Harmless where it was sent before.

    Args:
        engine: AsyncLLM.
        prompts: what was rendered.
    """
    cache = engine.renderer.mm_processor_cache
    if cache is None:
        return
    for prompt in prompts:
        for hashes in (prompt.get("mm_hashes") or {}).values():
            for each in hashes:
                cache.invalidate(each)
