"""Changing the virtual models of a running router: declared as in a file, one at a time.

It takes a key with scope `admin`, as all below /admin/ does. What is changed here is in this process and gone with it,
so one of several replicas refuses: there, models belong into the chart's values, which all of them read.
"""

from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from tandem_api.inference_service.quantities import MANIFEST
from tandem_api.inference_service.rules import path_text
from tandem_api.manifest.loading import without_echoes
from tandem_api.manifest.wording import location_of, wording
from tandem_api.virtual_models import VirtualModelSpec
from tandem_virtual.building import build
from tandem_virtual.models import VirtualModel
from tandem_virtual.registry import AlreadyRegistered, Protocol, ProxyLoop

from tandem_router.virtual.models import RouterModels

_MAX_BODY: Final = 2**20

_DECLARATION: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["id"],
                    "properties": {"id": {"type": "string", "minLength": 1, "maxLength": 256}},
                }
            }
        },
    }
}
_CHANGES: Final[dict[int | str, dict[str, Any]]] = {
    400: {"description": "The request is wrong: what, and where"},
    404: {"description": "There is no such virtual model"},
    409: {"description": "There is one of that name already, or this router is one of several"},
    413: {"description": "The declaration is too large"},
    415: {"description": "It is not said to be JSON"},
}


def admin_paths(models: RouterModels) -> APIRouter:
    """The paths below /virtual/admin."""
    paths = APIRouter(prefix="/virtual/admin")
    registries = models.registries

    @paths.get("/models", summary="All virtual models, with the protocols they are reachable by")
    async def all_models() -> dict[str, Any]:
        found: dict[str, tuple[VirtualModel, list[str]]] = {}
        for protocol in Protocol:
            for model in registries.of(protocol).list():
                found.setdefault(model.id, (model, []))[1].append(protocol.value)
        return {"models": [_entry(model, protocols) for _, (model, protocols) in sorted(found.items())]}

    @paths.post(
        "/models",
        status_code=201,
        summary="Add a virtual model, declared as in a file",
        openapi_extra=_DECLARATION,
        responses=_CHANGES,
    )
    async def add(request: Request) -> dict[str, Any]:
        _refuse_replicas(models.settings.replicas)
        if not request.headers.get("content-type", "").startswith("application/json"):
            # A page in somebody's browser could send anything else to a router that needs no key.
            raise HTTPException(415, "send Content-Type: application/json")
        spec = _read(await request.body())
        model = build(spec)
        added = []
        try:
            for protocol in map(Protocol, spec.protocols):
                registries.of(protocol).register(model.twin())
                added.append(protocol)
        except (AlreadyRegistered, ProxyLoop) as error:
            for protocol in added:
                registries.of(protocol).unregister(spec.id)
            raise HTTPException(409 if isinstance(error, AlreadyRegistered) else 400, str(error)) from None
        return _entry(model, list(spec.protocols))

    @paths.delete(
        "/models/{id:path}",
        summary="Remove a virtual model from both protocols, or from one",
        responses={status: _CHANGES[status] for status in (400, 404, 409)},
    )
    async def remove(id: str, protocol: Protocol | None = None) -> dict[str, Any]:
        _refuse_replicas(models.settings.replicas)
        wanted = [registries.of(one) for one in Protocol if protocol in (None, one)]
        if not any(registry.has(id) for registry in wanted):
            raise HTTPException(404, f"there is no virtual model {id!r}")
        for registry in wanted:
            registry.unregister(id)
        return {"id": id, "object": "model", "deleted": True}

    return paths


def _refuse_replicas(count: int) -> None:
    if count > 1:
        where = "the chart's value virtualModels.models (or each router's --virtual-models)"
        raise HTTPException(409, f"this router is one of {count}: declare virtual models in {where}, for all of them")


def _read(body: bytes) -> VirtualModelSpec:
    if len(body) > _MAX_BODY:
        raise HTTPException(413, "the declaration is too large")
    try:
        return VirtualModelSpec.model_validate_json(
            body, strict=True, by_alias=True, by_name=False, context={MANIFEST: True}
        )
    except ValidationError as error:
        errors = error.errors(include_url=False)
        if errors[0]["type"] == "json_invalid":
            raise HTTPException(400, "the body is not valid JSON") from None
        said = [
            ": ".join(part for part in (path_text(location_of(one)), wording(one, VirtualModelSpec)) if part)
            for one in without_echoes(errors, VirtualModelSpec)
        ]
        raise HTTPException(400, "; ".join(said)) from None


def _entry(model: VirtualModel, protocols: list[str]) -> dict[str, Any]:
    return {
        "id": model.id,
        "type": model.type,
        "protocols": protocols,
        "name": model.display_name,
        "description": model.description,
        "delay": model.delay,
    }
