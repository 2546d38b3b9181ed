"""Blocks of saved tensors: what goes to host memory and back, and what is refused. No engine runs here."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tandem_engine.kv.slices import slices
from tandem_engine.vllm.blocks import BlockCopier
from tandem_engine.vllm.layouts import RankCache, rank_cache
from vllm.v1.kv_cache_interface import FullAttentionSpec, MLAAttentionSpec, SlidingWindowSpec

pytestmark = pytest.mark.vllm

BLOCKS, BLOCK, CONTENT = 6, 4, 3


def cache(heads: int, parts: int = 1, order: str = "HND") -> RankCache:
    """Two layers of numbers, laid out in memory as heads or as tokens first."""

    def layer(n: int) -> torch.Tensor:
        shape = (BLOCKS * parts, heads, BLOCK // parts, CONTENT)
        values = torch.arange(torch.Size(shape).numel(), dtype=torch.float32).view(shape) + 1000 * n
        return values if order == "HND" else values.transpose(1, 2).contiguous().transpose(1, 2)

    return RankCache((layer(0), layer(1)), BLOCK, parts, heads, CONTENT)


def tokens(of: RankCache, layer: int, block: int) -> torch.Tensor:
    """`[heads, tokens, content]` of a block, put together from its parts."""
    rows = of.layers[layer][block * of.parts : (block + 1) * of.parts]
    return torch.cat(list(rows), dim=1)


@given(
    parts=st.sampled_from([1, 2]),
    orders=st.tuples(*[st.sampled_from(["HND", "NHD"])] * 2),
    pairs=st.lists(st.integers(0, BLOCKS - 1), min_size=1, max_size=BLOCKS, unique=True),
)
def test_blocks_arrive_as_they_were_whatever_the_memory_is_like(
    parts: int, orders: tuple[str, str], pairs: list[int]
) -> None:
    source, target = cache(2, parts, orders[0]), cache(2, 1, orders[1])
    for layer in target.layers:
        layer.zero_()
    into = list(reversed(pairs))
    BlockCopier(target).put(into, range(2), BlockCopier(source).take(pairs))
    for n in range(2):
        for one, other in zip(pairs, into, strict=True):
            assert torch.equal(tokens(source, n, one), tokens(target, n, other))
        untouched = set(range(BLOCKS)) - set(into)
        assert all(not tokens(target, n, block).any() for block in untouched)


@pytest.mark.parametrize(("holders", "readers"), [(1, 1), (2, 2), (1, 2), (2, 1), (4, 2), (2, 4), (4, 1), (1, 4)])
def test_every_rank_gets_its_heads_from_the_ranks_that_have_them(holders: int, readers: int) -> None:
    heads = 4
    whole = cache(heads)
    held = [
        RankCache(tuple(layer.chunk(holders, 1)[rank] for layer in whole.layers), BLOCK, 1, heads // holders, CONTENT)
        for rank in range(holders)
    ]
    for rank in range(readers):
        own = heads // readers
        mine = RankCache(tuple(torch.zeros(BLOCKS, own, BLOCK, CONTENT) for _ in range(2)), BLOCK, 1, own, CONTENT)
        for part in slices(holders, readers, rank, heads):
            there = BlockCopier(held[part.address_index]).take([3, 5])
            cut = [host[:, part.head_start : part.head_start + part.head_count].contiguous() for host in there]
            into = range(part.dest_head_start, part.dest_head_start + part.head_count)
            BlockCopier(mine).put([0, 1], into, cut)
        for n in range(2):
            wanted = whole.layers[n][[3, 5], rank * own : (rank + 1) * own]
            assert torch.equal(mine.layers[n][:2], wanted)


@dataclass
class Config:
    """As much of a KVCacheConfig as is read."""

    specs: list[Any]
    num_blocks: int = BLOCKS
    kv_cache_groups: list[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.kv_cache_groups = [SimpleNamespace(kv_cache_spec=spec) for spec in self.specs]


def spec(kind: type = FullAttentionSpec, **more: Any) -> Any:
    return kind(block_size=BLOCK, num_kv_heads=2, head_size=CONTENT, dtype=torch.float32, **more)


def test_layers_that_share_a_cache_are_moved_once() -> None:
    one, two = cache(2).layers
    found = rank_cache({"a": one, "b": two, "a again": one}, Config([spec()]))
    assert len(found.layers) == 2
    assert found.describe()["block_bytes"] == 2 * 2 * BLOCK * CONTENT * 4


def test_kernel_blocks_within_a_block_are_recognised() -> None:
    assert rank_cache({"a": cache(2, parts=2).layers[0]}, Config([spec()])).parts == 2


@pytest.mark.parametrize(
    ("config", "view"),
    [
        (Config([spec(MLAAttentionSpec)]), cache(2).layers[0]),
        (Config([spec(SlidingWindowSpec, sliding_window=8)]), cache(2).layers[0]),
        (Config([spec(), spec()]), cache(2).layers[0]),
        (Config([spec()]), cache(4).layers[0]),
        (Config([spec()]), torch.zeros(2, BLOCKS, BLOCK, 2, CONTENT)),
        (Config([spec()], num_blocks=5), cache(2).layers[0]),
    ],
    ids=["mla", "sliding window", "two groups", "other heads", "five axes", "other blocks"],
)
def test_a_cache_that_is_not_plain_attention_is_refused(config: Config, view: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="KV transfer does not support"):
        rank_cache({"layer": view}, config)
