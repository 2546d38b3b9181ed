"""ConfigMaps and Secrets that a pod may name: from a dict here, from an API server in a test of the cluster."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


class Objects(Protocol):
    """Looks objects up in the pod's namespace; None where there is none."""

    async def config_map(self, name: str) -> Mapping[str, str] | None:
        """The data of a ConfigMap."""

    async def secret(self, name: str) -> Mapping[str, str] | None:
        """The data of a Secret, decoded."""


@dataclass(frozen=True, slots=True)
class FixedObjects:
    """Objects known beforehand, by name."""

    config_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)

    async def config_map(self, name: str) -> Mapping[str, str] | None:
        return self.config_maps.get(name)

    async def secret(self, name: str) -> Mapping[str, str] | None:
        return self.secrets.get(name)
