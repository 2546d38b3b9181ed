"""Models of other kinds: what a transfer can carry of them, and what is refused at the start."""

from pathlib import Path

import pytest
from tandem_api.worker import WorkerConfig
from tandem_proto.tandem.v1.worker_pb2 import KvReport

from tests.tiny_model import LAYERS
from tests.tiny_variants import WINDOW, make_tiny_latent, make_tiny_windowed
from tests.vllm_engine.engines import BLOCK_BYTES, Pair, config, prompt, running

pytestmark = pytest.mark.vllm

ARGS = ("--max-model-len=1024", "--max-num-seqs=4", f"--kv-cache-memory-bytes={80 * BLOCK_BYTES}")


def of(role: str, **changes: object) -> WorkerConfig:
    return config(role, engine={"type": "vllm", "args": ARGS}, **changes)


@pytest.mark.parametrize(
    ("make", "kind"),
    [(make_tiny_latent, "MLAAttentionSpec"), (make_tiny_windowed, "SlidingWindowSpec")],
    ids=["latent attention", "sliding window"],
)
async def test_kv_that_is_no_full_attention_is_refused_with_what_to_do(tmp_path: Path, make: object, kind: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=rf"does not support.*{kind}.*without `prefill`"):
        async with running(make(tmp_path), of("prefill")):
            pass


async def test_layers_with_a_window_beside_full_ones_are_carried(tmp_path: Path) -> None:
    """VLLM keeps the whole prompt's KV of all layers then, as long as there is a connector."""
    model = make_tiny_windowed(tmp_path, ["sliding_attention", "full_attention"] * (LAYERS // 2))
    async with running(model, of("prefill"), of("decode")) as engines:
        pair = Pair(*engines)
        for tokens in (10, WINDOW + 1, 300):
            body = {"prompt": prompt(tokens, seed=tokens), "return_token_ids": True}
            alone, together = await pair.whole(body), await pair.ask(body)
            assert together.reply.kv.outcome == KvReport.TRANSFERRED
            assert together.outcome.usage.computed_tokens == 1
            assert together.reply.json["choices"][0]["token_ids"] == alone.reply.json["choices"][0]["token_ids"]
