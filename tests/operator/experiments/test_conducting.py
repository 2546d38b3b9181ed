"""An experiment from its first look to its end, as the operator conducts it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_operator.planning.experiments.conducting import ANNOTATION, KEEP_SECONDS, Setting, conduct
from tandem_operator.planning.experiments.record import load, replay

from tests.operator.experiments.reporting import report, single
from tests.operator.making import service, version

STEPS = [
    {"weight": 10, "minRequests": 100, "minDuration": "60s"},
    {"weight": 50, "minRequests": 1000},
]
DECIDE = [{"metric": "errorRate", "tolerate": {"absolute": "1%"}}]
SETTING = Setting("one", "two", True, (), "", None)
GOOD, BAD = single((20_000, 20), (20_000, 20)), single((2000, 2), (2000, 200))


def asked(annotation="", last=None, **experiment):
    versions = [version(name="v1"), version(name="v2")]
    fields = {"champion": "v1", "challenger": "v2", "steps": STEPS, "decide": DECIDE, **experiment}
    made = service(versions=versions, experiment={name: value for name, value in fields.items() if value is not None})
    metadata = made.metadata.model_copy(update={"annotations": {ANNOTATION: annotation} if annotation else {}})
    status = {"experiment": last} if last else {}
    made = type(made).model_validate(made.model_dump(by_alias=True) | {"status": status})
    return made.model_copy(update={"metadata": metadata})


class Course:
    """One experiment over time: keeps what the cluster would keep."""

    def __init__(self, **experiment):
        self.experiment, self.kept, self.last, self.now, self.annotation = experiment, "", None, 1000.0, ""

    def look(self, **changes):
        made = asked(self.annotation, self.last, **self.experiment)
        found = conduct(made, made.spec.experiment, replace(SETTING, kept=self.kept, **changes), self.now)
        self.kept, self.last = found.record, found.state
        return found

    def running(self):
        self.look()
        return self

    @property
    def id(self):
        return self.last.id


def test_a_challenger_that_serves_begins_with_the_first_step():
    found = Course().look()
    assert (found.state.phase, found.weight) == ("Running", 10)


def test_it_gets_no_traffic_before_it_can_serve():
    found = Course().look(challenger_serves=False)
    assert (found.state.phase, found.state.reason, found.weight) == ("Waiting", "ChallengerNotReady", 0)


def test_it_gets_no_traffic_before_the_registry_has_answered():
    course = Course()
    found = course.look(recorded={})
    assert (found.weight, found.inquire) == (0, course.id)
    found = course.look(recorded={course.id: "none"})
    assert (found.weight, found.inquire) == (10, None)


def test_a_challenger_that_lost_before_does_not_come_back():
    course = Course()
    course.look(recorded={})
    found = course.look(recorded={course.id: "RolledBack"})
    assert (found.state.phase, found.state.reason, found.weight) == ("RolledBack", "DecidedBefore", 0)
    assert found.tell is None


def test_a_step_takes_its_requests_and_its_time():
    course = Course().running()
    enough = (report(course.id, 10, errorRate=single((900, 1), (100, 0))),)
    assert course.look(reports=enough).state.step == 0
    course.now += 60
    few = (report(course.id, 10, errorRate=single((900, 1), (99, 0))),)
    assert course.look(reports=few).state.step == 0
    found = course.look(reports=enough)
    assert (found.state.step, found.weight) == (1, 50)


def at_the_last_step():
    course = Course().running()
    course.now += 60
    course.look(reports=(report(course.id, 10, errorRate=single((900, 1), (100, 0))),))
    return course


def test_harm_takes_the_traffic_away_at_once_and_for_good():
    course = Course().running()
    found = course.look(reports=(report(course.id, 10, errorRate=BAD),))
    assert (found.state.phase, found.state.metric, found.weight) == ("RolledBack", "errorRate", 0)
    course.now += 1000
    course.annotation = "promote"
    later = course.look(reports=(report(course.id, 10, errorRate=BAD), report(course.id, 10, "b", errorRate=GOOD)))
    assert later.state == found.state


def test_benefit_before_the_last_step_does_not_promote():
    course = Course().running()
    found = course.look(reports=(report(course.id, 10, errorRate=GOOD),))
    assert (found.state.phase, found.weight) == ("Running", 10)


def test_benefit_after_the_last_step_makes_the_challenger_champion():
    course = at_the_last_step()
    found = course.look(reports=(report(course.id, 50, errorRate=GOOD),))
    assert (found.state.phase, found.state.reason, found.weight) == ("Promoted", "BenefitShown", 100)


def test_neither_goes_on_and_says_how_many_more_it_expects():
    course = at_the_last_step()
    found = course.look(reports=(report(course.id, 50, errorRate=single((1000, 10), (1000, 12))),))
    assert (found.state.phase, found.state.reason, found.weight) == ("Running", "Undecided", 50)
    assert found.state.metrics[0].missing


@pytest.mark.parametrize(("word", "phase", "weight"), [("abort", "RolledBack", 0), ("promote", "Promoted", 100)])
def test_people_may_end_it(word, phase, weight):
    course = Course().running()
    course.annotation = word
    found = course.look()
    assert (found.state.phase, found.weight) == (phase, weight)


def test_a_paused_experiment_keeps_its_share_and_still_sees_harm():
    course = Course().running()
    course.annotation = "pause"
    course.now += 60
    found = course.look(reports=(report(course.id, 10, errorRate=single((900, 1), (100, 0))),))
    assert (found.state.phase, found.weight) == ("Paused", 10)
    course.annotation = "resume"
    assert course.look().weight == 50
    course.annotation = "pause"
    assert course.look(reports=(report(course.id, 50, errorRate=BAD),)).state.phase == "RolledBack"


def test_an_old_command_does_not_end_the_next_experiment():
    course = Course().running()
    course.annotation = "abort"
    first = course.look()
    course.experiment = {"alpha": 0.01}
    found = course.look()
    assert found.state.id != first.state.id
    assert found.state.phase == "Running"
    assert course.look().state.phase == "Running"
    course.annotation = "abort again"
    assert course.look().state.phase == "RolledBack"


def test_another_revision_is_another_experiment():
    course = Course().running()
    before = course.id
    course.look(challenger="three")
    assert course.id != before


def test_reports_of_other_experiments_count_for_nothing():
    course = Course().running()
    assert course.look(reports=(report("another", 10, errorRate=BAD),)).state.phase == "Running"


def test_counts_alone_are_written_every_few_seconds():
    course = Course().running()
    counted = (report(course.id, 10, errorRate=single((90, 1), (10, 0))),)
    before = course.kept
    found = course.look(reports=counted)
    assert (found.record, found.again_after) == (before, KEEP_SECONDS)
    more, before = (report(course.id, 10, errorRate=single((91, 1), (10, 0))),), course.kept
    course.now += KEEP_SECONDS
    assert course.look(reports=more).record != before


def test_what_has_ended_stays_so_when_its_record_is_lost():
    course = Course().running()
    course.look(reports=(report(course.id, 10, errorRate=BAD),))
    course.kept = ""
    assert course.look().state.phase == "RolledBack"


def test_what_has_ended_stays_so_when_status_was_not_written():
    course = Course().running()
    course.look(reports=(report(course.id, 10, errorRate=BAD),))
    course.last = None
    assert course.look().state.phase == "RolledBack"


def test_the_registry_is_told_until_it_knows():
    course = Course()
    course.look(recorded={})
    known = {course.id: "none"}
    course.look(recorded=known)
    reports = (report(course.id, 10, errorRate=BAD),)
    assert course.look(recorded=known, reports=reports).tell is not None
    assert course.look(recorded=known).tell is not None
    assert course.look(recorded={course.id: "RolledBack"}).tell is None


def test_a_shadow_gets_no_traffic():
    course = Course(steps=None, shadow={"percent": 5}, decide=None)
    found = course.look()
    assert (found.state.phase, found.weight) == ("Running", 0)


def test_a_shadow_compares_and_decides_nothing():
    course = Course(steps=None, shadow={"percent": 5}, decide=None).running()
    found = course.look(reports=(report(course.id, 50, errorRate=BAD),))
    assert (found.state.phase, found.state.reason, found.weight) == ("Running", "Comparing", 0)
    assert [metric.name for metric in found.state.metrics] == ["errorRate", "ttft p95", "tpot p95", "tokens"]
    assert found.state.metrics[0].harm > found.state.harm_from


def test_a_shadow_pauses():
    course = Course(steps=None, shadow={"percent": 5}, decide=None).running()
    course.annotation = "pause"
    assert course.look().state.phase == "Paused"
    course.annotation = "resume"
    assert course.look().state.phase == "Running"


def test_while_a_revision_is_unknown_all_stays_as_it_is():
    course = Course().running()
    found = course.look(challenger=None)
    assert (found.weight, found.state) == (10, course.last)


ARM = st.tuples(st.integers(0, 3000), st.integers(0, 3000)).map(lambda pair: (sum(pair), pair[1]))


@given(st.lists(st.tuples(ARM, ARM), min_size=1, max_size=3), st.sampled_from([1.0, 60.0]))
def test_a_replay_of_the_record_gives_the_same_decision(reports, pause):
    course = Course().running()
    for number, (champion, challenger) in enumerate(reports):
        course.now += pause
        weight = course.last.weight or 10
        course.look(reports=(report(course.id, weight, f"router-{number}", errorRate=single(champion, challenger)),))
        record = load(course.kept)
        assert record is not None
        assert replay(record) == record.state


def test_a_record_whose_counts_were_changed_does_not_replay():
    course = Course().running()
    course.look(reports=(report(course.id, 10, errorRate=BAD),))
    record = load(course.kept)
    assert replay(record) == record.state
    assert replay(record.model_copy(update={"ledger": ()})).phase != "RolledBack"
