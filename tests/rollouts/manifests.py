"""Specs that a simulated user asks for, made once each: reading a manifest costs more than planning for it."""

from dataclasses import dataclass, replace
from typing import Any

from tandem_api.inference_service import InferenceService
from tandem_operator.planning import plan_service

BROKEN = 7
"""The build whose image can't be pulled."""

WEIGHTS: dict[int, tuple[int | None, ...]] = {1: (None,), 2: (90, 10), 3: (60, 30, 10)}
"""Of so many versions."""


@dataclass(frozen=True, slots=True)
class Ask:
    """As much of a spec as matters to a rollout."""

    versions: tuple[tuple[str, int], ...] = (("v1", 0),)
    """Names and builds: another build is another revision."""
    prefill: int | None = 1
    """Workers; None: decode workers serve alone."""
    decode: int = 1
    surge: int = 1
    unavailable: int = 0
    automatic: bool = False
    """Decode workers are autoscaled, from 1 to 6."""

    def build(self, version: str) -> int | None:
        return dict(self.versions).get(version)

    def with_build(self, version: str, build: int) -> "Ask":
        return replace(self, versions=tuple((name, build if name == version else old) for name, old in self.versions))


class Manifests:
    """Reads each spec once."""

    def __init__(self) -> None:
        self._known: dict[Ask, InferenceService] = {}
        self.builds: dict[str, int] = {}
        """By revision."""
        self.revisions: dict[tuple[Ask, str], str] = {}
        """By spec and version."""

    def service(self, ask: Ask) -> InferenceService:
        """The resource as a user writes it."""
        if ask not in self._known:
            service = self._known[ask] = InferenceService.model_validate(_manifest(ask))
            for planned in plan_service(service).revisions:
                self.builds[planned.revision] = dict(ask.versions)[planned.version]
                self.revisions[ask, planned.version] = planned.revision
        return self._known[ask]


def _manifest(ask: Ask) -> dict[str, Any]:
    weights = WEIGHTS[len(ask.versions)]
    decode: dict[str, Any] = {"autoscaling": {"min": 1, "max": 6}} if ask.automatic else {"replicas": ask.decode}
    return {
        "apiVersion": "tandem.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": "llama", "uid": "service", "resourceVersion": "1", "generation": 1},
        "spec": {
            "versions": [
                {
                    "name": name,
                    "engine": {"type": "virtual", "args": [f"--seed={build}"]},
                    **({} if weight is None else {"weight": weight}),
                }
                for (name, build), weight in zip(ask.versions, weights, strict=True)
            ],
            **({} if ask.prefill is None else {"prefill": {"replicas": ask.prefill}}),
            "decode": decode,
            "rollout": {"maxSurge": ask.surge, "maxUnavailable": ask.unavailable},
        },
    }
