"""What an installation sets: the file that `--settings` names, rendered by the chart."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError
from tandem_api.inference_service.base import Spec

from tandem_operator.planning.resolving import REGISTRY

Port = Annotated[int, Field(ge=1, le=65_535)]


class ImageSettings(Spec):
    """Images of versions that name none. A version keeps the one that it began with."""

    vllm: str = f"{REGISTRY}/tandem-worker-vllm:latest"
    virtual: str = f"{REGISTRY}/tandem-worker-virtual:latest"
    pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None


class SecretReference(Spec):
    """A Secret of the services' own namespaces."""

    name: str


class SecretKeyReference(SecretReference):
    """One of its keys."""

    key: str


class RouterSettings(Spec):
    """Where the routers are, and where clients find them."""

    namespace: str = "tandem-system"
    selector: dict[str, str] = Field(
        default_factory=lambda: {"app.kubernetes.io/name": "tandem", "app.kubernetes.io/component": "router"}
    )
    """Labels of their pods."""
    port: Port = 8080
    url: str = "http://tandem-router.tandem-system.svc:80/v1"
    """What a service's `status.url` says."""
    service_key_file: Path | None = None
    """The key that the routers ask of the operator; None: they ask for none."""

    def headers(self) -> dict[str, str]:
        """Of requests to the routers.

        Raises:
            SystemExit: the key's file can't be read.
        """
        if self.service_key_file is None:
            return {}
        try:
            return {"Authorization": f"Bearer {self.service_key_file.read_text().strip()}"}
        except OSError as error:
            raise SystemExit(f"{self.service_key_file} can't be read: {error.strerror}") from error


class RegistrySettings(Spec):
    """The model registry."""

    url: str
    """Base URL: http://tandem-registry:80."""
    key_file: Path | None = None
    """A file with a key for what services need there, read anew for each request; None: it asks for none."""
    worker_key: SecretKeyReference | None = None
    """The same for workers that fetch from it, in a Secret of each namespace that has some."""


class PolicyPeer(Spec):
    """Pods, by labels of their namespace and their own."""

    namespace: dict[str, str] = Field(default_factory=dict)
    pods: dict[str, str] = Field(default_factory=dict)


class DownloadSettings(Spec):
    """Where models come from."""

    cidrs: tuple[str, ...] = ("0.0.0.0/0", "::/0")
    excluded: tuple[str, ...] = Field((), alias="except")
    ports: tuple[Port, ...] = (443,)


class PolicySettings(Spec):
    """Who may reach workers, and whom they may reach. Peers and rules have the shapes of a NetworkPolicy."""

    enabled: bool = False
    routers: PolicyPeer = PolicyPeer()
    monitoring: tuple[dict[str, Any], ...] = ()
    dns: tuple[dict[str, Any], ...] = ()
    downloads: DownloadSettings = DownloadSettings()
    registry: tuple[dict[str, Any], ...] = ()
    """Egress rules to the registry."""
    extra_egress: tuple[dict[str, Any], ...] = ()


class OperatorSettings(Spec):
    """All of it. Unknown fields are refused."""

    namespaces: tuple[str, ...] = ()
    """That are looked after; empty: all."""
    rehearse: bool = False
    """Run every service on virtual engines."""
    images: ImageSettings = ImageSettings()
    image_pull_secrets: tuple[SecretReference, ...] = ()
    tls_secret: str | None = None
    """Name of the `kubernetes.io/tls` Secret, with ca.crt, of each namespace: channels are then mutual TLS."""
    worker_env: dict[str, str] = Field(default_factory=dict)
    router: RouterSettings = RouterSettings()
    registry: RegistrySettings | None = None
    """None: there is none. Experiments then run without its memory of how they ended."""
    network_policies: PolicySettings = PolicySettings()
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    workers: int = Field(8, ge=1, le=64)
    """Services that are worked on at the same time."""
    health_port: int = Field(8081, ge=0, le=65_535)
    """0: no health endpoint."""
    metrics_port: int = Field(8082, ge=0, le=65_535)
    """0: no metrics endpoint."""

    def looks_after(self, namespace: str) -> bool:
        return not self.namespaces or namespace in self.namespaces


def load(path: Path) -> OperatorSettings:
    """Reads a settings file.

    Raises:
        SystemExit: it can't be used; the text says what is wrong, and where.
    """
    try:
        return OperatorSettings.model_validate(yaml.safe_load(path.read_text()) or {}, by_name=False)
    except OSError as error:
        raise SystemExit(f"{path} can't be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SystemExit(f"{path} is not YAML: {error}") from error
    except ValidationError as error:
        lines = [f"{path}: {'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()]
        raise SystemExit("\n".join(lines)) from error
