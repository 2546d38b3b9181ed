"""A service's experiment among the courses of its versions: what it has to know of them, and what people are told."""

from collections.abc import Sequence
from dataclasses import dataclass

from tandem_api.inference_service import InferenceService
from tandem_api.inference_service.status import ExperimentState

from tandem_operator.planning.actions import Event
from tandem_operator.planning.course import Course
from tandem_operator.planning.experiments.conducting import Setting, conduct, record_name
from tandem_operator.planning.experiments.record import Record
from tandem_operator.planning.installation import Installation
from tandem_operator.planning.observed import Observed


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is to happen with it, and why."""

    state: ExperimentState | None
    weight: int
    """Percent of the traffic for the challenger."""
    record: str = ""
    """What its ConfigMap is to hold; empty: there is none yet."""
    inquire: str | None = None
    tell: Record | None = None
    again_after: float | None = None


def experiment(
    service: InferenceService,
    courses: Sequence[Course],
    observed: Observed,
    installation: Installation,
    now: float,
) -> Experiment | None:
    """The next step of the service's experiment; None: it has none, or is not served."""
    spec = service.spec.experiment
    if spec is None or observed.name_owner is not None:
        return None
    known = {course.name: course for course in courses if course.index is not None}
    champion, challenger = known[spec.champion], known[spec.challenger]
    name = record_name(service.metadata.name)
    setting = Setting(
        champion=champion.plan.revision if champion.plan else None,
        challenger=challenger.plan.revision if challenger.plan else None,
        challenger_serves=challenger.serves,
        reports=observed.reports,
        kept=next((child.record for child in observed.children if (child.kind, child.name) == ("ConfigMap", name)), ""),
        recorded=observed.outcomes if installation.registry else None,
    )
    made = conduct(service, spec, setting, now)
    return Experiment(made.state, made.weight, made.record, made.inquire, made.tell, made.again_after)


def describe(service: InferenceService, found: Experiment) -> tuple[bool, str, str]:
    """Whether it has ended, why in one word, and for people what that means and what to do."""
    state = found.state
    if state is None:
        return False, "Waiting", "The versions' revisions are not known yet."
    challenger, champion = state.challenger, state.champion
    match state.phase:
        case "Waiting" if state.reason == "RegistryNotAsked":
            why = "the registry has not told yet whether it has been decided before"
            return False, state.reason, f"{challenger} gets no traffic: {why}."
        case "Waiting":
            return False, state.reason, f"{challenger} gets no traffic before it can serve."
        case "RolledBack":
            advice = f"Remove `experiment` and {challenger} from the spec, or give weights."
            return True, state.reason, f"{_why_back(state)} {champion} has all traffic. {advice}"
        case "Promoted":
            advice = f"Commit it: remove `experiment` and {champion} from the spec, or give weights."
            return True, state.reason, f"{_why_promoted(state)} {challenger} has all traffic. {advice}"
        case _:
            return False, state.reason, _course(state)


def told(service: InferenceService, found: Experiment | None) -> tuple[Event, ...]:
    """Events for what an experiment did."""
    state = found.state if found else None
    if found is None or state is None:
        return ()
    last = service.status.experiment if service.status else None
    if last is not None and (last.id, last.phase, last.step) == (state.id, state.phase, state.step):
        return ()
    if state.phase == "Waiting":
        return ()
    _, _, message = describe(service, found)
    names = {"Running": "ExperimentStep", "Paused": "ExperimentPaused"}
    reason = names.get(state.phase, f"Experiment{state.phase}")
    return (Event("Warning" if state.phase == "RolledBack" else "Normal", reason, message),)


def _course(state: ExperimentState) -> str:
    if not state.steps:
        if state.phase == "Paused":
            return f"No copies for {state.challenger}: paused."
        return f"{state.challenger} gets copies of requests; {state.challenger_requests:,} compared."
    where = f"Step {state.step + 1} of {state.steps}: {state.weight} % for {state.challenger}"
    if state.phase == "Paused":
        return f"{where}, paused."
    if state.reason != "Undecided":
        return f"{where}."
    missing = [metric.missing for metric in state.metrics]
    if any(one is None for one in missing):
        return f"{where}. Neither harm nor benefit is shown, and nothing points to benefit yet."
    most = max((one for one in missing if one is not None), default=0)
    return f"{where}. Neither harm nor benefit is shown; about {most:,} more requests of {state.challenger} will tell."


def _why_back(state: ExperimentState) -> str:
    match state.reason:
        case "HarmShown":
            e_value = next((metric.harm for metric in state.metrics if metric.name == state.metric), 0.0)
            after = f"after {state.challenger_requests:,} requests of {state.challenger}"
            return f"Harm shown in {state.metric} (e = {e_value:.4g} against {state.harm_from:g}) {after}."
        case "AbortedByHand":
            return "Aborted by hand."
        case _:
            return "This very experiment was rolled back before."


def _why_promoted(state: ExperimentState) -> str:
    match state.reason:
        case "BenefitShown":
            within = "every metric is shown within its margin"
            return f"After {state.challenger_requests:,} requests of {state.challenger} {within}."
        case "PromotedByHand":
            return "Promoted by hand."
        case _:
            return "This very experiment was won before."
