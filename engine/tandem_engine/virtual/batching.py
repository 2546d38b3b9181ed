"""The batch: which sequences run and wait, and what a planned step does to them and to the cache.

Synchronous and without a clock. The engine's step loop calls `begin`, lets the step's time pass, and calls `finish`. A
sequence that is removed in between is computed no further, and holds nothing from that moment on.
"""

import bisect
from dataclasses import dataclass

from tandem_engine.errors import Overloaded
from tandem_engine.virtual.blocks import BlockCache
from tandem_engine.virtual.planning import Phase, Sequence, StepLimits, StepPlan, matched_blocks, plan_step


@dataclass(slots=True)
class BatchTotals:
    """Monotone counts."""

    steps: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    reused_tokens: int = 0
    preemptions: int = 0


class Batch:
    """Sequences and their blocks.

    Args:
        cache: the blocks, all free.
        limits: of a step.
        max_waiting: sequences that may wait when all slots are taken.
    """

    def __init__(self, cache: BlockCache, limits: StepLimits, max_waiting: int) -> None:
        self._cache = cache
        self._limits = limits
        self._max_waiting = max_waiting
        self._running: dict[Sequence, None] = {}
        self._waiting: list[Sequence] = []
        self.totals = BatchTotals()

    @property
    def running(self) -> int:
        """Sequences with a slot, those included whose KV is on its way."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def add(self, sequence: Sequence) -> None:
        """Lets a sequence wait for its slot.

        Raises:
            Overloaded: too many wait.
        """
        if self.running + self.waiting >= self._limits.slots + self._max_waiting:
            raise Overloaded(f"{self.running} requests run and {self.waiting} wait: no place is free")
        self._enqueue(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Ends a sequence, wherever it is; its slot and blocks are free at once. No error where it is over."""
        if sequence in self._running:
            del self._running[sequence]
            self._free(sequence)
        elif sequence in self._waiting:
            self._waiting.remove(sequence)

    def begin(self) -> StepPlan:
        """Plans the next step, and gives and takes slots and blocks as it says."""
        plan = plan_step(tuple(self._running), self._waiting, self._cache, self._limits)
        for sequence in plan.preempt:
            del self._running[sequence]
            self._free(sequence)
            sequence.phase, sequence.computed = Phase.WAITING, 0
            self._enqueue(sequence)
            self.totals.preemptions += 1
        for sequence in plan.decode:
            if sequence.tokens > len(sequence.blocks) * self._limits.block_size:
                sequence.blocks += self._cache.take(1)
            sequence.consumer.foresee(sequence)
        for sequence in plan.admit:
            self._admit(sequence)
        return plan

    def finish(self, plan: StepPlan) -> None:
        """The step's time is over: what it computed is there. First tokens come last, as of vLLM's scheduler."""
        if plan.computes:
            self.totals.steps += 1
        for sequence in plan.decode:
            if sequence.phase is Phase.DECODE and sequence in self._running:
                sequence.computed += 1
                self._generate(sequence)
        for sequence, count in plan.chunks:
            if sequence.phase is Phase.PROMPT and sequence in self._running:
                self._compute(sequence, min(count, sequence.left))

    def kv_arrived(self, sequence: Sequence) -> None:
        """A remote sequence's KV is in its blocks: only the prompt's last token is left to compute."""
        sequence.remote = False
        if sequence.phase is Phase.FETCHING:
            sequence.phase = Phase.PROMPT
            sequence.computed = len(sequence.prompt) - 1

    def kv_lost(self, sequence: Sequence) -> None:
        """A remote sequence's KV does not come: the prompt is computed here."""
        sequence.remote = False
        if sequence.phase is Phase.FETCHING:
            sequence.phase = Phase.PROMPT
            sequence.computed = sequence.reused

    def _enqueue(self, sequence: Sequence) -> None:
        bisect.insort(self._waiting, sequence, key=lambda waiting: waiting.order)

    def _admit(self, sequence: Sequence) -> None:
        total = -(-sequence.tokens // self._limits.block_size)
        matched = matched_blocks(sequence, self._cache, self._limits.block_size)
        if self._cache.need(matched, total) > self._cache.free:
            return  # blocks that the plan found in the cache went to a sequence before it: it waits on
        self._waiting.remove(sequence)
        self._running[sequence] = None
        self._cache.hold(matched)
        sequence.blocks = matched + self._cache.take(total - len(matched))
        sequence.reused = sequence.computed = len(matched) * self._limits.block_size
        self.totals.reused_tokens += sequence.reused
        sequence.phase = Phase.FETCHING if sequence.remote else Phase.PROMPT
        sequence.consumer.admitted(sequence)

    def _compute(self, sequence: Sequence, count: int) -> None:
        of_prompt = max(0, min(count, len(sequence.prompt) - sequence.computed))
        sequence.computed += count
        sequence.own += of_prompt
        self.totals.prompt_tokens += of_prompt
        if sequence.left:
            return
        sequence.phase = Phase.DECODE
        if not sequence.generated and sequence.consumer.prompt_done(sequence):
            self._end(sequence)
        else:
            self._generate(sequence)

    def _generate(self, sequence: Sequence) -> None:
        sequence.generated += 1
        self.totals.generated_tokens += 1
        if sequence.consumer.token(sequence):
            self._end(sequence)

    def _end(self, sequence: Sequence) -> None:
        self.remove(sequence)
        sequence.consumer.over(sequence)

    def _free(self, sequence: Sequence) -> None:
        self._cache.let_go(sequence.blocks)
        sequence.blocks = []
