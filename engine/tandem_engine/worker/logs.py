"""Logs as JSON, one object a line, for machines that collect them."""

import json
import logging
import time
import traceback
from types import TracebackType
from typing import TextIO

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
MAX_TEXT = 4_000
"""Characters of a message or of an exception's text."""


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message, and every `extra` field of a record. `fixed` fields stand in every line."""

    def __init__(self, **fixed: str) -> None:
        super().__init__()
        self._fixed = fixed

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:MAX_TEXT],
            **self._fixed,
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info is not None and record.exc_info[1] is not None:
            line["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"[:MAX_TEXT]
            line["stack"] = _frames(record.exc_info[2])
        return json.dumps(line, default=str, ensure_ascii=False)


def log_as_json(stream: TextIO, level: str, **fixed: str) -> None:
    """Sends all logs of this process to `stream`, in place of where they went."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(**fixed))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def _frames(trace: TracebackType | None) -> list[str]:
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)]
