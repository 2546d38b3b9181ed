"""Which KV heads a rank has to fetch from which rank of the holder, where tensor parallelism is unequal.

Heads are dealt out as vLLM does: with at least as many heads as ranks, each rank has a run of `kv_heads / ranks`; with
fewer heads than ranks each head is held by `ranks / kv_heads` ranks that follow each other.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Slice:
    """A run of heads that one rank fetches from one rank of the holder."""

    address_index: int
    """The holder's rank: index into the handle's addresses."""
    head_start: int
    """First head, counted within what that rank holds."""
    head_count: int
    dest_head_start: int
    """Where the run begins within what the fetching rank holds."""


def rank_heads(tensor_parallel: int, rank: int, kv_heads: int) -> range:
    """The model's KV heads that a rank holds.

    Raises:
        ValueError: heads can't be dealt out evenly, or there is no such rank.
    """
    if not 0 <= rank < tensor_parallel:
        raise ValueError(f"rank {rank} of {tensor_parallel} does not exist")
    if kv_heads >= tensor_parallel:
        each, rest = divmod(kv_heads, tensor_parallel)
        first = rank * each
    else:
        each, rest = 1, tensor_parallel % kv_heads
        first = rank * kv_heads // tensor_parallel
    if rest:
        raise ValueError(f"{kv_heads} KV heads can't be dealt out to {tensor_parallel} tensor-parallel ranks evenly")
    return range(first, first + each)


def slices(holder_tp: int, own_tp: int, rank: int, kv_heads: int) -> list[Slice]:
    """What rank `rank` of `own_tp` fetches from a holder with `holder_tp` ranks, in the order of its heads.

    Where several ranks of the holder have the same head, the fetching ranks spread over them.

    Raises:
        ValueError: see `rank_heads`; or neither number of ranks divides the other.
    """
    if max(holder_tp, own_tp) % min(holder_tp, own_tp):
        raise ValueError(f"tensor parallelism {holder_tp} and {own_tp}: one must divide the other")
    wanted = rank_heads(own_tp, rank, kv_heads)
    copies = max(1, holder_tp // kv_heads)
    found: list[Slice] = []
    for first in range(0, holder_tp, copies):
        holder = first + rank % copies
        held = rank_heads(holder_tp, holder, kv_heads)
        start, stop = max(held.start, wanted.start), min(held.stop, wanted.stop)
        if start < stop:
            found.append(Slice(holder, start - held.start, stop - start, start - wanted.start))
    return found
