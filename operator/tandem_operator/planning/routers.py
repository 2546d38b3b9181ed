"""What the routers agree on, by what each of them last answered.

A decision that concerns requests needs the word of every router that clients may reach: each that is ready by its own
word. One whose pod is ready but which does not answer is waited for, for a short while, and then counts as lost.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tandem_api.status import ServiceStatus, VersionStatus, WorkerStatus

from tandem_operator.planning.observed import Pod, RouterView
from tandem_operator.planning.resolving import Role

SILENCE: Final = 5.0
"""Seconds that a router which does not answer is waited for."""


@dataclass(frozen=True)
class Hearing:
    """One router's word about a service."""

    router: str
    service: ServiceStatus | None
    """None: it does not know the service."""
    versions: Mapping[str, VersionStatus] = field(default_factory=dict)
    workers: Mapping[str, WorkerStatus] = field(default_factory=dict)

    def usable(self, version: str, revision: str, roles: Iterable[Role]) -> bool:
        """Requests begin on this revision, and it has a worker of each role that can take them."""
        told = self.versions.get(version)
        if told is None or revision not in told.revisions:
            return False
        able = {worker.role for worker in told.workers if worker.revision == revision and takes_calls(worker)}
        return all(role in able for role in roles)


@dataclass(frozen=True)
class Routers:
    """All routers' words about a service."""

    heard: tuple[Hearing, ...]
    """Of the routers that are ready by their own word."""
    silent: tuple[str, ...]
    """Routers that should answer and don't, and are still waited for."""
    patience: float | None
    """Seconds until the first of the silent ones counts as lost."""
    lost: tuple[str, ...]
    """Routers that should answer and don't, for too long."""

    @property
    def reachable(self) -> bool:
        """Every router that counts has said something, and there is one."""
        return bool(self.heard) and not self.silent

    def reach(self, pod: Pod) -> bool:
        """Every router can give this worker calls."""
        return self.reachable and all(
            (worker := hearing.workers.get(pod.name)) is not None
            and worker.revision == pod.revision
            and takes_calls(worker)
            for hearing in self.heard
        )

    def use(self, version: str, revision: str, roles: Iterable[Role]) -> bool:
        """Requests that come now to any router that answers can be served by this revision."""
        asked = tuple(roles)
        return bool(self.heard) and all(hearing.usable(version, revision, asked) for hearing in self.heard)

    def leave(self, version: str, revision: str) -> bool:
        """No router lets requests begin on this revision."""
        return not self.silent and not any(
            revision in told.revisions for hearing in self.heard if (told := hearing.versions.get(version))
        )


def listen(views: Iterable[RouterView], namespace: str, name: str, now: float) -> Routers:
    """Gathers what routers say about the service `name`."""
    heard, silent, lost = [], [], []
    patience: float | None = None
    for view in views:
        if view.silent_since is None and view.status is not None:
            if view.status.ready:
                heard.append(_hear(view, namespace, name))
        elif view.pod_ready:
            left = SILENCE - (now - (view.silent_since if view.silent_since is not None else now))
            if left > 0:
                silent.append(view.name)
                patience = left if patience is None else min(patience, left)
            else:
                lost.append(view.name)
    return Routers(tuple(heard), tuple(silent), patience, tuple(lost))


def takes_calls(worker: WorkerStatus) -> bool:
    """As the router that tells of it sees it."""
    return worker.connected and worker.ready and not worker.draining


def _hear(view: RouterView, namespace: str, name: str) -> Hearing:
    assert view.status is not None
    for service in view.status.services:
        if service.name == name and service.namespace == namespace:
            versions = {version.name: version for version in service.versions}
            workers = {worker.name: worker for version in service.versions for worker in version.workers}
            return Hearing(view.name, service, versions, workers)
    return Hearing(view.name, None)
