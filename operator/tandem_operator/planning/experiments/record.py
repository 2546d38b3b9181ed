"""An experiment as it is kept: what was asked, what was counted, what was decided, so that anyone can decide it again.

It stands in a ConfigMap of the service as JSON. Status mirrors it, and the registry gets its outcome.
"""

import hashlib
import json
from typing import Literal

from pydantic import ValidationError
from tandem_api.experiments import ExperimentReport, rules
from tandem_api.inference_service.base import Spec
from tandem_api.inference_service.experiment import ExperimentSpec
from tandem_api.inference_service.status import ExperimentState, MetricState

from tandem_operator.planning.experiments.betting import difference
from tandem_operator.planning.experiments.deciding import Decision, Finding, decide
from tandem_operator.planning.experiments.ledger import Ledger, questions, requests
from tandem_operator.planning.experiments.progress import Progress, steps, weight


class Record(Spec):
    """All there is to know."""

    format: Literal[1] = 1
    id: str
    spec: ExperimentSpec
    revisions: tuple[str, str]
    """The champion's and the challenger's."""
    ledger: tuple[ExperimentReport, ...] = ()
    state: ExperimentState


def experiment_id(spec: ExperimentSpec, champion: str, challenger: str) -> str:
    """Of an experiment between two revisions: a change of anything in it is another experiment."""
    written = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    text = json.dumps([written, champion, challenger], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def judge(spec: ExperimentSpec, ledger: Ledger) -> Decision:
    """The verdict on what was counted."""
    return decide(questions(ledger, rules(spec.decide)), spec.alpha)


def replay(record: Record) -> ExperimentState:
    """The record's state, computed anew from what was counted. It equals `record.state`, or the record is not true."""
    progress = progress_of(record.state)
    decision = judge(record.spec, record.ledger)
    if progress.reason in ("HarmShown", "BenefitShown", "Collecting", "Undecided"):
        progress = _by_verdict(progress, decision)
    return state(record.id, record.spec, progress, record.ledger, decision, record.state.time, record.state.command)


def _by_verdict(progress: Progress, decision: Decision) -> Progress:
    """What the verdict makes of it, whatever the record says."""
    if decision.verdict == "harm":
        return Progress("RolledBack", "HarmShown", progress.step, progress.since, decision.metric)
    if progress.reason == "BenefitShown" and decision.verdict != "benefit":
        return Progress("Running", "Undecided", progress.step, progress.since)
    if progress.reason == "HarmShown":
        return Progress("Running", "Collecting", progress.step, progress.since)
    return progress


def progress_of(known: ExperimentState) -> Progress:
    """Where an experiment stands by what is said of it."""
    return Progress(known.phase, known.reason, known.step, known.since, known.metric)


def state(
    id: str,
    spec: ExperimentSpec,
    progress: Progress,
    ledger: Ledger,
    decision: Decision,
    now: float,
    command: str,
) -> ExperimentState:
    """What status says of an experiment. Intervals are for readers alone, and cost more than all the rest."""
    asked = questions(ledger, rules(spec.decide))
    intervals = {name: difference(question.evidence, spec.alpha) for name, question in asked.items()}
    return ExperimentState(
        id=id,
        champion=spec.champion,
        challenger=spec.challenger,
        phase=progress.phase,
        reason=progress.reason,
        step=progress.step,
        steps=len(steps(spec)),
        since=progress.since,
        weight=weight(spec, progress),
        metric=progress.metric,
        champion_requests=requests(ledger, "champion"),
        challenger_requests=requests(ledger, "challenger"),
        harm_from=_rounded(decision.harm_from),
        benefit_from=_rounded(decision.benefit_from),
        metrics=tuple(_metric(name, found, intervals[name]) for name, found in decision.findings.items()),
        time=now,
        command=command,
    )


def dump(record: Record) -> str:
    """As JSON that `load` reads back."""
    return record.model_dump_json(by_alias=True, exclude_defaults=True)


def load(text: str) -> Record | None:
    """None: it is no record that this release can read."""
    try:
        return Record.model_validate_json(text)
    except ValidationError:
        return None


def _metric(name: str, found: Finding, interval: tuple[float, float]) -> MetricState:
    low, high = interval
    return MetricState(
        name=name,
        champion=None if found.champion is None else _rounded(found.champion),
        challenger=None if found.challenger is None else _rounded(found.challenger),
        low=_rounded(low),
        high=_rounded(high),
        harm=_rounded(found.harm),
        benefit=_rounded(found.benefit),
        missing=found.missing,
    )


def _rounded(value: float) -> float:
    """As many digits as people read. Enormous e-values are cut: a ConfigMap's reader may have no such numbers."""
    return float(f"{min(value, 1e12):.6g}")
