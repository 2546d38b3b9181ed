"""What a pod's volumes and variables are made of: ConfigMaps, Secrets and tokens of its namespace."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from tests.cluster.node.api import Api, Object


@dataclass(frozen=True, slots=True)
class NamespacedObjects:
    """The objects of one namespace, read anew each time."""

    api: Api
    namespace: str

    async def config_map(self, name: str) -> Mapping[str, str] | None:
        """The data of a ConfigMap that is text; None where there is none."""
        found = await self._get("configmaps", name)
        return None if found is None else found.get("data", {})

    async def secret(self, name: str) -> Mapping[str, str] | None:
        """The data of a Secret that is text; None where there is none."""
        found = await self.secret_files(name)
        return None if found is None else {key: value.decode(errors="surrogateescape") for key, value in found.items()}

    async def config_map_files(self, name: str) -> Mapping[str, bytes] | None:
        """All data of a ConfigMap, as in its files; None where there is none."""
        found = await self._get("configmaps", name)
        if found is None:
            return None
        text = {key: value.encode() for key, value in found.get("data", {}).items()}
        return text | {key: base64.b64decode(value) for key, value in found.get("binaryData", {}).items()}

    async def secret_files(self, name: str) -> Mapping[str, bytes] | None:
        """All data of a Secret, as in its files; None where there is none."""
        found = await self._get("secrets", name)
        if found is None:
            return None
        return {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}

    async def claimed_folder(self, claim: str) -> str | None:
        """The folder of the PersistentVolume that a claim is bound to; None where it has none."""
        found = await self._get("persistentvolumeclaims", claim)
        name = (found or {}).get("spec", {}).get("volumeName")
        volume = await self.api.get(f"/api/v1/persistentvolumes/{name}") if name else None
        spec = (volume or {}).get("spec", {})
        path = spec.get("hostPath", spec.get("local", {})).get("path")
        return None if path is None else str(path)

    async def token(self, pod: Object, audience: str, seconds: int) -> str:
        """A token of the pod's service account that is valid as long as the pod lives. Raises `ApiError`."""
        account = pod["spec"].get("serviceAccountName", "default")
        bound = {"kind": "Pod", "apiVersion": "v1", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        answer = await self.api.create(
            f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}/token",
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {
                    "boundObjectRef": bound,
                    "expirationSeconds": seconds,
                    **({"audiences": [audience]} if audience else {}),
                },
            },
        )
        return str(answer["status"]["token"])

    async def _get(self, kind: str, name: str) -> Object | None:
        return await self.api.get(f"/api/v1/namespaces/{self.namespace}/{kind}/{name}")
