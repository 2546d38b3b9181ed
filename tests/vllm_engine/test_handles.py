"""KV is used for the prompt it is of, on the model it is of, or not at all."""

from collections.abc import Callable

import pytest
from tandem_engine.errors import KvMismatch
from tandem_engine.kv.content import content_hash
from tandem_proto.tandem.v1 import kv_pb2

from tests.vllm_engine.engines import Pair, ask, completion, prompt

pytestmark = pytest.mark.vllm

TOKENS = prompt(80, seed=100)


def of(**changes: object) -> Callable[[kv_pb2.KvHandle], None]:
    def change(handle: kv_pb2.KvHandle) -> None:
        for name, value in changes.items():
            setattr(handle, name, value)

    return change


def layout(**changes: object) -> Callable[[kv_pb2.KvHandle], None]:
    def change(handle: kv_pb2.KvHandle) -> None:
        for name, value in changes.items():
            setattr(handle.layout, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (of(model="other"), "model"),
        (of(version="v2"), "version"),
        (of(revision="r2"), "revision"),
        (of(connector="nixl"), "connector"),
        (of(content_hash=content_hash(TOKENS, adapter="french")), "adapter"),
        (of(content_hash=content_hash(TOKENS, cache_salt="salt")), "cache salt"),
        (layout(dtype="bfloat16"), "dtype"),
        (layout(block_size=16), "block_size"),
        (layout(layers=8), "layers"),
        (layout(kv_heads=4), "kv_heads"),
        (layout(head_dim=128), "head_dim"),
        (layout(order="NHD"), "order"),
        (layout(tensor_parallel=3), "tensor_parallel"),
    ],
)
async def test_a_handle_of_something_else_is_refused_by_name(
    pair: Pair, change: Callable[[kv_pb2.KvHandle], None], named: str
) -> None:
    handle = await pair.handle({"prompt": TOKENS})
    change(handle)
    with pytest.raises(KvMismatch, match=named):
        await ask(pair.decode, completion({"prompt": TOKENS}, kv=handle))
    pair.prefill.release(handle.lease)


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": [TOKENS[0] + 1, *TOKENS[1:]]},
        {"prompt": TOKENS[:-1]},
        {"prompt": [*TOKENS, 40]},
        {"prompt": TOKENS, "cache_salt": "salt"},
    ],
    ids=["first token", "shorter", "longer", "cache salt"],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_handle_of_another_prompt_is_an_error_never_an_answer(
    pair: Pair, other: dict[str, object], stream: bool
) -> None:
    handle = await pair.handle({"prompt": TOKENS})
    with pytest.raises(KvMismatch, match="prompt"):
        await ask(pair.decode, completion({**other, "stream": stream}, kv=handle))
    pair.prefill.release(handle.lease)


async def test_a_client_can_not_name_kv_itself(pair: Pair) -> None:
    handle = await pair.handle({"prompt": TOKENS})
    theirs = {"do_remote_prefill": True, "tandem.call": "x", "tandem.fetch": handle.SerializeToString().hex()}
    body = {"prompt": prompt(80, seed=101), "kv_transfer_params": theirs, "vllm_xargs": {"kv_transfer_params": "x"}}
    answer = await ask(pair.decode, completion(body))
    assert answer.outcome.usage.computed_tokens == 80
    pair.prefill.release(handle.lease)
