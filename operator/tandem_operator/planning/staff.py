"""The workers of a revision as they are found in the cluster."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from tandem_operator.planning.observed import Deployment, Observed, Pod
from tandem_operator.planning.resolving import ROLES, Role


@dataclass(frozen=True)
class Staff:
    """Workers of one role of one revision."""

    deployment: Deployment | None = None
    pods: tuple[Pod, ...] = ()

    @cached_property
    def live(self) -> tuple[Pod, ...]:
        """Pods that are not about to go."""
        return tuple(pod for pod in self.pods if not pod.terminating)

    @cached_property
    def replicas(self) -> int:
        """Asked for."""
        return self.deployment.replicas if self.deployment else 0

    @cached_property
    def existing(self) -> int:
        """That take room: asked for, or still there though fewer are asked for."""
        return max(self.replicas, len(self.live))

    @cached_property
    def ready(self) -> int:
        """That serve, and will when Kubernetes has done all that was asked of it."""
        return min(self.replicas, sum(pod.ready and pod.routable for pod in self.live))

    @cached_property
    def gated(self) -> int:
        """That have been let in to serve, whether or not they are healthy at the moment."""
        return min(self.replicas, sum(pod.routable for pod in self.live))


@dataclass(frozen=True)
class Revision:
    """Workers of one revision of a version."""

    version: str
    name: str
    roles: Mapping[Role, Staff]
    created: float = 0.0

    def role(self, role: Role) -> Staff:
        return self.roles.get(role, _NOBODY)

    @property
    def disaggregated(self) -> bool:
        """As far as its objects tell."""
        return "prefill" in self.roles

    @cached_property
    def may_serve(self) -> bool:
        """It has a pair that was let in to serve: it serves, or may do so again at any moment."""
        return bool(self.roles) and all(staff.gated for staff in self.roles.values())

    @cached_property
    def ready(self) -> bool:
        """It has a pair that serves."""
        return bool(self.roles) and all(staff.ready for staff in self.roles.values())

    @cached_property
    def asked(self) -> int:
        """Workers asked for, of all roles."""
        return sum(staff.replicas for staff in self.roles.values())

    @property
    def gone(self) -> bool:
        """Nothing is asked for, and nobody is left."""
        return not self.asked and not any(staff.pods for staff in self.roles.values())


_NOBODY = Staff()


def revisions(observed: Observed, paired: Container[tuple[str, str]]) -> dict[str, dict[str, Revision]]:
    """By version and revision: all that have a Deployment or a pod.

    Args:
        observed: The cluster.
        paired: Versions and revisions that need prefill workers, whether or not there is anything of them.
    """
    found: dict[tuple[str, str], dict[Role, tuple[Deployment | None, list[Pod]]]] = {}
    for deployment in observed.deployments:
        if not deployment.deleting:
            roles = found.setdefault((deployment.version, deployment.revision), {})
            roles[deployment.role] = (deployment, [])
    for pod in observed.pods:
        roles = found.setdefault((pod.version, pod.revision), {})
        roles.setdefault(pod.role, (None, []))[1].append(pod)
    made: dict[str, dict[str, Revision]] = {}
    for (version, name), roles in found.items():
        needed = {"decode", *(("prefill",) if (version, name) in paired else ())}
        staffs = {
            role: Staff(deployment, tuple(pods))
            for role in ROLES
            if role in roles or role in needed
            for deployment, pods in (roles.get(role, (None, [])),)
        }
        created = min(_ages(staffs.values()), default=0.0)
        made.setdefault(version, {})[name] = Revision(version, name, staffs, created)
    return made


def _ages(staffs: Iterable[Staff]) -> Iterable[float]:
    return (staff.deployment.created for staff in staffs if staff.deployment)
