"""The router of the local platform: the topology file that it reads, and the pod that it runs as."""

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tandem_api.topology import Topology
from tandem_operator.planning import Endpoint, ServicePlan, routes

from tandem_cli.keys import Door
from tandem_cli.platform.workers import Worker
from tandem_cli.runner import PodTemplate

ROUTER = "router"
_MARGIN = 5
"""Seconds that a router has beyond its own grace, to close what is left."""


def write_topology(
    path: Path, plans: Sequence[ServicePlan], reachable: Iterable[tuple[Worker, str]], created: int
) -> None:
    """Replaces the file as a whole.

    Args:
        path: the file.
        plans: the services.
        reachable: workers that run, each with its IP address.
        created: Unix seconds, for /v1/models.
    """
    endpoints: dict[str, list[Endpoint]] = {plan.service.key: [] for plan in plans}
    for worker, address in reachable:
        where = f"{address}:{worker.port}"
        endpoints[worker.service].append(Endpoint(worker.version, worker.revision, worker.role, worker.name, where))
    topology = Topology(services=tuple(routes(plan, endpoints[plan.service.key], created) for plan in plans))
    beside = path.with_name(path.name + ".next")
    beside.write_text(topology.model_dump_json(indent=2))
    os.replace(beside, path)


def router_template(topology: Path, host: str, port: int, grace: float, door: Door) -> PodTemplate:
    """A router in front of the topology's workers. It listens on the machine's own address, not on the pod's."""
    probe = {"httpGet": {"host": _reachable(host), "port": port, "path": "/healthz"}}
    return PodTemplate.model_validate(
        {
            "metadata": {"name": ROUTER},
            "spec": {
                "terminationGracePeriodSeconds": grace + _MARGIN,
                "containers": [
                    {
                        "name": ROUTER,
                        "command": [sys.executable, "-m", "tandem_router", "--server-timing", "--virtual-failures"],
                        "args": [
                            *("--topology", str(topology)),
                            *("--host", host, "--port", str(port)),
                            *("--name", ROUTER, "--grace", str(grace)),
                            *door.argv,
                        ],
                        "startupProbe": {**probe, "periodSeconds": 1, "failureThreshold": 60},
                        "livenessProbe": {**probe, "periodSeconds": 10, "timeoutSeconds": 5},
                    }
                ],
            },
        }
    )


def _reachable(host: str) -> str:
    """An address, as it stands in a URL, at which a program of this machine finds a server that listens at `host`."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - nothing is bound here
    address = everywhere.get(host, host)
    return f"[{address}]" if ":" in address else address


def url_of(host: str, port: int) -> str:
    """The router's URL for programs of this machine."""
    return f"http://{_reachable(host)}:{port}"
