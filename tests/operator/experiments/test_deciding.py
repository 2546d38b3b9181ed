"""Verdicts over several metrics."""

import pytest
from tandem_operator.planning.experiments.betting import Margin
from tandem_operator.planning.experiments.deciding import Question, decide
from tandem_operator.planning.experiments.evidence import Evidence, Tally


def question(champion: tuple[int, int], challenger: tuple[int, int], margin: Margin) -> Question:
    (n, bad), (m, worse) = champion, challenger
    return Question(margin, Evidence((Tally(0.5, {0.0: n - bad, 1.0: bad}, {0.0: m - worse, 1.0: worse}),)))


WELL = question((50_000, 50), (50_000, 50), Margin(absolute=0.01))
WORSE = question((5000, 50), (5000, 150), Margin(absolute=0.001))
YOUNG = question((100, 1), (100, 1), Margin(absolute=0.01))


def test_one_metric_beyond_its_margin_is_harm():
    decision = decide({"errorRate": WORSE, "ttft": WELL}, 0.05)
    assert (decision.verdict, decision.metric) == ("harm", "errorRate")


def test_benefit_needs_every_metric():
    assert decide({"errorRate": WELL, "ttft": WELL}, 0.05).verdict == "benefit"
    assert decide({"errorRate": WELL, "ttft": YOUNG}, 0.05).verdict == "open"


def test_metrics_share_the_alpha_of_harm():
    assert decide({"errorRate": WELL}, 0.05).harm_from == pytest.approx(20)
    assert decide({"errorRate": WELL, "ttft": WELL}, 0.05).harm_from == pytest.approx(40)


def test_it_says_how_many_more_it_expects_to_need():
    grown = decide({"errorRate": question((2000, 2), (2000, 2), Margin(absolute=0.005))}, 1e-6).findings["errorRate"]
    assert grown.missing is not None
    assert grown.missing > 0
    assert decide({"errorRate": WELL}, 0.05).findings["errorRate"].missing == 0
    assert decide({"errorRate": WORSE}, 0.05).findings["errorRate"].missing is None


def test_an_experiment_without_metrics_is_refused():
    with pytest.raises(ValueError, match="without metrics"):
        decide({}, 0.05)
