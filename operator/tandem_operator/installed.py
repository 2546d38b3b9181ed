"""From the settings that people write to the values that the planner takes."""

from tandem_operator.planning.installation import Installation, Peer, Policies
from tandem_operator.planning.resolving import Settings
from tandem_operator.settings import OperatorSettings, PolicySettings


def installation_of(settings: OperatorSettings) -> Installation:
    """The installation, as the planner knows it."""
    return Installation(
        settings=Settings(
            vllm_image=settings.images.vllm,
            virtual_image=settings.images.virtual,
            tls_secret=settings.tls_secret,
            env=settings.worker_env,
            image_pull_policy=settings.images.pull_policy,
            image_pull_secrets=tuple(secret.name for secret in settings.image_pull_secrets),
        ),
        url=settings.router.url,
        policies=_policies(settings.network_policies) if settings.network_policies.enabled else None,
        rehearse=settings.rehearse,
    )


def _policies(settings: PolicySettings) -> Policies:
    return Policies(
        routers=Peer(settings.routers.namespace, settings.routers.pods),
        monitoring=tuple(
            Peer(_labels(peer.get("namespaceSelector")), _labels(peer.get("podSelector")))
            for peer in settings.monitoring
        ),
        downloads=settings.downloads.cidrs,
    )


def _labels(selector: object) -> dict[str, str]:
    """Of a label selector, what it matches exactly."""
    return dict(selector.get("matchLabels") or {}) if isinstance(selector, dict) else {}
