"""What this machine offers to pods: environment, ConfigMaps of the plan, and Secrets as far as there are any."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tandem_operator.planning import ServicePlan

from tandem_cli.runner import Backoff, Node


@dataclass(frozen=True, slots=True)
class LocalObjects:
    """The plan's ConfigMaps. A Secret, whatever its name, is this machine's environment: HF_TOKEN is found there."""

    config_maps: Mapping[str, Mapping[str, str]]
    environment: Mapping[str, str] = field(repr=False)

    async def config_map(self, name: str) -> Mapping[str, str] | None:
        return self.config_maps.get(name)

    async def secret(self, name: str) -> Mapping[str, str] | None:
        return self.environment


def make_node(plans: Sequence[ServicePlan], environment: Mapping[str, str], cache: Path, logs: Path) -> Node:
    """The node that all pods of the platform run on: `python` is the one that runs this program.

    Args:
        plans: whose ConfigMaps it holds.
        environment: this machine's.
        cache: where fetched models stay.
        logs: where logs go.
    """
    home = Path(environment.get("HOME", "/"))
    inherited = {
        # Pods have a HOME of their own, but the user's caches: the Hub's token is in them, and what vLLM found out
        # about models, which takes it a good part of its start.
        "XDG_CACHE_HOME": str(home / ".cache"),
        **environment,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
        "TANDEM_CACHE": str(cache),
    }
    config_maps = {
        role.config_map["metadata"]["name"]: role.config_map["data"]
        for plan in plans
        for revision in plan.revisions
        for role in revision.roles
    }
    return Node(
        environment=inherited,
        objects=LocalObjects(config_maps, environment),
        backoff=Backoff(first=1, limit=30, reset=60),
        eager=0.05,
        logs=logs,
    )
