"""From what a manifest says to what holds: a version with its overrides, and the installation's defaults, applied."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from tandem_api.inference_service import EngineSpec, InferenceService, KvTransferSpec, RoleSpec, VersionSpec, merged

Role = Literal["prefill", "decode"]
ROLES: Final[tuple[Role, ...]] = ("prefill", "decode")

REGISTRY: Final = "ghcr.io/tandem-serving"


@dataclass(frozen=True, slots=True)
class Settings:
    """What an installation adds to every service. None of it makes a revision: an upgrade restarts no worker."""

    vllm_image: str = f"{REGISTRY}/tandem-worker-vllm:latest"
    """Image of versions that name none, by engine."""
    virtual_image: str = f"{REGISTRY}/tandem-worker-virtual:latest"
    """Without torch: of all engines but vllm."""
    tls_secret: str | None = None
    """A `kubernetes.io/tls` Secret with ca.crt: workers then speak mutual TLS only."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Of every worker, such as OTEL_EXPORTER_OTLP_ENDPOINT; a manifest's own go before them."""
    image_pull_policy: str | None = None
    """Of versions that say nothing of it."""
    registry_url: str | None = None
    """Where workers fetch `registry://` sources; None: there is no registry."""
    registry_key: tuple[str, str] | None = None
    """Of a Secret in the services' namespaces, name and key: what to show there for fetching; None: nothing."""
    image_pull_secrets: tuple[str, ...] = ()
    """Names of Secrets in the services' namespaces, beside those that a manifest names."""


@dataclass(frozen=True, slots=True)
class EffectiveVersion:
    """A version as it is run."""

    namespace: str
    service: str
    model: str
    version: str
    source: str | None
    """With branches and aliases resolved, where the caller knows to what."""
    source_secret: str | None
    engine: EngineSpec
    image: str
    image_pull_policy: str | None
    kv_transfer: KvTransferSpec
    prefill: RoleSpec | None
    """None: the decode workers serve alone."""
    decode: RoleSpec

    @property
    def disaggregated(self) -> bool:
        return self.prefill is not None

    def role(self, role: Role) -> RoleSpec | None:
        """The role's settings; None for `prefill` where the version has none."""
        return self.prefill if role == "prefill" else self.decode


def resolve(
    service: InferenceService,
    version: VersionSpec,
    settings: Settings | None = None,
    *,
    source: str | None = None,
    image: str | None = None,
    args: tuple[str, ...] = (),
) -> EffectiveVersion:
    """Applies a version's overrides and the installation's defaults.

    Args:
        service: The resource.
        version: One of its versions.
        settings: The installation's; default: as if nothing had been set.
        source: What the version's source was resolved to (one commit, one registered version).
        image: What the version's image was resolved to, where a former decision has to stand.
        args: Of the engine, that its registered version brings along: the manifest's own follow, and so win.
    """
    settings = settings or Settings()
    decode = merged(service.spec.decode, version.decode)
    assert decode is not None
    default_image = settings.vllm_image if version.engine.fetches else settings.virtual_image
    return EffectiveVersion(
        namespace=service.metadata.namespace,
        service=service.metadata.name,
        model=service.model,
        version=version.name,
        source=source or version.source,
        source_secret=version.source_secret.name if version.source_secret else None,
        engine=version.engine.model_copy(update={"args": (*args, *version.engine.args)}),
        image=version.image or image or default_image,
        image_pull_policy=version.image_pull_policy,
        kv_transfer=service.spec.kv_transfer,
        # Whatever the service's other versions do.
        prefill=merged(service.spec.prefill, version.prefill) if version.engine.prefills else None,
        decode=decode,
    )
