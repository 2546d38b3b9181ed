"""What goes into a request's kv_transfer_params and comes out of them: the front end's side of both connectors.

Keys of ours begin with "tandem.", so that no other connector takes them for its own. The connectors take a lease's
bits out of a request when they first see it: what the engine logs when it breaks has no lease in it.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from tandem_proto.tandem.v1 import kv_pb2

from tandem_engine.errors import Overloaded
from tandem_engine.vllm.stats import KEY

HOLD: Final = "tandem.hold"
"""{"lease", "content_hash"}: stage the prompt's KV."""
LEASE: Final = "tandem.lease"
"""Under which NIXL's blocks are held."""
FETCH: Final = "tandem.fetch"
"""A KvHandle, serialised: load the prompt's KV."""

_NIXL_HOLD: Final = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}


def compute(key: str) -> Mapping[str, Any]:
    """The engine computes the prompt itself."""
    return {KEY: key}


def hold(key: str, handle: kv_pb2.KvHandle) -> Mapping[str, Any]:
    """The prompt's KV is held under the handle's lease."""
    if handle.connector == "nixl":
        return {KEY: key, LEASE: handle.lease, **_NIXL_HOLD}
    return {KEY: key, HOLD: {"lease": handle.lease, "content_hash": handle.content_hash}}


def complete(handle: kv_pb2.KvHandle, produced: Mapping[str, Any] | None, staged: int) -> None:
    """Adds what the connector said when the prompt was computed.

    Args:
        handle: to be completed.
        produced: kv_transfer_params of the engine's output.
        staged: bytes that the ranks staged.

    Raises:
        Overloaded: the KV is not held.
    """
    if handle.connector == "nixl":
        if not produced or not produced.get("do_remote_prefill"):
            raise Overloaded("the prompt's KV could not be held")
        handle.connector_params = json.dumps(dict(produced)).encode()
    elif staged != handle.bytes:
        raise Overloaded("the prompt's KV could not be held")


def fetch(key: str, handle: kv_pb2.KvHandle) -> Mapping[str, Any]:
    """The prompt's KV is loaded from where the handle says."""
    if handle.connector == "nixl":
        return {KEY: key, **json.loads(handle.connector_params)}
    return {KEY: key, FETCH: handle.SerializeToString()}
