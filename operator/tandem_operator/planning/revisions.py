"""The name of a revision: a short hash of all that must restart a version's workers when it changes.

It is taken from what is asked for, never from what is rendered of it, so that a release which renders other pods
restarts nothing. Values that equal their defaults are left out: a field that a later release adds moves no revision
either.
"""

import hashlib
import json
from typing import Any, Final

from tandem_api.inference_service import RoleSpec

from tandem_operator.planning.resolving import ROLES, EffectiveVersion

_COUNTS: Final = {"replicas", "autoscaling"}
"""Of a role: change how many workers there are, and not what they are."""
_OF_TYPES: Final = {"virtual": "virtual", "upstream": "upstream", "virtualModel": "virtual_model"}
"""Fields of an engine that only one type of it reads."""


def revision_of(version: EffectiveVersion) -> str:
    """Eight hexadecimal digits. Weights, replicas, autoscaling, routing and rollout do not enter."""
    engine = version.engine.model_dump(mode="json", exclude_defaults=True)
    for type, field in _OF_TYPES.items():
        if version.engine.type != type:
            engine.pop(field, None)
    facts: dict[str, Any] = {
        # Names of children end in the revision: so those of service a-b with version c, and a with b-c, differ.
        "service": version.service,
        "version": version.version,
        "model": version.model,
        "source": version.source,
        "sourceSecret": version.source_secret,
        "engine": engine,
        "image": version.image,
        "imagePullPolicy": version.image_pull_policy,
        "kvTransfer": version.kv_transfer.model_dump(mode="json", exclude_defaults=True) if version.prefill else None,
        **{role: _role(settings) for role in ROLES if (settings := version.role(role)) is not None},
    }
    canonical = json.dumps({name: fact for name, fact in facts.items() if fact is not None}, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def _role(role: RoleSpec) -> dict[str, Any]:
    return role.model_dump(mode="json", exclude_defaults=True, exclude=_COUNTS)
