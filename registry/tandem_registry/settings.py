"""What a registry is told when it starts."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import URL

from tandem_registry.access import Keys


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one process."""

    database: URL
    storage: str
    """URL."""
    keys: Keys
    max_file_bytes: int = 10 * 10**9
    keep: timedelta = timedelta(hours=24)
    """How long unfinished uploads, and files of no artifact, are kept."""
    sweep_seconds: float = 3600.0
    host: str = "127.0.0.1"
    port: int = 8090
    log_level: str = "info"
