"""The model registry of the local platform: the pod that it runs as.

Nothing waits for it, and it leaves the processors to what serves: a platform comes up as fast with it as without.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tandem_cli.keys import Door
from tandem_cli.runner import PodTemplate

REGISTRY: Final = "registry"
REGISTRY_PORT: Final = 8090
URL_VARIABLE: Final = "TANDEM_REGISTRY_URL"
KEY_VARIABLE: Final = "TANDEM_REGISTRY_KEY_FILE"
"""Where workers look for it, and for the key."""
_GRACE: Final = 5
"""Seconds to end: an upload that is cut then can be carried on."""


def registry_installed() -> bool:
    """What it needs is an extra of the distribution."""
    return all(find_spec(module) is not None for module in ("alembic", "fsspec", "sqlalchemy"))


def registry_url(address: str) -> str:
    """Of the registry on a pod's address."""
    return f"http://{address}:{REGISTRY_PORT}"


def registry_template(state: Path, door: Door) -> PodTemplate:
    """A registry for the programs of this machine, with its database and its files in a folder of `state`.

    Whom the router lets in, it lets in.
    """
    access = ("--allow-no-auth",) if door.key_file is None else ("--static-key-file", str(door.key_file))
    folder = state.resolve() / "registry"
    return PodTemplate.model_validate(
        {
            "metadata": {"name": REGISTRY},
            "spec": {
                "terminationGracePeriodSeconds": _GRACE,
                "containers": [
                    {
                        "name": REGISTRY,
                        "command": ["nice", "-n", "10", sys.executable, "-m", "tandem_registry"],
                        "args": [
                            *("--database", f"sqlite:///{folder}/registry.db"),
                            *("--storage", f"file://{folder}/artifacts"),
                            *("--host", "$(POD_IP)", "--port", str(REGISTRY_PORT)),
                            *("--migrate", *access),
                        ],
                        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                    }
                ],
            },
        }
    )
