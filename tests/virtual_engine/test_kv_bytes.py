"""KV bytes follow from every token, and the answer's state from every byte."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tandem_engine.virtual.kv_bytes import KvShape, Rows, answer_state, block_keys, digest, kv_rows

BLOCK = 4
TOKENS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20)


def state(rows: Rows, last_token: int) -> int:
    """As a decode engine derives it: from the rows of all tokens but the last."""
    full = (len(rows) - 1) // BLOCK
    digests = [digest(rows[at * BLOCK : (at + 1) * BLOCK]) for at in range(full)]
    return answer_state(digests, rows[full * BLOCK : len(rows) - 1], last_token)


@given(tokens=TOKENS, at=st.integers(0, 19), other=st.integers(0, 2**32 - 1), width=st.sampled_from([8, 13, 64]))
def test_the_state_depends_on_every_token(tokens: list[int], at: int, other: int, width: int) -> None:
    changed = list(tokens)
    changed[at % len(tokens)] = other
    same = state(kv_rows(changed, width), changed[-1]) == state(kv_rows(tokens, width), tokens[-1])
    assert same == (changed == tokens)


@given(tokens=st.lists(st.integers(0, 1000), min_size=2, max_size=20), at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_the_state_depends_on_every_byte_but_those_of_the_token_that_is_computed_here(
    tokens: list[int], at: int, bit: int
) -> None:
    rows = kv_rows(tokens, 16)
    damaged = rows.copy()
    damaged[: len(tokens) - 1].reshape(-1)[at % ((len(tokens) - 1) * 16)] ^= 1 << bit
    assert state(damaged, tokens[-1]) != state(rows, tokens[-1])


@given(tokens=TOKENS)
def test_a_tokens_kv_depends_on_all_before_it_and_none_after(tokens: list[int]) -> None:
    rows = kv_rows(tokens, 16)
    assert (kv_rows([*tokens, 7], 16)[:-1] == rows).all()
    assert not (kv_rows([tokens[0] ^ 1, *tokens[1:]], 16)[-1] == rows[-1]).all()


@given(tokens=TOKENS, width=st.integers(1, 70), block_size=st.integers(1, 5))
def test_layers_hold_all_rows_and_their_layout_says_their_weight(
    tokens: list[int], width: int, block_size: int
) -> None:
    shape = KvShape(width, block_size)
    rows = kv_rows(tokens, width)
    layers = shape.to_layers(rows)
    blocks = shape.blocks(len(tokens))
    layout = shape.layout()
    assert len(layers) == layout.layers
    assert sum(layer.nbytes for layer in layers) == blocks * layout.block_bytes
    assert layout.block_bytes == layout.layers * layout.kv_heads * layout.head_dim * layout.block_size
    back = shape.from_layers(layers, blocks)
    assert (back[: len(tokens)] == rows).all()
    assert not np.any(back[len(tokens) :])


@given(one=TOKENS, other=TOKENS, salt=st.text(max_size=3))
def test_blocks_have_the_same_key_only_where_all_tokens_so_far_are_the_same(
    one: list[int], other: list[int], salt: str
) -> None:
    keys = zip(block_keys(one, BLOCK, salt), block_keys(other, BLOCK, salt), strict=False)
    for at, (mine, theirs) in enumerate(keys, 1):
        assert (mine == theirs) == (one[: at * BLOCK] == other[: at * BLOCK])
    assert not set(block_keys(one, BLOCK, "a")) & set(block_keys(one, BLOCK, "b"))
