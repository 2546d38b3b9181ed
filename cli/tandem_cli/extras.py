"""Parts of the distribution that an extra installs: looked for before a program is started that needs one."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final

from tandem_cli.failing import Failed

_MODULES: Final[Mapping[str, str]] = {"router": "fastapi", "worker": "grpc_reflection"}
"""By extra: a module that it brings, and that nothing else does."""


def need(*extras: str) -> None:
    """Checks that these extras are installed.

    Raises:
        Failed: one is not; with what to do.
    """
    missing = [extra for extra in extras if find_spec(_MODULES[extra]) is None]
    if missing:
        names = ",".join(missing)
        raise Failed(
            f"tandem-serving[{names}] is not installed in this Python environment",
            f"install it: pip install 'tandem-serving[{names}]'",
        )
