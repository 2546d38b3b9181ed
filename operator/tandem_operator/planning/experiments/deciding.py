"""From evidence to a verdict: harm is shown, benefit is shown, or neither yet.

Harm: one metric is shown worse by more than its margin; the metrics share alpha, so that each needs an e-value of
their number over alpha. Benefit: every metric is shown within its margin; a challenger beyond one of them is promoted
only if that very metric's bet goes wrong, so that each has all of alpha. Verdicts hold at whatever moment they are
asked for.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from tandem_operator.planning.experiments.betting import Margin, log_e
from tandem_operator.planning.experiments.evidence import Evidence

Verdict = Literal["harm", "benefit", "open"]

_LARGEST_LOG: Final = 700.0
"""Beyond it an e-value does not fit into a float."""


@dataclass(frozen=True, slots=True)
class Question:
    """One metric of an experiment: its margin, and what is known."""

    margin: Margin
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Finding:
    """What the evidence says of one metric."""

    champion: float | None
    """Mean outcome; None before the first."""
    challenger: float | None
    harm: float
    """E-value against "no worse than the margin"."""
    benefit: float
    """E-value against "worse than the margin"."""
    missing: int | None
    """Outcomes of the challenger that it will probably take until benefit is shown; None where nothing points there."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict, with all it rests on."""

    verdict: Verdict
    metric: str
    """Which one shows harm; empty otherwise."""
    harm_from: float
    """E-value of harm that decides."""
    benefit_from: float
    findings: Mapping[str, Finding]


def decide(questions: Mapping[str, Question], alpha: float) -> Decision:
    """The verdict on all metrics together.

    Args:
        questions: By metric.
        alpha: Largest probability of ever rolling back a challenger within all margins, and of ever promoting one
            beyond some margin.

    Raises:
        ValueError: there is no metric.
    """
    if not questions:
        raise ValueError("an experiment without metrics can't be decided")
    harm_from, benefit_from = len(questions) / alpha, 1 / alpha
    findings = {metric: _find(question, benefit_from) for metric, question in questions.items()}
    worst = max(findings, key=lambda metric: findings[metric].harm)
    if findings[worst].harm >= harm_from:
        return Decision("harm", worst, harm_from, benefit_from, findings)
    shown = all(finding.benefit >= benefit_from for finding in findings.values())
    return Decision("benefit" if shown else "open", "", harm_from, benefit_from, findings)


def _find(question: Question, benefit_from: float) -> Finding:
    evidence, margin = question.evidence, question.margin
    benefit = log_e(evidence, margin, "benefit")
    return Finding(
        champion=evidence.mean("champion"),
        challenger=evidence.mean("challenger"),
        harm=_exp(log_e(evidence, margin, "harm")),
        benefit=_exp(benefit),
        missing=_missing(evidence.count("challenger"), benefit, math.log(benefit_from)),
    )


def _missing(seen: int, log: float, wanted: float) -> int | None:
    """If it goes on as it went."""
    if log >= wanted:
        return 0
    return math.ceil(seen * (wanted - log) / log) if log > 0 else None


def _exp(log: float) -> float:
    return math.exp(min(log, _LARGEST_LOG))
