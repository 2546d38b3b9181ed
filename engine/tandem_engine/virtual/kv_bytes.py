"""The virtual engine's KV: real bytes that follow from the token ids, and the state that follows from the bytes.

Each token adds to a running state, and its KV is that state written out over `bytes_per_token` bytes. An answer's state
is a hash over all bytes of the cache: whoever has not the right bytes does not have the right answer.
"""

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import xxhash
from tandem_proto.tandem.v1 import kv_pb2
from tandem_virtual.mixing import mix

Rows: TypeAlias = npt.NDArray[np.uint8]
"""KV by token: [tokens, bytes_per_token]."""

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)


class KvShape:
    """How bytes of a token are spread over layers and heads, for an engine of `bytes_per_token`."""

    def __init__(self, bytes_per_token: int, block_size: int) -> None:
        self.block_size = block_size
        self.row = bytes_per_token
        self.layers = next(layers for layers in (4, 2, 1) if bytes_per_token % layers == 0)
        self.heads = next(heads for heads in (4, 2, 1) if bytes_per_token // self.layers % heads == 0)
        self.head_row = bytes_per_token // self.layers // self.heads

    @property
    def block_bytes(self) -> int:
        return self.row * self.block_size

    @property
    def layer_block_bytes(self) -> int:
        return self.block_bytes // self.layers

    def layout(self) -> kv_pb2.KvLayout:
        return kv_pb2.KvLayout(
            engine="virtual",
            dtype="uint8",
            layers=self.layers,
            kv_heads=self.heads,
            head_dim=self.head_row,
            block_size=self.block_size,
            order="HND",
            tensor_parallel=1,
            block_bytes=self.block_bytes,
        )

    def blocks(self, tokens: int) -> int:
        """Blocks that hold so many tokens."""
        return -(-tokens // self.block_size)

    def to_layers(self, rows: Rows) -> list[npt.NDArray[np.uint8]]:
        """Rows as layers of [blocks, heads, block_size, head_row]; the last block is filled up with zeros."""
        blocks = self.blocks(len(rows))
        padded = np.zeros((blocks * self.block_size, self.row), dtype=np.uint8)
        padded[: len(rows)] = rows
        shaped = padded.reshape(blocks, self.block_size, self.layers, self.heads, self.head_row)
        return [np.ascontiguousarray(shaped[:, :, layer].transpose(0, 2, 1, 3)) for layer in range(self.layers)]

    def from_layers(self, layers: Sequence[npt.NDArray[np.uint8]], blocks: int) -> Rows:
        """The reverse: [blocks * block_size, row], padding included."""
        shaped = np.stack([layer.reshape(blocks, self.heads, self.block_size, self.head_row) for layer in layers])
        return np.ascontiguousarray(shaped.transpose(1, 3, 0, 2, 4)).reshape(blocks * self.block_size, self.row)


def kv_rows(token_ids: Iterable[int], width: int) -> Rows:
    """The KV of a prompt's tokens, [tokens, width]: each row depends on all tokens up to its own."""
    states = []
    state = 0
    for token in token_ids:
        state = mix(state, token)
        states.append(state)
    lanes = -(-width // 8)
    values = np.array(states, dtype=np.uint64)[:, None] + np.arange(lanes, dtype=np.uint64)[None, :] * _GOLDEN
    values ^= values >> np.uint64(30)
    values *= _FIRST
    values ^= values >> np.uint64(27)
    values *= _SECOND
    values ^= values >> np.uint64(31)
    return np.ascontiguousarray(values.view(np.uint8).reshape(len(states), lanes * 8)[:, :width])


def digest(rows: Rows) -> int:
    """A full block's content: a hash of its bytes."""
    return xxhash.xxh3_64_intdigest(rows.data)


def answer_state(full_blocks: Iterable[int], tail: Rows, last_token: int) -> int:
    """What the answer follows from.

    Args:
        full_blocks: digests of the full blocks before the last token's.
        tail: KV of the tokens between these and the last token, which has none yet: it is computed now.
        last_token: the prompt's last token.
    """
    return mix(*full_blocks, xxhash.xxh3_64_intdigest(np.ascontiguousarray(tail).data), last_token)


def block_keys(token_ids: Sequence[int], block_size: int, salt: str) -> list[int]:
    """A key for each full block: it stands for all tokens up to the block's end, and the cache salt."""
    key = xxhash.xxh3_64_intdigest(salt.encode()) | 1
    keys = []
    for end in range(block_size, len(token_ids) + 1, block_size):
        key = mix(key, *token_ids[end - block_size : end]) | 1  # 0 stands for no key
        keys.append(key)
    return keys
