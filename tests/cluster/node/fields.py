"""A pod's own fields, as the downward API shows them, and the pod as the runner gets it."""

import json
import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from tandem_cli.runner import PodConfigError, PodTemplate

from tests.cluster.network import CLUSTER_ADDRESS
from tests.cluster.node.api import Object


def field(pod: Object, path: str, address: str) -> str:
    """The value of a `fieldPath`; of all labels or annotations a line each. Raises `PodConfigError`."""
    if path in ("status.podIP", "status.podIPs"):
        return address
    if path in ("status.hostIP", "status.hostIPs"):
        return CLUSTER_ADDRESS
    keyed = re.fullmatch(r"metadata\.(labels|annotations)(?:\['([^']+)'\])?", path)
    if keyed:
        values: Mapping[str, str] = pod["metadata"].get(keyed[1], {})
        if keyed[2]:
            return values.get(keyed[2], "")
        return "\n".join(f"{name}={json.dumps(value)}" for name, value in sorted(values.items()))
    section, _, name = path.partition(".")
    if path in ("metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName"):
        return str(pod[section].get(name, ""))
    raise PodConfigError(f"fieldPath {path} is not known")


def for_runner(pod: Object, address: str) -> PodTemplate:
    """The pod with what the runner leaves to its node done: fields of the pod in variables, and volumes.

    Each volume counts as an empty one: the node makes them itself. Raises `PodConfigError`.
    """
    spec: dict[str, Any] = deepcopy(pod["spec"])
    spec["volumes"] = [{"name": volume["name"], "emptyDir": {}} for volume in spec.get("volumes", [])]
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        container["env"] = [_settled(variable, pod, address) for variable in container.get("env", [])]
    return PodTemplate.model_validate({"metadata": pod["metadata"], "spec": spec})


def _settled(variable: Object, pod: Object, address: str) -> Object:
    source = variable.get("valueFrom", {}).get("fieldRef")
    if source is None:
        return variable
    return {"name": variable["name"], "value": field(pod, source["fieldPath"], address)}
