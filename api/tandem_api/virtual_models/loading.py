"""Files of virtual models: every problem told at once, with its line and its field."""

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from tandem_api.inference_service.quantities import MANIFEST
from tandem_api.manifest.documents import Document, read_documents
from tandem_api.manifest.errors import Finding, ManifestError, Position
from tandem_api.manifest.loading import without_echoes
from tandem_api.manifest.wording import location_of, wording
from tandem_api.virtual_models.spec import VirtualModelSpec, VirtualModelsSpec


def load_models(source: str | Path, name: str = "models") -> tuple[VirtualModelSpec, ...]:
    """The virtual models of a file, which has them under `models`.

    Args:
        source: The file's path, or its text.
        name: What to call a text in errors.

    Raises:
        ManifestError: with all that is wrong.
        OSError: the file can't be read.
    """
    text, file = (source.read_bytes(), str(source)) if isinstance(source, Path) else (source, name)
    documents, findings = read_documents(text)
    if not findings and len(documents) != 1:
        says = "holds several documents: put all models into one" if documents else "holds no models"
        findings.append(Finding(Position(1, 1), (), says))
    models: tuple[VirtualModelSpec, ...] = ()
    for document in documents[:1]:
        try:
            models = VirtualModelsSpec.model_validate_json(
                json.dumps(document.data), strict=True, by_alias=True, by_name=False, context={MANIFEST: True}
            ).models
        except ValidationError as error:
            findings += [
                Finding(
                    document.position(location_of(one), of_key=one["type"] == "extra_forbidden"),
                    location_of(one),
                    wording(one, VirtualModelsSpec),
                )
                for one in without_echoes(error.errors(include_url=False), VirtualModelsSpec)
            ]
        findings += _repeated(models, document)
        findings += _circles(models, document)
    if findings:
        raise ManifestError(file, findings)
    return models


def _repeated(models: tuple[VirtualModelSpec, ...], document: Document) -> Iterator[Finding]:
    first: dict[tuple[str, str], int] = {}
    for index, model in enumerate(models):
        for protocol in model.protocols:
            before = first.setdefault((model.id, protocol), index)
            if before != index:
                at = ("models", index, "id")
                says = f'"{model.id}" is there already for {protocol}, as models[{before}]: remove one'
                yield Finding(document.position(at), at, says)
                break


def _circles(models: tuple[VirtualModelSpec, ...], document: Document) -> Iterator[Finding]:
    """Proxies that forward in a circle, each circle told once, at its last proxy."""
    delegates = {(model.id, protocol): model.delegate_model for model in models for protocol in model.protocols}
    told: set[frozenset[str]] = set()
    for index, model in reversed(list(enumerate(models))):
        for protocol in model.protocols:
            way = [model.id]
            while (following := delegates.get((way[-1], protocol))) and following not in way:
                way.append(following)
            if following == model.id and frozenset(way) not in told:
                told.add(frozenset(way))
                at = ("models", index, "delegateModel")
                yield Finding(document.position(at), at, f"forwards in a circle: {' -> '.join((*way, following))}")
