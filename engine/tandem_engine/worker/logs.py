"""Logs as JSON, one object a line, for machines that collect them. The router's lines have the same fields."""

import logging
from datetime import datetime
from typing import Any, TextIO

from pythonjsonlogger import json

MAX_TEXT = 4_000
"""Characters of a message or of an exception's text."""


class JsonFormatter(json.JsonFormatter):
    """Time (RFC 3339), level, logger, message, exception, and every `extra` field of a record.

    `fixed` fields stand in every line.
    """

    def __init__(self, **fixed: str) -> None:
        super().__init__(
            ("levelname", "name", "message"),
            timestamp="time",
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
            static_fields=fixed,
            json_default=str,
            json_ensure_ascii=False,
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        moment: datetime = log_data.pop("time")
        log_data["level"] = log_data["level"].lower()
        for field in log_data.keys() & {"message", "exception"}:
            log_data[field] = _short(log_data[field])
        return {"time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"), **log_data}


def log_as_json(stream: TextIO, level: str, **fixed: str) -> None:
    """Sends all logs of this process to `stream`, in place of where they went."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(**fixed))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def _short(text: str) -> str:
    """Without its middle, where it is long: an exception says at its end what it is."""
    half = MAX_TEXT // 2
    return text if len(text) <= MAX_TEXT else f"{text[:half]} ... {text[-half:]}"
