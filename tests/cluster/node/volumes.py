"""A pod's volumes as folders of the machine, with the owner and the modes that a kubelet gives them.

What is in memory is a tmpfs of the node's own mount namespace: the machine does not see it. Files of ConfigMaps,
Secrets and tokens are those of the pod's start.
"""

import asyncio
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tandem_cli.runner import Objects, PodConfigError
from tandem_cli.runner.template import PodSpec

from tests.cluster.node.api import ApiError, Object
from tests.cluster.node.fields import field as pod_field
from tests.cluster.node.objects import NamespacedObjects

_FILE_MODE = 0o644
_TOKEN_SECONDS = 3600


@dataclass(slots=True)
class PodVolumes:
    """Makes the volumes of one pod, and gives back what they hold of the machine."""

    pod: Object
    address: str
    objects: NamespacedObjects
    _mounted: list[Path] = field(default_factory=list)

    async def make(self, spec: PodSpec, folder: Path, objects: Objects) -> Mapping[str, Path]:
        """Raises `PodConfigError`: something that a volume names is not there, or its kind is not known."""
        try:
            return {volume["name"]: await self._make(volume, folder) for volume in self.pod["spec"].get("volumes", [])}
        except ApiError as error:
            raise PodConfigError(f"volumes: {error}") from error

    async def clear(self) -> None:
        """Unmounts what is in memory."""
        while self._mounted:
            await _run("umount", "--lazy", str(self._mounted.pop()))

    async def _make(self, volume: Object, parent: Path) -> Path:
        name = volume["name"]
        if "hostPath" in volume:
            host = Path(volume["hostPath"]["path"])
            host.mkdir(parents=True, exist_ok=True)
            return host
        if "persistentVolumeClaim" in volume:
            claim = volume["persistentVolumeClaim"]["claimName"]
            claimed = await self.objects.claimed_folder(claim)
            if claimed is None:
                raise PodConfigError(f"volume {name}: claim {claim} is not bound to a volume that is a folder")
            return Path(claimed)
        folder: Path = parent / name
        folder.mkdir(exist_ok=True)
        if "emptyDir" in volume:
            await self._make_empty(folder, volume["emptyDir"])
        else:
            self._write(folder, await self._files(volume))
        return folder

    async def _make_empty(self, folder: Path, options: Mapping[str, Any]) -> None:
        if options.get("medium") == "Memory" and folder not in self._mounted:
            size = options.get("sizeLimit")
            limit = f",size={size.removesuffix('i')}" if size else ""
            await _run("mount", "-t", "tmpfs", "-o", f"mode=777{limit}", "emptydir", str(folder))
            self._mounted.append(folder)
        if self._group is not None:
            os.chown(folder, -1, self._group)
        folder.chmod(0o777 if self._group is None else 0o2777)

    async def _files(self, volume: Object) -> dict[str, tuple[bytes, int]]:
        """Content and mode by relative path."""
        if "projected" in volume:
            files: dict[str, tuple[bytes, int]] = {}
            for source in volume["projected"].get("sources", []):
                mode = volume["projected"].get("defaultMode", _FILE_MODE)
                files |= await self._source_files(volume["name"], source, mode)
            return files
        for kind in ("configMap", "secret", "downwardAPI"):
            if kind in volume:
                source = dict(volume[kind])
                if kind == "secret":
                    source["name"] = source.get("secretName")
                return await self._source_files(volume["name"], {kind: source}, source.get("defaultMode", _FILE_MODE))
        raise PodConfigError(f"volume {volume['name']}: {', '.join(volume.keys() - {'name'})}: not known to this node")

    async def _source_files(self, volume: str, source: Object, mode: int) -> dict[str, tuple[bytes, int]]:
        if "serviceAccountToken" in source:
            asked = source["serviceAccountToken"]
            seconds = asked.get("expirationSeconds", _TOKEN_SECONDS)
            token = await self.objects.token(self.pod, asked.get("audience", ""), seconds)
            return {asked["path"]: (token.encode(), mode)}
        if "downwardAPI" in source:
            items = source["downwardAPI"].get("items", [])
            return {item["path"]: (self._field(volume, item).encode(), item.get("mode", mode)) for item in items}
        for kind, find in (("configMap", self.objects.config_map_files), ("secret", self.objects.secret_files)):
            if kind in source:
                named = source[kind]
                data = await find(named["name"])
                if data is None and not named.get("optional"):
                    raise PodConfigError(f'volume {volume}: {kind.lower()} "{named["name"]}" not found')
                return _picked(volume, named, data or {}, mode)
        raise PodConfigError(f"volume {volume}: projected {', '.join(source)}: not known to this node")

    def _field(self, volume: str, item: Object) -> str:
        if "fieldRef" not in item:
            raise PodConfigError(f"volume {volume}: {item['path']}: this node knows fieldRef alone")
        return pod_field(self.pod, item["fieldRef"]["fieldPath"], self.address)

    def _write(self, folder: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
        folder.chmod(0o755)
        for name, (content, mode) in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_bytes(content)
            if self._group is not None:
                os.chown(path, -1, self._group)
                mode |= stat.S_IRUSR | stat.S_IRGRP
            path.chmod(mode)

    @property
    def _group(self) -> int | None:
        group = self.pod["spec"].get("securityContext", {}).get("fsGroup")
        return None if group is None else int(group)


def _picked(volume: str, source: Object, data: Mapping[str, bytes], mode: int) -> dict[str, tuple[bytes, int]]:
    items = source.get("items")
    if not items:
        return {key: (value, mode) for key, value in data.items()}
    files = {}
    for item in items:
        if item["key"] in data:
            files[item["path"]] = (data[item["key"]], item.get("mode", mode))
        elif not source.get("optional"):
            raise PodConfigError(f"volume {volume}: {source['name']} has no key {item['key']}")
    return files


async def _run(*argv: str) -> None:
    process = await asyncio.create_subprocess_exec(*argv)
    code = await process.wait()
    if code:
        raise PodConfigError(f"{' '.join(argv)} exited {code}")
