"""What a registry logs: one JSON object a line on stderr, as all programs of Tandem do."""

import logging
import sys
from datetime import datetime
from typing import Any, Final

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter as JsonLines

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class JsonFormatter(JsonLines):
    """A log record as a JSON object: time, level, logger, message, exception, and its extra fields."""

    def __init__(self) -> None:
        super().__init__(
            ("levelname", "name", "message"),
            timestamp="time",
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
            reserved_attrs=[*RESERVED_ATTRS, "color_message"],
            json_default=str,
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        moment: datetime = log_data.pop("time")
        log_data["level"] = log_data["level"].lower()
        return {"time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"), **log_data}


def configure(level: str) -> None:
    """Sends everything that this process logs to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=LEVELS[level], handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)
