"""Why workers make no progress, from what Kubernetes says of their pods: in words that say what to do."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tandem_operator.planning.observed import Pod
from tandem_operator.planning.staff import Revision

_IMAGE: Final = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_CONFIG: Final = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_CRASH: Final = ("CrashLoopBackOff", "Error", "OOMKilled", "StartError", "ContainerCannotRun")
_PLACE: Final = ("Unschedulable", "FailedCreate")

PATIENCE: Final = 30.0
"""Seconds that a scheduler, or a container that ended, is given before one speaks of it."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What holds up a revision's workers."""

    reason: str
    """For a condition: ImageUnavailable, CrashLooping, Unschedulable, Misconfigured."""
    text: str
    """What is wrong, of which pods and since when: `image x can't be pulled (2 pods, 3 min)`."""
    field: str
    """What of the version to look at: image, source, resources; empty: it can't be told."""
    fatal: bool
    """It will not pass by itself."""
    again_after: float
    """Seconds until the text changes."""


def obstacle(revision: Revision, now: float) -> Obstacle | None:
    """The commonest trouble of the revision's workers; None: all that are not ready merely start."""
    pods = [
        pod
        for staff in revision.roles.values()
        for pod in staff.live
        if pod.trouble is not None and not pod.containers_ready and _counts(pod, now)
    ]
    if not pods:
        return None
    common, _ = Counter(_class(pod) for pod in pods).most_common(1)[0]
    struck = [pod for pod in pods if _class(pod) == common]
    lasted, again = _age(now - min(pod.created for pod in struck))
    extent = f"({len(struck)} {'pod' if len(struck) == 1 else 'pods'}{lasted})"
    trouble = struck[0].trouble
    assert trouble is not None
    because = f": {trouble.message.strip().splitlines()[0][:300]}" if trouble.message.strip() else ""
    match common:
        case "ImageUnavailable":
            return Obstacle(common, f"image {trouble.image} can't be pulled {extent}", "image", True, again)
        case "CrashLooping":
            # One crash may be an accident; a kubelet that waits ever longer before it tries again has seen several.
            loops = any(pod.trouble and pod.trouble.reason == "CrashLoopBackOff" for pod in struck)
            return Obstacle(common, f"workers crash {extent}{because}", "", loops, again)
        case "Misconfigured":
            return Obstacle(common, f"containers can't be made {extent}{because}", "", True, again)
        case _:
            return Obstacle(common, f"pods can't be placed {extent}{because}", "resources", False, again)


def waiting(revision: Revision, now: float) -> Iterable[float]:
    """Seconds until troubles that are too fresh to speak of count."""
    for staff in revision.roles.values():
        for pod in staff.live:
            if pod.trouble is not None and not pod.containers_ready and not _counts(pod, now):
                yield PATIENCE - (now - pod.created)


def _class(pod: Pod) -> str:
    reason = pod.trouble.reason if pod.trouble else ""
    if reason in _IMAGE:
        return "ImageUnavailable"
    if reason in _CONFIG:
        return "Misconfigured"
    return "Unschedulable" if reason in _PLACE else "CrashLooping"


def _counts(pod: Pod, now: float) -> bool:
    """A pod that was just made may wait for a node for a moment, or for one that is leaving."""
    return _class(pod) != "Unschedulable" or now - pod.created >= PATIENCE


def _age(seconds: float) -> tuple[str, float]:
    """In coarse steps, so that a standing trouble is not written anew all the time; and when the step changes."""
    steps = (60, 120, 180, 300, 600, 1800, 3600, 7200, 21600, 86400)
    passed = [step for step in steps if seconds >= step]
    following = next((step for step in steps if seconds < step), None)
    again = following - seconds if following is not None else 86400.0
    if not passed:
        return "", again
    minutes = passed[-1] // 60
    return (f", {minutes} min" if minutes < 60 else f", {minutes // 60} h"), again
