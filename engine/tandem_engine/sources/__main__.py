"""`python -m tandem_engine.sources fetch|resolve`: sources on a command line, and in the init container of a worker.

stdout has the pinned URI, stderr the progress. The exit status is 0, 1 for a source that can't be had, 2 for a wrong
command line, 143 after SIGTERM.
"""

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from tandem_engine.sources.errors import SourceError
from tandem_engine.sources.fetching import default_cache, fetch, resolve
from tandem_engine.sources.progress import LineWriter, Progress
from tandem_engine.sources.source import Work


def main(argv: list[str]) -> int:
    """Run the command; the result is its exit status."""
    arguments = _parser().parse_args(argv)
    as_json = arguments.progress == "json" if arguments.progress else not sys.stderr.isatty()
    report = LineWriter(sys.stderr, "json" if as_json else "text")
    work = Work(report=report, parallel=arguments.parallel)
    signal.signal(signal.SIGTERM, _terminate)  # An exception, so that threads and programs of the fetch end with it.
    try:
        if arguments.command == "resolve":
            print(resolve(arguments.source, work, arguments.mount))
        else:
            cache = arguments.cache or default_cache(os.environ)
            print(fetch(arguments.source, arguments.to, work, cache=cache, mount=arguments.mount))
    except SourceError as error:
        report(Progress("error", f"{type(error).__name__}: {error}"))
        return 1
    except KeyboardInterrupt:
        report(Progress("error", "Interrupted. What was fetched is kept for the next call."))
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tandem_engine.sources", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--source", required=True, metavar="URI", help="hf://, s3://, registry://, ...")
    common.add_argument("--mount", type=Path, metavar="DIR", help="where the claim of a pvc:// source is mounted")
    common.add_argument("--progress", choices=["json", "text"], help="default: text on a terminal, else json")
    common.add_argument("--parallel", type=_positive, default=4, metavar="N", help="files side by side (4)")
    fetching = commands.add_parser("fetch", parents=[common], help="make a folder with the model")
    fetching.add_argument("--to", type=Path, required=True, metavar="DIR", help="the folder; no mount point itself")
    fetching.add_argument("--cache", type=Path, metavar="DIR", help="keep models here (default: TANDEM_CACHE)")
    commands.add_parser("resolve", parents=[common], help="print the URI with what it stands for pinned")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError("a number from 1 to 64")
    return int(text)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(143)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
