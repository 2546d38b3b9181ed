"""Reading a file: documents, then fields, then what must fit together between them."""

import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tandem_api.inference_service.quantities import MANIFEST
from tandem_api.inference_service.rules import Location, Problem
from tandem_api.inference_service.service import GROUP, KIND, VERSION, InferenceService
from tandem_api.manifest.documents import Document, read_documents
from tandem_api.manifest.errors import Finding, ManifestError, Position
from tandem_api.manifest.wording import location_of, meant, shown, wording

API_VERSION: Final = f"{GROUP}/{VERSION}"
_BROKEN_RULES: Final = "tandem_rules"


@dataclass(frozen=True, slots=True)
class Other:
    """An object of another kind, which means nothing to Tandem."""

    kind: str
    """apiVersion and kind."""
    name: str
    line: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a file holds."""

    services: tuple[InferenceService, ...]
    others: tuple[Other, ...] = ()


def load(source: str | Path, name: str = "manifest") -> list[InferenceService]:
    """The InferenceServices of a file that holds nothing else.

    Args:
        source: The file's path, or its text.
        name: What to call a text in errors.

    Raises:
        ManifestError: with all that is wrong.
        OSError: the file can't be read.
    """
    text, file = _text(source, name)
    services, others, findings = _read(text)
    findings += [
        Finding(Position(other.line, 1), ("kind",), f"found {other.kind}: must be {KIND} of {API_VERSION}")
        for other in others
    ]
    if not findings and not services:
        findings.append(Finding(Position(1, 1), (), f"holds no {KIND}"))
    if findings:
        raise ManifestError(file, findings)
    return services


def read(source: str | Path, name: str = "manifest") -> Manifest:
    """The InferenceServices of a file, and what else it holds. Arguments and errors as of `load`."""
    text, file = _text(source, name)
    services, others, findings = _read(text)
    if findings:
        raise ManifestError(file, findings)
    return Manifest(tuple(services), tuple(others))


def _text(source: str | Path, name: str) -> tuple[str | bytes, str]:
    return (source.read_bytes(), str(source)) if isinstance(source, Path) else (source, name)


def _read(text: str | bytes) -> tuple[list[InferenceService], list[Other], list[Finding]]:
    documents, findings = read_documents(text)
    services: list[InferenceService] = []
    others: list[Other] = []
    places: dict[str, int] = {}
    for document in documents:
        line = document.position(()).line
        if not isinstance(document.data, dict):
            findings.append(
                Finding(document.position(()), (), f"found {shown(document.data)}: must be a mapping of fields")
            )
        elif (other := _other(document, line)) is not None:
            others.append(other)
        else:
            service, problems = _service(document)
            findings += problems
            if service is not None:
                if service.key in places:
                    where = document.position(("metadata", "name"))
                    says = f'"{service.key}" is there already, in line {places[service.key]}'
                    findings.append(Finding(where, ("metadata", "name"), says))
                places.setdefault(service.key, line)
                services.append(service)
    return services, others, findings


def _other(document: Document, line: int) -> Other | None:
    """The document, where it is of another API: with our group, or our kind and no group, it is meant for us."""
    api, kind = document.data.get("apiVersion"), document.data.get("kind")
    ours = api == API_VERSION or str(api).startswith(f"{GROUP}/") or (api is None and kind in (None, KIND))
    if ours:
        return None
    metadata = document.data.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return Other(f"{api} {kind}", str(name or ""), line)


def _service(document: Document) -> tuple[InferenceService | None, list[Finding]]:
    service, errors = _validate(document.data)
    if service is not None:
        return service, []
    plain = [error for error in errors if error["type"] != _BROKEN_RULES]
    findings = [
        Finding(
            document.position(location_of(error), of_key=error["type"] == "extra_forbidden"),
            location_of(error),
            wording(error),
        )
        for error in without_echoes(plain)
    ]
    broken = _broken(errors) if not plain else _broken_besides(document.data, plain)
    for problem in broken:
        location = ("spec", *problem.location)
        findings.append(Finding(document.position(location), location, problem.message))
    return None, findings


def _validate(data: Any) -> tuple[InferenceService | None, list[ErrorDetails]]:
    """As JSON, strictly: "1" is no number and 1 no text, for an API server either."""
    try:
        service = InferenceService.model_validate_json(
            json.dumps(data), strict=True, by_alias=True, by_name=False, context={MANIFEST: True}
        )
    except ValidationError as error:
        return None, error.errors(include_url=False)
    return service, []


def without_echoes(errors: list[ErrorDetails], root: type[BaseModel] = InferenceService) -> Iterable[ErrorDetails]:
    """Leaves out what is wrong only because something else is, which is said already.

    These are fields that are missing because their name is misspelt, and lists that are too short because what they
    hold is wrong.
    """
    misspelt = {meant(location_of(error), root) for error in errors if error["type"] == "extra_forbidden"}
    holders = {location_of(error)[:depth] for error in errors for depth in range(len(error["loc"]))}
    for error in errors:
        echoes = (error["type"] == "missing" and location_of(error) in misspelt) or (
            error["type"] == "too_short" and location_of(error) in holders
        )
        if not echoes:
            yield error


def _broken(errors: Iterable[ErrorDetails]) -> list[Problem]:
    return [problem for error in errors if error["type"] == _BROKEN_RULES for problem in error["ctx"]["problems"]]


def _broken_besides(data: Any, errors: list[ErrorDetails]) -> list[Problem]:
    """Rules that are broken whatever the wrong fields should have said.

    Rules need valid fields, so the wrong ones are taken away; what then looks broken because of that is left out.
    """
    pruned = copy.deepcopy(data)
    wrong = [location_of(error) for error in errors]
    for location in wrong:
        _remove(pruned, location)
    return [problem for problem in _broken(_validate(pruned)[1]) if not _doubtful(problem, wrong)]


def _remove(data: Any, location: Location) -> None:
    """Takes away the innermost mapping's field that holds a location."""
    while location and isinstance(location[-1], int):
        location = location[:-1]  # an item's neighbours keep their indices
    for part in location[:-1]:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return
    if location and isinstance(data, dict):
        data.pop(location[-1], None)


def _doubtful(problem: Problem, wrong: Iterable[Location]) -> bool:
    looked_at = [("spec", *location) for location in (problem.location, *problem.depends)]
    return any(_related(location, other) for location in looked_at for other in wrong)


def _related(one: Location, other: Location) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]
