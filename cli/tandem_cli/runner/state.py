"""How a pod is, as values: Kubernetes' own words for phases and reasons, so that a status can be written from them."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ContainerState:
    """One container. `exit_code` is of the run that ended last; 128 + n where signal n ended it."""

    name: str
    phase: Literal["waiting", "running", "terminated"] = "waiting"
    reason: str = "PodInitializing"
    """Why it waits or has ended: a kubelet's word, such as CrashLoopBackOff, CreateContainerConfigError, Completed."""
    message: str = ""
    """The same for a person, where there is more to say."""
    pid: int | None = None
    """Of the keeper while it runs."""
    started: bool = False
    """The startup probe has succeeded, or there is none."""
    ready: bool = False
    restarts: int = 0
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class PodState:
    """A whole pod."""

    name: str
    address: str
    phase: Literal["Pending", "Running", "Succeeded", "Failed"]
    problem: str
    """What keeps the pod's volumes from being made; empty where nothing does."""
    initialized: bool
    """All init containers have ended well."""
    ready: bool
    """Every container is ready."""
    init_containers: tuple[ContainerState, ...]
    containers: tuple[ContainerState, ...]

    @property
    def all_containers(self) -> tuple[ContainerState, ...]:
        """Init containers first."""
        return self.init_containers + self.containers
