"""From the settings that people write to the values that the planner takes."""

from collections.abc import Iterable
from typing import Any

from tandem_operator.planning.installation import Installation, Peer, Policies
from tandem_operator.planning.resolving import Settings
from tandem_operator.settings import OperatorSettings, PolicySettings


def installation_of(settings: OperatorSettings) -> Installation:
    """The installation, as the planner knows it."""
    registry = settings.registry
    return Installation(
        settings=Settings(
            vllm_image=settings.images.vllm,
            virtual_image=settings.images.virtual,
            tls_secret=settings.tls_secret,
            env=settings.worker_env,
            image_pull_policy=settings.images.pull_policy,
            registry_url=registry.url if registry else None,
            registry_key=(key.name, key.key) if registry and (key := registry.worker_key) else None,
            image_pull_secrets=tuple(secret.name for secret in settings.image_pull_secrets),
        ),
        url=settings.router.url,
        policies=_policies(settings.network_policies) if settings.network_policies.enabled else None,
        rehearse=settings.rehearse,
        registry=registry is not None,
    )


def _policies(settings: PolicySettings) -> Policies:
    return Policies(
        routers=Peer(settings.routers.namespace, settings.routers.pods),
        monitoring=settings.monitoring,
        dns=settings.dns,
        downloads=tuple(_network(cidr, settings.downloads.excluded) for cidr in settings.downloads.cidrs),
        download_ports=settings.downloads.ports,
        registry=settings.registry,
        extra_egress=settings.extra_egress,
    )


def _network(cidr: str, excluded: Iterable[str]) -> dict[str, Any]:
    """A network as a peer. An exception has to lie within it, so networks of one's own have none."""
    holes = [hole for hole in excluded if cidr.endswith("/0") and (":" in hole) == (":" in cidr)]
    return {"ipBlock": {"cidr": cidr, **({"except": holes} if holes else {})}}
