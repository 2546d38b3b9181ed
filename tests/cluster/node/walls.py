"""The sandbox of the runner's containers: what a securityContext asks for, as `enter.py` makes it true."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tandem_cli.runner import Command, PodConfigError, Program

from tests.cluster.node.api import Object
from tests.cluster.tools import CHECKOUT

_ENTER: Final = Path(__file__).with_name("enter.py")
IMAGE_USER: Final = 65532
"""That Tandem's images name."""
_DEFAULT_CAPABILITIES: Final = (
    *("chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap"),
    *("net_bind_service", "net_raw", "sys_chroot", "mknod", "audit_write", "setfcap"),
)
"""A container's, where its securityContext does not say: containerd's."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A folder of the machine, and where the container sees it."""

    host: str
    path: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class Walls:
    """What stands around a process."""

    network: str
    """A file that names the pod's network namespace."""
    host_name: str
    folder: str
    """An empty one, on which the process mounts what only it sees."""
    needs: Sequence[str]
    """Paths of the machine that everyone in the container must be able to reach: the image, so to speak."""
    names: str
    """The folder of the file `hosts`."""
    mounts: Sequence[Seen]
    own_tmp: bool
    """No volume is mounted at /tmp."""
    cwd: str
    read_only: bool
    """The root is."""
    identity: Sequence[str]
    """Arguments of setpriv(1)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod's containers are."""

    network: str
    folder: Path
    names: Path


def put_walls(pod: Object, place: Place, command: Command) -> Program:
    """The command inside its walls. Raises `PodConfigError` where the securityContext contradicts itself."""
    container = find_container(pod, command.container)
    context = security_context(pod, container)
    walls = Walls(
        network=place.network,
        host_name=pod["metadata"]["name"][:63],
        folder=str(place.folder),
        needs=sorted({sys.prefix, sys.base_prefix, str(CHECKOUT)}),
        names=str(place.names),
        mounts=[Seen(str(mount.host), mount.path, mount.read_only) for mount in command.mounts],
        own_tmp=all(mount.path != "/tmp" for mount in command.mounts),
        cwd=command.cwd or "/",
        read_only=bool(context.get("readOnlyRootFilesystem")),
        identity=identity(context),
    )
    argv = (sys.executable, "-I", "-S", str(_ENTER), json.dumps(asdict(walls)), *command.argv)
    return Program(argv, {**command.environment, **command.env}, cwd=None)


def find_container(pod: Object, name: str) -> Object:
    """A container of the pod, init containers included."""
    spec = pod["spec"]
    return next(found for found in [*spec.get("initContainers", []), *spec["containers"]] if found["name"] == name)


def security_context(pod: Object, container: Object) -> dict[str, Any]:
    """The pod's, and the container's before it."""
    return {**pod["spec"].get("securityContext", {}), **container.get("securityContext", {})}


def identity(context: Object) -> list[str]:
    """Setpriv's arguments for user, groups and capabilities. Raises `PodConfigError`."""
    user = context.get("runAsUser", IMAGE_USER)
    if user == 0 and context.get("runAsNonRoot"):
        raise PodConfigError("container's runAsUser breaks non-root policy")
    group = context.get("runAsGroup", user)
    groups = [*context.get("supplementalGroups", []), *([context["fsGroup"]] if "fsGroup" in context else [])]
    capabilities = context.get("capabilities", {})
    dropped = {name.removeprefix("CAP_").lower() for name in capabilities.get("drop", [])}
    added = [name.removeprefix("CAP_").lower() for name in capabilities.get("add", [])]
    kept = [name for name in _DEFAULT_CAPABILITIES if "all" not in dropped and name not in dropped]
    return [
        *("--reuid", str(user), "--regid", str(group)),
        *(("--groups", ",".join(map(str, groups))) if groups else ("--clear-groups",)),
        *("--inh-caps", "-all", "--bounding-set", ",".join(["-all", *(f"+{name}" for name in [*kept, *added])])),
        *(() if context.get("allowPrivilegeEscalation", True) else ("--no-new-privs",)),
    ]
