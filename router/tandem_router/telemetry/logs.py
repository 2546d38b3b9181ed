"""What a router logs: one JSON object a line on stderr, the program's own messages and one for each request.

A request's line costs a system call, which on a busy router is a good part of the request: lines are gathered for a
moment and written together. Errors are written at once.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TextIO

import msgspec
from tandem_api.logs import LEVELS, JsonLines, log_to, rfc3339

GATHER_SECONDS: Final = 0.2


class JsonFormatter(JsonLines):
    """As all programs format it."""

    def __init__(self) -> None:
        # uvicorn's message once more, with colours.
        super().__init__(["color_message"])


def configure(level: str, stream: TextIO | None = None) -> None:
    """Sends everything that this process logs to `stream` (stderr) as JSON lines."""
    log_to(stream or sys.stderr, JsonFormatter(), LEVELS[level])
    # It says every request of its own at level info.
    logging.getLogger("httpx2").setLevel(max(LEVELS[level], logging.WARNING))


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC, with milliseconds."""
    return rfc3339(datetime.fromtimestamp(seconds, UTC))


class Access(msgspec.Struct, omit_defaults=True):
    """One request's line, on whatever path: the names and units that people's log queries rely on.

    What it says of an inference request comes from its `tandem_router.telemetry.record.Record`, which is made for
    accounting and free to change. Members that are empty are left out.
    """

    time: str
    level: str
    message: str
    method: str
    path: str
    """Escaped as the client sent it."""
    status_code: int
    latency_ms: float
    request_id: str
    key: str = ""
    """The id of the client's API key, never the key."""
    response_id: str = ""
    model: str = ""
    service: str = ""
    version: str = ""
    prefill_worker: str = ""
    decode_worker: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str = ""
    ttft_ms: float = 0.0
    queued_ms: float = 0.0
    kv: str = ""
    kv_reason: str = ""
    kv_bytes: int = 0
    retries: list[str] = []
    error: str = ""


class AccessLog:
    """Writes requests' lines, several at once."""

    def __init__(self, level: str, write: Callable[[str], object] | None = None) -> None:
        self._level = LEVELS[level]
        self._write = write or _to_stderr
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._second = 0
        self._prefix = ""

    def wants(self, status: int, error: str) -> bool:
        return LEVELS[_level(status, error)] >= self._level

    def add(self, access: Access) -> None:
        """Takes a line; its time and level are set here."""
        access.time = self._now()
        access.level = _level(access.status_code, access.error)
        self._lines.append(msgspec.json.encode(access))
        if access.level == "error":
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self.flush)

    def _now(self) -> str:
        """As `timestamp` has it, put together anew only once a second."""
        now = time.time()
        if int(now) != self._second:
            self._second = int(now)
            self._prefix = timestamp(self._second)[:-4]
        return f"{self._prefix}{int(now % 1 * 1000):03d}Z"

    def flush(self) -> None:
        """Writes what has been gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            self._write(b"\n".join(lines).decode() + "\n")


def _level(status: int, error: str) -> str:
    """A stream that failed after status 200 is an error, too; a client that went away isn't."""
    if status >= 500 or (error and status < 400 and not error.startswith("client_")):
        return "error"
    return "warning" if status >= 400 else "info"


def _to_stderr(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
