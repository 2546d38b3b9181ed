"""Of what a prompt's KV is: the hash that a handle carries, out of vLLM's rendered input."""

from typing import Any

from tandem_engine.kv.content import content_hash


def prompt_hash(prompt: Any, adapter: str) -> bytes:
    """SHA-256 over token ids, multimodal inputs, adapter and cache salt.

    Args:
        prompt: vLLM's EngineInput, of tokens or multimodal.
        adapter: name of the LoRA adapter, or empty.
    """
    return content_hash(
        prompt["prompt_token_ids"],
        multimodal=_multimodal(prompt),
        adapter=adapter,
        cache_salt=prompt.get("cache_salt") or "",
    )


def _multimodal(prompt: Any) -> list[str]:
    """VLLM's hash of each input, in the order of the prompt."""
    places = prompt.get("mm_placeholders") or {}
    found = [
        (place.offset, f"{modality}:{hashed}")
        for modality, hashes in (prompt.get("mm_hashes") or {}).items()
        for hashed, place in zip(hashes, places.get(modality, ()), strict=True)
    ]
    return [text for _, text in sorted(found)]
