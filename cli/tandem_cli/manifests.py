"""Manifest files as commands take them: several of them, with one text for all that is wrong."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click
from tandem_api.inference_service import InferenceService
from tandem_api.manifest import ManifestError, load
from tandem_api.ownership import Claim, taken

from tandem_cli.failing import Failed

_STDIN: Final = Path("-")


def load_files(files: Sequence[Path]) -> list[InferenceService]:
    """The services of all files, in order; `-` is standard input.

    Raises:
        Failed: with all problems of all files, one a line; or two services claim one name.
    """
    services: list[InferenceService] = []
    problems: list[str] = []
    for file in files:
        try:
            services += load(_standard_input(), "standard input") if file == _STDIN else load(file)
        except ManifestError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{file}: {error.strerror or error}")
    if problems:
        raise Failed("\n".join(problems), "`tandem crd` has every field; README.md the smallest manifest")
    _check_names(services)
    return services


def _standard_input() -> str:
    return sys.stdin.buffer.read().decode(errors="replace")


def _check_names(services: Sequence[InferenceService]) -> None:
    keys = [service.key for service in services]
    for key in keys:
        if keys.count(key) > 1:
            raise Failed(f"InferenceService {key} is there twice", "rename one of them, or leave one file out")
    for key, owner in taken(Claim(s.key, s.model, s.metadata.creation_timestamp) for s in services).items():
        model = next(service.model for service in services if service.key == key)
        raise Failed(f"{owner} and {key} both serve the model {model!r}", "give one of them another spec.model")


def files_option(*, required: bool, default: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option `-f`, given to a command as `files`. `default` tells what is taken without it."""
    return click.option(
        "-f",
        "--file",
        "files",
        multiple=True,
        required=required,
        type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
        help="A manifest of InferenceServices, - for standard input; may be given several times."
        f"{default and f' Default: {default}.'}",
    )
