"""What the local platform is told, as a value: the flags of `tandem up` become it, tests make it by hand."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tandem_cli.defaults import DEFAULT_HOST, DEFAULT_PORT
from tandem_cli.keys import Door


@dataclass(frozen=True, slots=True)
class PlatformSettings:
    """Durations are in seconds."""

    cache: Path
    """Folder in which fetched models stay between runs."""
    environment: Mapping[str, str]
    """The machine's, which every program inherits: proxies, certificates, credentials."""
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    """Of the router; 0: any that is free."""
    door: Door = Door()  # noqa: RUF009 - a frozen value
    """Who may use it."""
    gpus: tuple[str, ...] | None = None
    """To deal out; None: workers see what there is."""
    state: Path | None = None
    """Folder for topology, logs and registry, which stays; None: a temporary one."""
    registry: bool = False
    """Start a model registry, too."""
    grace: float = 30.0
    """How long open streams may go on after Ctrl-C."""
