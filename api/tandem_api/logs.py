"""What every program of Tandem logs: one JSON object a line, with the same fields, for machines that collect them."""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TextIO

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class JsonLines(JsonFormatter):
    """A log record as a JSON object: time (RFC 3339), level, logger, message, exception, and its `extra` fields.

    Args:
        leave_out: Fields that a library hangs on its records for itself.
        fixed: Fields that stand in every line.
        ascii: Whether other characters are escaped.
    """

    def __init__(
        self, leave_out: Sequence[str] = (), fixed: Mapping[str, str] | None = None, *, ascii: bool = True
    ) -> None:
        super().__init__(
            ("levelname", "name", "message"),
            timestamp="time",
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
            static_fields=dict(fixed or {}),
            reserved_attrs=[*RESERVED_ATTRS, *leave_out],
            json_default=str,
            json_ensure_ascii=ascii,
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        moment: datetime = log_data.pop("time")
        log_data["level"] = log_data["level"].lower()
        return {"time": rfc3339(moment), **log_data}


def log_to(stream: TextIO, formatter: logging.Formatter, level: int | str) -> None:
    """Sends all logs of this process to `stream`, in place of where they went."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)


def rfc3339(moment: datetime) -> str:
    """A moment in UTC, with milliseconds."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
