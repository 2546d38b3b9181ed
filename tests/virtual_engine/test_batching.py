"""Continuous batching: the step planner and the batch under any sequence of arrivals, cancels and steps."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tandem_engine.errors import Overloaded
from tandem_engine.virtual.batching import Batch
from tandem_engine.virtual.blocks import BlockCache
from tandem_engine.virtual.kv_bytes import block_keys
from tandem_engine.virtual.planning import Phase, Sequence, StepLimits, plan_step

BLOCK = 4


class Wants:
    """A consumer that wants a number of tokens."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.is_over = False

    def admitted(self, sequence: Sequence) -> None:
        pass

    def prompt_done(self, sequence: Sequence) -> bool:
        return self.tokens == 0

    def foresee(self, sequence: Sequence) -> None:
        pass

    def token(self, sequence: Sequence) -> bool:
        return sequence.generated >= self.tokens

    def over(self, sequence: Sequence) -> None:
        self.is_over = True


def sequence(prompt: int = 4, wants: int = 3, order: float = 0.0, *, remote: bool = False, first: int = 0) -> Sequence:
    tokens = [first, *range(1, prompt)]
    return Sequence(tokens, block_keys(tokens, BLOCK, ""), order, Wants(wants), remote=remote)


def batch(*, slots: int = 4, budget: int = 16, blocks: int = 32, max_waiting: int = 100) -> Batch:
    return Batch(BlockCache(blocks), StepLimits(slots, budget, BLOCK, 0.001, 0.01), max_waiting)


def step(running: Batch) -> float:
    plan = running.begin()
    running.finish(plan)
    return plan.seconds


def test_a_prompts_last_step_generates_the_first_token() -> None:
    b, s = batch(), sequence(prompt=4)
    b.add(s)
    assert step(b) == pytest.approx(0.004)
    assert (s.phase, s.generated) == (Phase.DECODE, 1)
    assert step(b) == pytest.approx(0.01)
    assert s.generated == 2


def test_a_long_prompt_is_computed_in_chunks_beside_those_who_decode() -> None:
    b, short, long = batch(budget=8), sequence(prompt=2, wants=9), sequence(prompt=20, order=1)
    b.add(short)
    step(b)
    b.add(long)
    assert step(b) == pytest.approx(0.01 + 7 * 0.001)
    assert (short.generated, long.computed) == (2, 7)
    step(b)
    step(b)
    assert (short.generated, long.generated) == (4, 1)


def test_who_came_first_starts_first_and_priority_goes_before_a_while() -> None:
    b = batch(slots=1)
    first, late, urgent = sequence(order=0.0), sequence(order=1.0, first=1), sequence(order=1.5 - 5, first=2)
    for s in (late, first, urgent):
        b.add(s)
    started = []
    while b.running or b.waiting:
        plan = b.begin()
        started += plan.admit
        b.finish(plan)
    assert started == [urgent, first, late]


def test_one_more_than_may_wait_is_refused() -> None:
    b = batch(slots=1, max_waiting=1)
    b.add(sequence())
    b.add(sequence())
    with pytest.raises(Overloaded):
        b.add(sequence())


def test_a_large_prompt_at_the_head_is_not_overtaken_for_ever() -> None:
    b = batch(slots=2, blocks=4)
    b.add(sequence(prompt=8, wants=4))
    step(b)
    b.add(large := sequence(prompt=12, wants=1, order=1, first=1))
    b.add(small := sequence(prompt=1, wants=1, order=2, first=2))
    step(b)
    assert (large.phase, small.phase) == (Phase.WAITING, Phase.WAITING)
    while not large.generated:
        step(b)
        assert not small.generated or large.generated
    assert large.generated == 1


def test_without_a_free_block_the_last_in_rank_is_preempted_and_ends_as_if_nothing_had_been() -> None:
    b = batch(slots=2, blocks=4)
    older, younger = sequence(prompt=4, wants=8, order=0), sequence(prompt=4, wants=8, order=1, first=1)
    b.add(older)
    b.add(younger)
    while b.running or b.waiting:
        step(b)
    assert b.totals.preemptions > 0
    assert (older.generated, younger.generated) == (8, 8)


def test_a_removed_sequence_holds_nothing_and_is_computed_no_further() -> None:
    cache = BlockCache(32)
    b = Batch(cache, StepLimits(4, 16, BLOCK, 0.001, 0.01), 10)
    b.add(s := sequence(prompt=8, wants=50))
    step(b)
    plan = b.begin()
    b.remove(s)
    assert (b.running, cache.free) == (0, 32)
    b.finish(plan)
    assert s.generated == 1
    assert not b.begin().computes


