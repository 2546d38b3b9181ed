"""Worker processes as they run on this machine: what the kernel knows of them."""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

WORKERS = ("tandem_prefill", "tandem_decode")


@dataclass(frozen=True)
class Process:
    """A worker's process."""

    argv: tuple[str, ...]
    env: dict[str, str]
    config: dict[str, Any]
    """The file that `--config` names."""

    @property
    def belongs_to(self) -> tuple[str, str, str]:
        """Service without its namespace, version and role."""
        return self.config["service"].partition("/")[2], self.config["version"], self.config["role"]


def workers(namespace: str, among: Iterable[psutil.Process] | None = None) -> Iterator[Process]:
    """Those whose service is in a namespace, of the whole machine where no processes are given."""
    for process in psutil.process_iter() if among is None else among:
        with suppress(psutil.Error, OSError):
            argv = tuple(process.cmdline())
            if len(argv) > 3 and argv[1] == "-m" and argv[2] in WORKERS:
                path = argv[argv.index("--config") + 1]
                # As the process sees it: on the node, paths are those of its container.
                config = json.loads(Path(f"/proc/{process.pid}/root{path}").read_text())
                if config["service"].startswith(f"{namespace}/"):
                    yield Process(argv, process.environ(), config)
