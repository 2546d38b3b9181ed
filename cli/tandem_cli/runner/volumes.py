"""Turns a pod's volumes into folders of the machine."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from tempfile import mkdtemp

from tandem_cli.runner.errors import PodConfigError
from tandem_cli.runner.objects import Objects
from tandem_cli.runner.template import KeyToPath, PodSpec, Volume

VolumeMaker = Callable[[PodSpec, Path, Objects], Awaitable[Mapping[str, Path]]]
"""Makes a pod's volumes, in a folder of the pod's own, from objects of its namespace; returns each one's by name.

Raises `PodConfigError` where something is missing; it is asked again then.
"""


async def make_volumes(spec: PodSpec, folder: Path, objects: Objects) -> dict[str, Path]:
    """The folder of each volume by name: a hostPath's own, for all others a fresh one in `folder`.

    Their names are short: a socket's path has at most 107 bytes, and programs put sockets into their TMPDIR.

    Raises:
        PodConfigError: a ConfigMap, a Secret or a key of one is missing.
    """
    made = {}
    for volume in spec.volumes:
        files = await _files(volume, objects)
        path = Path(volume.host_path.path) if volume.host_path is not None else Path(mkdtemp(prefix="", dir=folder))
        _write(path, files)
        made[volume.name] = path
    return made


async def _files(volume: Volume, objects: Objects) -> dict[str, str]:
    """What a ConfigMap or a Secret puts into the folder, by relative path."""
    if volume.config_map is not None:
        source, what = volume.config_map, f"ConfigMap {volume.config_map.name}"
        return _pick(volume, what, await objects.config_map(source.name), source.items, source.optional)
    if volume.secret is not None:
        secret, what = volume.secret, f"Secret {volume.secret.secret_name}"
        return _pick(volume, what, await objects.secret(secret.secret_name), secret.items, secret.optional)
    return {}


def _pick(
    volume: Volume, what: str, data: Mapping[str, str] | None, items: tuple[KeyToPath, ...], optional: bool
) -> dict[str, str]:
    if data is None and not optional:
        raise PodConfigError(f"volume {volume.name}: {what} is missing")
    data = data or {}
    if not items:
        return dict(data)
    for item in items:
        if item.key not in data and not optional:
            raise PodConfigError(f"volume {volume.name}: {what} has no key {item.key}")
    return {item.path: data[item.key] for item in items if item.key in data}


def _write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(text)