def test_a_beginning_that_is_known_is_not_computed_again() -> None:
    cache = BlockCache(32)
    b = Batch(cache, StepLimits(4, 16, BLOCK, 0.001, 0.01), 10)
    b.add(first := sequence(prompt=8, wants=2))
    step(b)
    for block, key in zip(first.blocks, first.keys, strict=False):
        cache.fill(block, key, 7)
    b.add(second := sequence(prompt=8, wants=1, order=1))
    step(b)
    assert (second.reused, second.own) == (4, 4)  # never the last token's block


def test_a_remote_prompt_waits_for_its_kv_and_computes_one_token() -> None:
    b = batch()
    b.add(s := sequence(prompt=10, remote=True))
    assert not b.begin().computes
    assert s.phase is Phase.FETCHING
    b.kv_arrived(s)
    step(b)
    assert (s.own, s.generated) == (1, 1)


def test_a_remote_prompt_whose_kv_is_lost_is_computed() -> None:
    b = batch()
    b.add(s := sequence(prompt=10, remote=True))
    b.begin()
    b.kv_lost(s)
    step(b)
    assert (s.own, s.generated) == (10, 1)


ARRIVALS = st.tuples(
    st.just("arrive"), st.integers(1, 40), st.integers(0, 12), st.booleans(), st.integers(0, 2), st.floats(-3, 3)
)
ACTS = st.lists(
    st.one_of(
        ARRIVALS,
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("step"), st.integers(1, 4)),
        st.tuples(st.just("kv"), st.integers(0, 30), st.booleans()),
    ),
    max_size=40,
)


@settings(max_examples=300)
@given(acts=ACTS, slots=st.integers(1, 5), budget=st.integers(1, 24), blocks=st.integers(14, 24))
def test_whatever_comes_limits_hold_and_all_is_given_back(acts: list, slots: int, budget: int, blocks: int) -> None:
    cache = BlockCache(blocks)
    limits = StepLimits(slots, budget, BLOCK, 0.001, 0.01)
    b = Batch(cache, limits, 10)
    all_of_them: list[Sequence] = []
    cancelled: set[Sequence] = set()

    def run(times: int) -> None:
        for _ in range(times):
            generated = {s: s.generated for s in cancelled}
            plan = b.begin()
            assert sum(count for _, count in plan.chunks) <= budget
            assert b.running <= slots
            assert not cancelled & {*plan.decode, *plan.admit, *(s for s, _ in plan.chunks)}
            held = [block for s in all_of_them for block in s.blocks]
            assert cache.free == blocks - len(set(held))
            fill(cache, all_of_them)
            b.finish(plan)
            assert {s: s.generated for s in cancelled} == generated

    for act in acts:
        match act:
            case ("arrive", prompt, wants, remote, first, order):
                s = sequence(prompt, wants, float(len(all_of_them)) + order, remote=remote, first=first)
                try:
                    b.add(s)
                    all_of_them.append(s)
                except Overloaded:
                    assert b.running + b.waiting == slots + 10
            case ("cancel", which) if all_of_them:
                s = all_of_them[which % len(all_of_them)]
                b.remove(s)
                cancelled.add(s)
            case ("step", times):
                run(times)
            case ("kv", which, arrived) if all_of_them:
                s = all_of_them[which % len(all_of_them)]
                if s.phase is Phase.FETCHING and s not in cancelled:
                    (b.kv_arrived if arrived else b.kv_lost)(s)
    for _ in range(3000):
        for s in all_of_them:
            if s.phase is Phase.FETCHING and s not in cancelled:
                b.kv_arrived(s)
        if not b.running and not b.waiting:
            break
        run(1)
    assert (b.running, b.waiting, cache.free) == (0, 0, blocks)
    for s in all_of_them:
        consumer = s.consumer
        assert isinstance(consumer, Wants)
        assert consumer.is_over or s in cancelled
        assert s in cancelled or s.generated == consumer.tokens


def fill(cache: BlockCache, sequences: list[Sequence]) -> None:
    for s in sequences:
        for block, key in list(zip(s.blocks, s.keys, strict=False))[: s.computed // BLOCK]:
            cache.fill(block, key, key)


@given(orders=st.lists(st.floats(0, 10), min_size=1, max_size=6))
def test_planning_changes_nothing(orders: list[float]) -> None:
    cache = BlockCache(8)
    waiting = sorted((sequence(order=order) for order in orders), key=lambda s: s.order)
    before = [(s.phase, s.computed, list(s.blocks)) for s in waiting]
    limits = StepLimits(4, 16, BLOCK, 0.001, 0.01)
    assert plan_step((), waiting, cache, limits) == plan_step((), waiting, cache, limits)
    assert (cache.free, before) == (8, [(s.phase, s.computed, list(s.blocks)) for s in waiting])
