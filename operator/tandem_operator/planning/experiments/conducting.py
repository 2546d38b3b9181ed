"""A service's experiment in the operator's plan: from its spec, what is kept of it and what routers report, to weights.

What is kept decides, and status mirrors it. Both are written when the experiment goes a step, and else every few
seconds, not with every request: what a router counts is in its own reports meanwhile.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tandem_api.experiments import ExperimentReport
from tandem_api.inference_service import InferenceService
from tandem_api.inference_service.experiment import ExperimentSpec
from tandem_api.inference_service.status import ExperimentState

from tandem_operator.planning.experiments.ledger import bounded, merge, requests
from tandem_operator.planning.experiments.progress import Progress, Recorded, Situation, advance, steps
from tandem_operator.planning.experiments.record import (
    Record,
    dump,
    experiment_id,
    judge,
    load,
    progress_of,
    state,
)
from tandem_operator.planning.names import PREFIX, service_labels

ANNOTATION: Final = f"{PREFIX}/experiment"
"""promote, abort, pause or resume; what follows the word tells one command from an equal one before it."""
COMMANDS: Final = ("promote", "abort", "pause", "resume")
RECORD: Final = "record.json"
"""Key of the ConfigMap."""
KEEP_SECONDS: Final = 5.0
"""Between two writes of counts alone."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What an experiment depends on, beside its service."""

    champion: str | None
    """The wanted revision of the champion; None: it is not known yet."""
    challenger: str | None
    challenger_serves: bool
    reports: tuple[ExperimentReport, ...]
    kept: str
    """What the ConfigMap holds; empty: nothing."""
    recorded: Mapping[str, Recorded] | None
    """What the registry has answered, by experiment; None: there is no registry."""


@dataclass(frozen=True, slots=True)
class Conduct:
    """What is to happen."""

    state: ExperimentState | None
    """For status; None: the experiment can't be named yet."""
    weight: int
    """Percent of the traffic for the challenger."""
    record: str = ""
    """What the ConfigMap is to hold; empty: as it is."""
    inquire: str | None = None
    """Ask the registry how this experiment ended."""
    tell: Record | None = None
    """An end that the registry does not have yet."""
    again_after: float | None = None


def conduct(service: InferenceService, spec: ExperimentSpec, setting: Setting, now: float) -> Conduct:
    """The next step of a service's experiment. Pure; the same again where nothing has happened."""
    last = service.status.experiment if service.status else None
    if setting.champion is None or setting.challenger is None:
        return Conduct(last, last.weight if last else 0, setting.kept)
    id = experiment_id(spec, setting.champion, setting.challenger)
    kept = load(setting.kept)
    if kept is not None and kept.id != id:
        kept = None
    known = [found for found in (kept.state if kept else None, last) if found is not None and found.id == id]
    before = progress_of(max(known, key=lambda one: (progress_of(one).ended, one.step))) if known else Progress()
    recorded = "none" if setting.recorded is None else setting.recorded.get(id)
    ledger = kept.ledger if kept else ()
    if not before.ended:
        ledger = bounded(merge(ledger, (report for report in setting.reports if report.id == id)))
    decision = judge(spec, ledger)
    command, obeyed = _command(service, last, id)
    here = steps(spec)[before.step].weight if steps(spec) else 0
    seen = Situation(
        recorded=recorded,
        challenger_serves=setting.challenger_serves,
        verdict=decision.verdict,
        metric=decision.metric,
        requests=requests(ledger, "challenger", here),
        command=command,
    )
    after = advance(spec, before, seen, now)
    grown = kept is None or ledger != kept.ledger
    age = now - kept.state.time if kept else KEEP_SECONDS
    if kept is None or after != progress_of(kept.state) or (grown and age >= KEEP_SECONDS):
        told = state(id, spec, after, ledger, decision, now, obeyed)
        kept = Record(id=id, spec=spec, revisions=(setting.champion, setting.challenger), ledger=ledger, state=told)
        text = dump(kept)
        grown = False
    else:
        text = setting.kept
    return Conduct(
        state=kept.state,
        weight=kept.state.weight,
        record=text,
        inquire=id if recorded is None else None,
        tell=kept if after.ended and setting.recorded is not None and recorded == "none" else None,
        again_after=_again(spec, after, now, KEEP_SECONDS - age if grown else None),
    )


def record_map(service: InferenceService, text: str) -> dict[str, Any]:
    """The ConfigMap that keeps it."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": record_name(service.metadata.name), "labels": service_labels(service.metadata.name)},
        "data": {RECORD: text},
    }


def record_name(service: str) -> str:
    """Of the ConfigMap that keeps a service's experiment."""
    return f"{service}-experiment"


def _command(service: InferenceService, last: ExperimentState | None, id: str) -> tuple[str, str]:
    """What is asked for by hand, and the annotation to remember as obeyed.

    An end that was asked of a former experiment is not asked of this one.
    """
    written = service.metadata.annotations.get(ANNOTATION, "").strip()
    word = written.partition(" ")[0]
    before = last.command if last else ""
    if word not in COMMANDS:
        return "", before
    if word in ("pause", "resume"):
        return word, before
    if last is not None and written == before and (last.id != id or not progress_of(last).ended):
        return "", before
    return word, written


def _again(spec: ExperimentSpec, progress: Progress, now: float, keep: float | None) -> float | None:
    waits: list[float] = [] if keep is None else [max(0.0, keep)]
    if progress.phase == "Running" and steps(spec):
        left = progress.since + steps(spec)[progress.step].min_duration - now
        if left > 0:
            waits.append(left)
    return min(waits, default=None)


def weights(spec: ExperimentSpec, share: int) -> Mapping[str, int]:
    """By version."""
    return {spec.champion: 100 - share, spec.challenger: share}
