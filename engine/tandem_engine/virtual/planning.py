"""What the next step of continuous batching does: pure, a function of the sequences and the cache as they are.

A step computes one token for each sequence that decodes, then chunks of prompts within what the token budget leaves,
then begins waiting sequences, strictly in their order, while slots and blocks last. Where a decoding sequence needs a
block and none is free, the sequence that ranks last loses its blocks and computes its tokens again later.
"""

from collections.abc import Iterable
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

from tandem_engine.virtual.blocks import BlockCache

AGEING_SECONDS = 1.0
"""Waiting that makes up for one step of priority: whoever waits long enough comes before all later ones."""


class Phase(Enum):
    """Where a sequence is."""

    WAITING = auto()
    FETCHING = auto()
    PROMPT = auto()
    DECODE = auto()


class Consumer(Protocol):
    """Who a sequence computes for. Calls return at once."""

    def admitted(self, sequence: "Sequence") -> None:
        """It has its slot and blocks; a remote one waits for its KV now."""

    def prompt_done(self, sequence: "Sequence") -> bool:
        """All of the prompt's KV is there. True: nothing is to be generated."""

    def foresee(self, sequence: "Sequence") -> None:
        """A step begins that will give the sequence one more token: the time for what costs time."""

    def token(self, sequence: "Sequence") -> bool:
        """The sequence has one more token. True: it was the last."""

    def over(self, sequence: "Sequence") -> None:
        """It holds nothing any more, and ended by itself."""


@dataclass(slots=True, eq=False)
class Sequence:
    """One prompt and its answer in the engine. Only the batch changes it."""

    prompt: Ordered[int]
    keys: Ordered[int]
    """Of the prompt's full blocks."""
    order: float
    """Rank: when it came, plus its priority in ageing seconds."""
    consumer: Consumer
    remote: bool = False
    """The prompt's KV comes from elsewhere."""
    phase: Phase = Phase.WAITING
    blocks: list[int] = field(default_factory=list)
    computed: int = 0
    """Tokens whose KV is in the blocks."""
    generated: int = 0
    reused: int = 0
    """Prompt tokens found in the cache when it began."""
    own: int = 0
    """Prompt tokens computed here."""

    @property
    def tokens(self) -> int:
        """Of prompt and answer so far."""
        return len(self.prompt) + self.generated

    @property
    def left(self) -> int:
        """Tokens to compute before the next one can be generated."""
        return self.tokens - self.computed


@dataclass(frozen=True, slots=True)
class StepLimits:
    """What a step may hold, and how long it takes."""

    slots: int
    token_budget: int
    block_size: int
    prefill_token_time: float
    decode_step_time: float


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step. `chunks` says how many tokens of a prompt are computed."""

    preempt: tuple[Sequence, ...] = ()
    decode: tuple[Sequence, ...] = ()
    chunks: tuple[tuple[Sequence, int], ...] = ()
    admit: tuple[Sequence, ...] = ()
    seconds: float = 0.0

    @property
    def computes(self) -> bool:
        return bool(self.decode or self.chunks)


def plan_step(
    running: Ordered[Sequence], waiting: Iterable[Sequence], cache: BlockCache, limits: StepLimits
) -> StepPlan:
    """Plans a step; changes nothing.

    Args:
        running: those with a slot, in the order of their admission.
        waiting: the others, first come first.
        cache: the blocks.
        limits: of a step.
    """
    free = cache.free
    by_rank = sorted(running, key=lambda sequence: sequence.order)
    preempted: dict[Sequence, None] = {}
    decode: list[Sequence] = []
    for sequence in by_rank:
        if sequence.phase is not Phase.DECODE or sequence in preempted:
            continue
        short = sequence.tokens > len(sequence.blocks) * limits.block_size
        while short and not free:
            victim = next(s for s in reversed(by_rank) if s.phase is not Phase.FETCHING and s not in preempted)
            preempted[victim] = None
            free += cache.freed_by(victim.blocks)
            if victim is sequence:
                break
        if sequence in preempted:
            continue
        free -= short
        decode.append(sequence)

    budget = limits.token_budget - len(decode)
    chunks: list[tuple[Sequence, int]] = []
    for sequence in by_rank:
        if sequence.phase is Phase.PROMPT and sequence not in preempted and budget > 0:
            count = min(sequence.left, budget)
            chunks.append((sequence, count))
            budget -= count

    admit: list[Sequence] = []
    slots = limits.slots - len(running) if not preempted else 0
    for sequence in waiting:
        if not slots or (budget <= 0 and not sequence.remote):
            break
        matched = matched_blocks(sequence, cache, limits.block_size)
        need = cache.need(matched, -(-sequence.tokens // limits.block_size))
        if need > free:
            break
        free -= need
        slots -= 1
        admit.append(sequence)
        if not sequence.remote:
            count = min(sequence.tokens - len(matched) * limits.block_size, budget)
            chunks.append((sequence, count))
            budget -= count

    seconds = limits.prefill_token_time * sum(count for _, count in chunks)
    if decode:
        seconds += limits.decode_step_time
    return StepPlan(tuple(preempted), tuple(decode), tuple(chunks), tuple(admit), seconds)


def matched_blocks(sequence: Sequence, cache: BlockCache, block_size: int) -> list[int]:
    """Blocks of the cache that hold the sequence's beginning: never its last token's, for that is computed."""
    return cache.match(sequence.keys[: (len(sequence.prompt) - 1) // block_size])
