"""What is believed of an engine, from what was seen of it, in a time that the test holds."""

from hypothesis import given
from hypothesis import strategies as st
from tandem_engine.worker.watching import STUCK_SECONDS, Verdict


def test_an_engine_that_starts_is_alive_and_not_ready():
    verdict = Verdict(0.0)
    assert (verdict.ready, verdict.alive) == (False, True)


def test_a_long_prefill_that_moves_on_stays_ready():
    verdict = Verdict(0.0)
    verdict.passed(1.0, "step 1")
    for second in range(2, 600, 5):
        verdict.failed(float(second), f"step {second}", "no answer")
        assert (verdict.ready, verdict.alive) == (True, True)


def test_an_engine_that_neither_answers_nor_moves_is_not_ready_and_then_not_alive():
    verdict = Verdict(0.0)
    verdict.passed(1.0, "step 1")
    verdict.failed(6.0, "step 1", "no answer")
    assert (verdict.ready, verdict.alive) == (False, True)
    verdict.failed(1.0 + STUCK_SECONDS, "step 1", "no answer")
    assert (verdict.ready, verdict.alive) == (False, False)


def test_an_engine_that_comes_back_is_ready_again():
    verdict = Verdict(0.0)
    verdict.passed(1.0, 1)
    verdict.refused(2.0, 1, "it sleeps")
    assert (verdict.ready, verdict.why) == (False, "it sleeps")
    verdict.passed(3.0, 1)
    assert (verdict.ready, verdict.alive) == (True, True)


def test_an_engine_that_refuses_for_long_is_alive():
    verdict = Verdict(0.0)
    for minute in range(10):
        verdict.refused(minute * STUCK_SECONDS, 1, "it sleeps")
        assert (verdict.ready, verdict.alive) == (False, True)


def test_a_dead_engine_fails_at_once():
    verdict = Verdict(0.0)
    verdict.passed(1.0, 1)
    verdict.dead("its process has ended")
    assert (verdict.ready, verdict.alive) == (False, False)


@given(st.lists(st.tuples(st.sampled_from(["passed", "failed", "refused"]), st.integers(0, 2)), max_size=40))
def test_an_engine_that_gave_a_sign_lately_is_alive(checks):
    verdict, last_sign, progress = Verdict(0.0), 0.0, None
    for second, (kind, seen) in enumerate(checks):
        now = second * STUCK_SECONDS / 4
        if kind != "failed" or seen != progress:
            last_sign, progress = now, seen
        getattr(verdict, kind)(now, seen, *([] if kind == "passed" else ["why"]))
        assert verdict.alive == (now - last_sign < STUCK_SECONDS)
        assert verdict.alive or not verdict.ready
