"""`python -m tandem_operator --settings FILE`: the operator of one installation."""

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from tandem_operator import logs
from tandem_operator.process import run
from tandem_operator.settings import load


def main() -> None:
    """Runs until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tandem_operator", description=__doc__)
    parser.add_argument("--settings", type=Path, required=True, help="YAML, as the chart renders it")
    settings = load(parser.parse_args().settings)
    logs.configure(settings.log_level)
    # Until kopf listens for it. A container's first process ignores SIGTERM unless it says otherwise.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    asyncio.run(
        run(
            settings,
            instance=os.environ.get("POD_NAME", "tandem-operator"),
            hub=os.environ.get("HF_ENDPOINT", "https://huggingface.co"),
            clock=time.time,
            timestamp=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
    )
    logging.getLogger(__name__).info("stopped")


if __name__ == "__main__":
    main()
