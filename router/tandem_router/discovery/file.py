"""Topologies from a JSON file that is replaced whole: by the local platform, or by a person."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pydantic import ValidationError
from tandem_api.topology import Topology

_log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.25

_Stamp = tuple[int, int, int]


class FileSource:
    """Watches one file. A bad one is said and changes nothing: what it had said before goes on."""

    def __init__(self, path: Path, poll: float = POLL_SECONDS) -> None:
        self._path = path
        self._poll = poll

    async def follow(self, tell: Callable[[Topology], None]) -> None:
        seen: _Stamp | None = None
        missing = False
        while True:
            stamp = self._stamp()
            if stamp is None and not missing:
                _log.warning("%s is not there; what it said before stays in force", self._path)
            missing = stamp is None
            if stamp is not None and stamp != seen:
                seen = stamp
                if (topology := self._read()) is not None:
                    tell(topology)
            await asyncio.sleep(self._poll)

    def _stamp(self) -> _Stamp | None:
        """Changes whenever the file is replaced or written."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self) -> Topology | None:
        try:
            return Topology.model_validate_json(self._path.read_bytes())
        except (OSError, ValidationError) as error:
            _log.error("%s can't be used and is left out until it changes: %s", self._path, error)
            return None
