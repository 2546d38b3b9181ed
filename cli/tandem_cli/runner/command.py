"""A container's command: argv, environment and mounts in its own terms, and what a sandbox makes of them here."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tandem_cli.runner.errors import PodConfigError
from tandem_cli.runner.objects import Objects
from tandem_cli.runner.template import Container, EnvVar, Metadata, Selector


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of the machine, and where the container expects it."""

    host: Path
    path: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class Command:
    """A program as the pod template describes it, before a sandbox has its say."""

    container: str
    """The name of the container that it belongs to."""
    argv: tuple[str, ...]
    env: Mapping[str, str]
    """The container's own variables, in its terms."""
    environment: Mapping[str, str]
    """What an image would set, in this machine's terms; `env` goes before it."""
    cwd: str
    """As the container names it; empty where it does not."""
    mounts: tuple[Mount, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """What is really started on this machine."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path | None
    """None: the pod's own folder."""


Sandbox = Callable[[Command], Program]
"""Makes a command true on this machine: by rewriting its paths, or by putting walls and mounts around it.

Raises `PodConfigError` where it can't be made true now.
"""


def map_paths(command: Command) -> Program:
    """The sandbox without walls: paths under a mount become the machine's.

    In argv (`/path` and `--flag=/path`), in values of the container's own variables, and as working folder. A mount at
    /tmp becomes TMPDIR, so that a killed process leaves nothing in the machine's.
    """
    deepest_first = sorted(command.mounts, key=lambda mount: len(mount.path), reverse=True)

    def mapped(value: str) -> str:
        for mount in deepest_first:
            path = mount.path.rstrip("/")
            if value == path or value.startswith(path + "/"):
                return f"{mount.host}{value[len(path) :]}"
        return value

    def argument(value: str) -> str:
        flag, equals, rest = value.partition("=")
        return f"{flag}={mapped(rest)}" if equals and flag.startswith("-") else mapped(value)

    temporary = mapped("/tmp")  # noqa: S108 - a mountPath
    return Program(
        argv=tuple(argument(value) for value in command.argv),
        env={
            **command.environment,
            **({"TMPDIR": temporary} if temporary != "/tmp" else {}),  # noqa: S108 - likewise
            **{name: mapped(value) for name, value in command.env.items()},
        },
        cwd=Path(mapped(command.cwd)) if command.cwd else None,
    )


async def compose(
    container: Container,
    *,
    metadata: Metadata,
    address: str,
    environment: Mapping[str, str],
    objects: Objects,
    volumes: Mapping[str, Path],
    images: Mapping[str, Sequence[str]],
) -> Command:
    """The command of a container, in the container's own terms.

    Args:
        container: what to run.
        metadata: of its pod, for `fieldRef`.
        address: the pod's IP address.
        environment: what the image would set, in the machine's terms.
        objects: where ConfigMaps and Secrets are found.
        volumes: the folder of each volume.
        images: the entrypoint of each image, for containers without a `command`.

    Raises:
        PodConfigError: something that the container names is not there.
    """
    own = await _own_variables(container, metadata, address, objects)
    entrypoint = container.command or images.get(container.image)
    if not entrypoint:
        known = ", ".join(sorted(images)) or "none"
        raise PodConfigError(f"container {container.name} has no command, and no program is known for its image "
                             f"{container.image!r} (known: {known})")  # fmt: skip
    argv = tuple(_expand(value, own) for value in (*entrypoint, *container.args))
    mounts = []
    for mount in container.volume_mounts:
        if mount.name not in volumes:
            raise PodConfigError(f"container {container.name} mounts {mount.name}, which is no volume of the pod")
        mounts.append(Mount(volumes[mount.name] / mount.sub_path, mount.mount_path, mount.read_only))
    return Command(
        container.name, argv, own, {**environment, "HOSTNAME": metadata.name}, container.working_dir, tuple(mounts)
    )


async def _own_variables(container: Container, metadata: Metadata, address: str, objects: Objects) -> dict[str, str]:
    variables: dict[str, str] = {}
    for source in container.env_from:
        for kind, selector in (("ConfigMap", source.config_map_ref), ("Secret", source.secret_ref)):
            if selector is not None:
                data = await _data(kind, selector, objects) or {}
                variables.update({source.prefix + key: value for key, value in data.items()})
    for variable in container.env:
        value = await _value(variable, metadata, address, objects)
        if value is not None:
            variables[variable.name] = value if variable.value_from else _expand(value, variables)
    return variables


async def _value(variable: EnvVar, metadata: Metadata, address: str, objects: Objects) -> str | None:
    source = variable.value_from
    if source is None:
        return variable.value
    if source.field_ref is not None:
        return _field(variable.name, source.field_ref.field_path, metadata, address)
    for kind, selector in (("ConfigMap", source.config_map_key_ref), ("Secret", source.secret_key_ref)):
        if selector is not None:
            data = await _data(kind, selector, objects)
            if data is not None and selector.key in data:
                return data[selector.key]
            if selector.optional:
                return None
            raise PodConfigError(f"variable {variable.name}: {kind} {selector.name} has no key {selector.key}")
    raise PodConfigError(f"variable {variable.name}: valueFrom knows fieldRef, configMapKeyRef and secretKeyRef")


async def _data(kind: str, selector: Selector, objects: Objects) -> Mapping[str, str] | None:
    find = objects.config_map if kind == "ConfigMap" else objects.secret
    data = await find(selector.name)
    if data is None and not selector.optional:
        raise PodConfigError(f"{kind} {selector.name} is missing")
    return data


def _field(variable: str, path: str, metadata: Metadata, address: str) -> str:
    plain = {
        "metadata.name": metadata.name,
        "metadata.namespace": metadata.namespace,
        "metadata.uid": metadata.uid,
        "status.podIP": address,
        "status.podIPs": address,
        "status.hostIP": "127.0.0.1",
    }
    if path in plain:
        return plain[path]
    keyed = re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path)
    if keyed:
        values: dict[str, str] = getattr(metadata, keyed[1])
        return values.get(keyed[2], "")
    raise PodConfigError(f"variable {variable}: fieldPath {path} is not known")


def _expand(value: str, variables: Mapping[str, str]) -> str:
    """Kubernetes' `$(NAME)`: unknown names stay as they are, `$$(NAME)` is a literal `$(NAME)`."""

    def replacement(match: re.Match[str]) -> str:
        if match[0].startswith("$$"):
            return match[0][1:]
        return variables.get(match[1], match[0])

    return re.sub(r"\$?\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)", replacement, value)
