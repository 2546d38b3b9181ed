"""What a registry logs: one JSON object a line on stderr, as all programs of Tandem do."""

import logging
import sys

from tandem_api.logs import LEVELS, JsonLines, log_to


def configure(level: str) -> None:
    """Sends everything that this process logs to stderr as JSON lines."""
    # uvicorn's message once more, with colours.
    log_to(sys.stderr, JsonLines(["color_message"]), LEVELS[level])
    logging.getLogger("alembic").setLevel(logging.WARNING)
