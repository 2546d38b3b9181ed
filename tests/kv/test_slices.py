import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tandem_engine.kv.slices import rank_heads, slices
from tandem_engine.kv.staging import StagedKv

POWERS = st.sampled_from([1, 2, 4, 8])


@given(holder_tp=POWERS, own_tp=POWERS, kv_heads=st.sampled_from([1, 2, 4, 8, 16]), blocks=st.integers(1, 3))
def test_every_rank_gets_its_heads_of_saved_tensors(holder_tp: int, own_tp: int, kv_heads: int, blocks: int) -> None:
    head_bytes = 6
    model = np.random.default_rng(0).integers(0, 256, (blocks, kv_heads, head_bytes), dtype=np.uint8)
    staged = []
    for rank in range(holder_tp):
        held = rank_heads(holder_tp, rank, kv_heads)
        share = np.ascontiguousarray(model[:, held.start : held.stop])
        staged.append(StagedKv(b"", blocks, len(held), head_bytes, [share.data]))
    for rank in range(own_tp):
        own = rank_heads(own_tp, rank, kv_heads)
        cache = np.zeros((blocks, len(own), head_bytes), dtype=np.uint8)
        filled = np.zeros(len(own), dtype=int)
        for part in slices(holder_tp, own_tp, rank, kv_heads):
            raw = staged[part.address_index].cut(0, 0, part.head_start, part.head_count)
            heads = np.frombuffer(raw, dtype=np.uint8).reshape(blocks, part.head_count, head_bytes)
            place = slice(part.dest_head_start, part.dest_head_start + part.head_count)
            cache[:, place] = heads
            filled[place] += 1
        assert (filled == 1).all(), "every head comes exactly once"
        assert (cache == model[:, own.start : own.stop]).all()


@given(holder_tp=POWERS, kv_heads=st.sampled_from([1, 2]))
def test_readers_spread_over_ranks_that_hold_the_same_head(holder_tp: int, kv_heads: int) -> None:
    assume(holder_tp > kv_heads)
    asked = {part.address_index for rank in range(holder_tp) for part in slices(holder_tp, holder_tp, rank, kv_heads)}
    assert asked == set(range(holder_tp))


def test_equal_ranks_fetch_from_their_own_rank() -> None:
    assert [part.address_index for part in slices(2, 2, 1, 8)] == [1]


@pytest.mark.parametrize(("holder_tp", "own_tp", "heads"), [(2, 3, 6), (4, 4, 6), (4, 4, 3)])
def test_what_cannot_be_dealt_out_evenly_is_refused(holder_tp: int, own_tp: int, heads: int) -> None:
    with pytest.raises(ValueError, match=r"divide|dealt"):
        slices(holder_tp, own_tp, 0, heads)
