"""How far an experiment is: from waiting over its steps to an end that stays.

A challenger gets traffic once the registry has been asked whether this very experiment has ended before. Harm ends it
at once, benefit after the last step; people may end it either way. An end is an end: whatever comes later, evidence or
commands, changes nothing. Paused it keeps its share and goes on counting: harm still ends it, no step follows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from tandem_api.inference_service.experiment import ExperimentSpec, Step

from tandem_operator.planning.experiments.deciding import Verdict

Phase = Literal["Waiting", "Running", "Paused", "RolledBack", "Promoted"]
Recorded = Literal["RolledBack", "Promoted", "none"]
"""What the registry knows of an experiment."""

ENDS: Final[Sequence[Phase]] = ("RolledBack", "Promoted")


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an experiment stands."""

    phase: Phase = "Waiting"
    reason: str = "RegistryNotAsked"
    """In one word for programs."""
    step: int = 0
    """Index of the step."""
    since: float = 0.0
    """Unix seconds: when the step began; at an end, when that was decided."""
    metric: str = ""
    """Which one has shown harm."""

    @property
    def ended(self) -> bool:
        return self.phase in ENDS


@dataclass(frozen=True, slots=True)
class Situation:
    """What has to do with the next step."""

    recorded: Recorded | None
    """None: the registry has not answered yet."""
    challenger_serves: bool
    verdict: Verdict
    metric: str
    """Of harm."""
    requests: int
    """Of the challenger in this step."""
    command: str
    """promote, abort, pause or resume; empty: none."""


def steps(spec: ExperimentSpec) -> tuple[Step, ...]:
    """A fixed share is one step without conditions; a shadow has none, for its challenger gets copies alone."""
    if spec.weight is not None:
        return (Step(weight=spec.weight),)
    return spec.steps


def weight(spec: ExperimentSpec, progress: Progress) -> int:
    """Percent of the traffic for the challenger."""
    if progress.phase == "Promoted":
        return 100
    if progress.phase in ("Waiting", "RolledBack") or spec.shadow is not None:
        return 0
    return steps(spec)[progress.step].weight


def advance(spec: ExperimentSpec, progress: Progress, seen: Situation, now: float) -> Progress:
    """The next step, one at a time; the same where it stays as it is."""
    if progress.ended:
        return progress
    if seen.command == "abort":
        return replace(progress, phase="RolledBack", reason="AbortedByHand", since=now)
    if seen.command == "promote":
        return replace(progress, phase="Promoted", reason="PromotedByHand", since=now)
    if progress.phase == "Waiting":
        return _begin(progress, seen, now)
    if seen.verdict == "harm" and spec.shadow is None:
        return replace(progress, phase="RolledBack", reason="HarmShown", since=now, metric=seen.metric)
    if seen.command == "pause":
        return replace(progress, phase="Paused", reason="PausedByHand")
    if spec.shadow is not None:
        return replace(progress, phase="Running", reason="Comparing")
    going = replace(progress, phase="Running", reason="Collecting")
    step = steps(spec)[progress.step]
    if seen.requests < step.min_requests or now - progress.since < step.min_duration:
        return going
    if progress.step + 1 < len(steps(spec)):
        return replace(going, step=progress.step + 1, since=now)
    if seen.verdict == "benefit":
        return replace(going, phase="Promoted", reason="BenefitShown", since=now)
    return replace(going, reason="Undecided")


def _begin(progress: Progress, seen: Situation, now: float) -> Progress:
    match seen.recorded:
        case None:
            return replace(progress, reason="RegistryNotAsked")
        case "RolledBack" | "Promoted":
            return replace(progress, phase=seen.recorded, reason="DecidedBefore", since=now)
        case "none" if not seen.challenger_serves:
            return replace(progress, reason="ChallengerNotReady")
        case "none":
            return replace(progress, phase="Running", reason="Collecting", since=now)
