"""What the `restricted` Pod Security Standard demands of a pod, as far as pods of ours can break it."""

from collections.abc import Iterator, Mapping
from typing import Any

_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def violations(spec: Mapping[str, Any]) -> Iterator[str]:
    """What a restricted namespace would refuse in a pod's spec, one sentence each."""
    pod = spec.get("securityContext", {})
    if any(spec.get(field) for field in ("hostNetwork", "hostPID", "hostIPC")):
        yield "the pod shares its node's namespaces"
    for volume in spec.get("volumes", ()):
        if kinds := set(volume) - {"name"} - _VOLUMES:
            yield f"volume {volume['name']} is of {', '.join(kinds)}"
    for container in (*spec.get("initContainers", ()), *spec["containers"]):
        name, own = container["name"], container.get("securityContext", {})
        merged = {**pod, **own}
        if merged.get("privileged"):
            yield f"{name} is privileged"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{name} may escalate"
        if merged.get("runAsNonRoot") is not True or merged.get("runAsUser", 1) == 0:
            yield f"{name} may run as root"
        if merged.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{name} has no seccomp profile"
        capabilities = own.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", ()) or set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
            yield f"{name} keeps capabilities"
        if any("hostPort" in port for port in container.get("ports", ())):
            yield f"{name} takes a port of its node"
