"""What the operator logs: one JSON object a line on stderr, with the fields that workers and routers use."""

import logging
import sys
from typing import Final, TextIO

from tandem_api.logs import LEVELS, JsonLines, log_to

_KOPF_FIELDS: Final = ("k8s_skip", "k8s_ref", "settings")
"""What kopf hangs on its records for its own handlers."""


def configure(level: str, stream: TextIO | None = None) -> None:
    """Sends everything that this process logs to `stream` (stderr) as JSON lines."""
    log_to(stream or sys.stderr, JsonLines(_KOPF_FIELDS), LEVELS[level])
    # Each event of each object, each request and each probe of the kubelet's are theirs at info.
    for name in ("kopf", "httpx", "httpx2", "httpcore", "httpcore2", "aiohttp.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
