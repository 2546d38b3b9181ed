"""Logs as JSON, one object a line, for machines that collect them. All programs' lines have the same fields."""

from typing import Any, TextIO

from tandem_api.logs import JsonLines, log_to

MAX_TEXT = 4_000
"""Characters of a message or of an exception's text."""


class JsonFormatter(JsonLines):
    """As all programs format it, with long texts cut in the middle. `fixed` fields stand in every line."""

    def __init__(self, **fixed: str) -> None:
        super().__init__(fixed=fixed, ascii=False)

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        for field in log_data.keys() & {"message", "exception"}:
            log_data[field] = _short(log_data[field])
        return super().process_log_record(log_data)


def log_as_json(stream: TextIO, level: str, **fixed: str) -> None:
    """Sends all logs of this process to `stream`, in place of where they went."""
    log_to(stream, JsonFormatter(**fixed), level)


def _short(text: str) -> str:
    """Without its middle, where it is long: an exception says at its end what it is."""
    half = MAX_TEXT // 2
    return text if len(text) <= MAX_TEXT else f"{text[:half]} ... {text[-half:]}"
