"""What a KV cache is of: the hash over all that decides its content, and whether a handle fits a call.

An engine does not check that a prompt matches the KV it is given: a wrong handle would give a fluent wrong answer. So
the decode side computes the hash of its own prompt and refuses a handle that says otherwise.
"""

import hashlib
import struct
from collections.abc import Iterable, Sequence
from typing import Final

from tandem_proto.tandem.v1 import kv_pb2

from tandem_engine.errors import KvMismatch

_DOMAIN: Final = b"tandem.kv.content.v1"
_MAX_TOKEN_ID: Final = 2**32 - 1


def content_hash(
    token_ids: Sequence[int], *, multimodal: Sequence[str] = (), adapter: str = "", cache_salt: str = ""
) -> bytes:
    """SHA-256 (32 bytes) over all that decides a prompt's KV.

    Every part is preceded by its length, so that no two different inputs are the same bytes.

    Args:
        token_ids: of the whole prompt, each in 0..2^32-1; multimodal inputs as their placeholder tokens.
        multimodal: a hash of each multimodal input, in the order of the prompt.
        adapter: name of the LoRA adapter; empty: the base model.
        cache_salt: the request's `cache_salt`.

    Raises:
        ValueError: a token id is out of range.
    """
    try:
        tokens = struct.pack(f"<{len(token_ids)}I", *token_ids)
    except struct.error as error:
        raise ValueError(f"token ids must be within 0..{_MAX_TOKEN_ID}") from error
    digest = hashlib.sha256()
    parts: Iterable[bytes] = (
        _DOMAIN,
        tokens,
        struct.pack("<Q", len(multimodal)),
        *(item.encode() for item in multimodal),
        adapter.encode(),
        cache_salt.encode(),
    )
    for part in parts:
        digest.update(struct.pack("<Q", len(part)))
        digest.update(part)
    return digest.digest()


def check_handle(
    handle: kv_pb2.KvHandle,
    *,
    model: str,
    version: str,
    revision: str,
    layout: kv_pb2.KvLayout,
    content_hash: bytes,
    tokens: int | None = None,
) -> None:
    """Accepts a handle only where its KV is that of this call's prompt on this very model.

    Args:
        handle: as it came with the call.
        model: own model; `version`, `revision` and `layout` likewise.
        version: see model.
        revision: see model.
        layout: see model.
        content_hash: of the call's own prompt.
        tokens: length of the own prompt, where it is known: tells a foreign prompt from a foreign adapter.

    Raises:
        KvMismatch: names each thing that differs. A hash can't say which of its parts does.
    """
    differs = [
        f"{name} ({theirs!r}, here {ours!r})"
        for name, theirs, ours in (
            ("model", handle.model, model),
            ("version", handle.version, version),
            ("revision", handle.revision, revision),
        )
        if theirs != ours
    ]
    if why := layout_difference(handle.layout, layout):
        differs.append(f"layout ({why})")
    if tokens is not None and handle.tokens != tokens:
        differs.append(f"prompt ({handle.tokens} tokens, here {tokens})")
    elif handle.content_hash != content_hash:
        differs.append("prompt, adapter or cache salt")
    if differs:
        raise KvMismatch(f"the KV handle is not for this call: it differs in {'; '.join(differs)}")


def layout_difference(theirs: kv_pb2.KvLayout, ours: kv_pb2.KvLayout) -> str:
    """Why bytes of one layout can't be blocks of the other; empty where they can.

    The number of tensor-parallel ranks may differ where one divides the other: heads are re-sliced then.
    """
    names = ["engine", "dtype", "layers", "kv_heads", "head_dim", "block_size", "order"]
    if theirs.tensor_parallel == ours.tensor_parallel:
        names.append("block_bytes")  # with unequal ranks it differs where heads are replicated
    for name in names:
        if getattr(theirs, name) != getattr(ours, name):
            return f"{name} {getattr(theirs, name)}, here {getattr(ours, name)}"
    many, few = sorted((theirs.tensor_parallel or 1, ours.tensor_parallel or 1), reverse=True)
    if many % few:
        return f"tensor_parallel {theirs.tensor_parallel}, here {ours.tensor_parallel}: one must divide the other"
    return ""
