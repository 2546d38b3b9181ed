"""Names and labels of what is made for a service."""

import hashlib
from typing import Final

from tandem_operator.planning.resolving import EffectiveVersion, Role

PREFIX: Final = "tandem.dev"
SERVICE: Final = f"{PREFIX}/service"
VERSION: Final = f"{PREFIX}/version"
REVISION: Final = f"{PREFIX}/revision"
ROLE: Final = f"{PREFIX}/role"
ROUTABLE: Final = f"{PREFIX}/Routable"
"""The pods' readiness gate: every router holds a session with the worker."""
APPLIED: Final = f"{PREFIX}/applied"
"""Annotation of children: a hash of what the operator last applied."""

_MAX: Final = 63
"""Of a Service's name, which is a DNS label."""


def child_name(version: EffectiveVersion, revision: str, role: Role) -> str:
    """Of the role's Deployment, headless Service and ConfigMap: at most 63 characters, unique in the namespace."""
    base, rest = f"{version.service}-{version.version}", f"-{role}-{revision}"
    if len(base) + len(rest) > _MAX:
        digest = hashlib.sha256(base.encode()).hexdigest()[:8]
        base = f"{base[: _MAX - len(rest) - len(digest) - 1].rstrip('-')}-{digest}"
    return base + rest


def service_account(service: str) -> str:
    """Of a service's workers."""
    return f"{service}-worker"


def service_labels(service: str) -> dict[str, str]:
    """Of what belongs to a service as a whole."""
    return {
        "app.kubernetes.io/name": "tandem-worker",
        "app.kubernetes.io/instance": service,
        "app.kubernetes.io/managed-by": "tandem-operator",
        SERVICE: service,
    }


def selector(version: EffectiveVersion, revision: str, role: Role) -> dict[str, str]:
    """Labels that the workers of one role of one revision have, and no others."""
    return {
        SERVICE: version.service,
        VERSION: version.version,
        REVISION: revision,
        ROLE: role,
    }


def labels(version: EffectiveVersion, revision: str, role: Role) -> dict[str, str]:
    """All labels of what is made for a role of a revision."""
    return {
        "app.kubernetes.io/name": "tandem-worker",
        "app.kubernetes.io/component": role,
        "app.kubernetes.io/instance": version.service,
        "app.kubernetes.io/managed-by": "tandem-operator",
        **selector(version, revision, role),
    }
