"""All paths of virtual models."""

from typing import Any, Final

from fastapi import APIRouter
from starlette.routing import Route
from tandem_api.surfaces import Chat, Messages, Responses, Surface
from tandem_virtual.answering import Models
from tandem_virtual.registry import Protocol, Registry

from tandem_router.router import Router
from tandem_router.virtual.endpoint import Elsewhere, VirtualEndpoint
from tandem_router.virtual.models import RouterModels

_COUNT: Final = "messages/count_tokens"
_OPENAI: Final[dict[str, type[Surface]]] = {"chat/completions": Chat, "responses": Responses}
_ANTHROPIC: Final[dict[str, type[Surface]]] = {"messages": Messages, _COUNT: Messages}
_PREFIXES: Final = {
    "/virtual/v1": _OPENAI | _ANTHROPIC,
    "/virtual/openai/v1": _OPENAI,
    "/virtual/anthropic/v1": _ANTHROPIC,
}


def virtual_paths() -> dict[str, str]:
    """All paths behind /virtual that are posted to, each with its end, which says its API."""
    return {f"{prefix}/{end}": end for prefix, ends in _PREFIXES.items() for end in ends}


def inference_routes(router: Router, models: RouterModels, elsewhere: Elsewhere) -> list[Route]:
    """The paths that virtual models answer behind /virtual."""
    surfaces = _OPENAI | _ANTHROPIC
    return [
        Route(
            path,
            VirtualEndpoint(
                router, models, surfaces[end](), models.walled(_protocol(end)), elsewhere, counts=end == _COUNT
            ),
            methods=["POST"],
        )
        for path, end in virtual_paths().items()
    ]


def listed_endpoints(
    router: Router, models: RouterModels, elsewhere: Elsewhere
) -> dict[str, tuple[VirtualEndpoint, Models]]:
    """What answers for virtual models in /v1, and for which, by path."""
    found = {}
    for end, surface in (_OPENAI | _ANTHROPIC).items():
        reachable = models.listed(_protocol(end))
        endpoint = VirtualEndpoint(router, models, surface(), reachable, elsewhere, counts=end == _COUNT)
        found[f"/v1/{end}"] = (endpoint, reachable)
    return found


def list_paths(models: RouterModels) -> APIRouter:
    """Lists of models, in the shape of each protocol."""
    paths = APIRouter()
    registries = models.registries

    @paths.get("/virtual/v1/models", summary="All virtual models")
    async def all_models() -> dict[str, Any]:
        return {"object": "list", "data": registries.list_models()}

    @paths.get("/virtual/openai/v1/models", summary="The virtual models of OpenAI's APIs")
    async def openai_models() -> dict[str, Any]:
        return {"object": "list", "data": registries.openai.list_models()}

    @paths.get("/virtual/anthropic/v1/models", summary="The virtual models of Anthropic's API")
    async def anthropic_models() -> dict[str, Any]:
        return _page(registries.anthropic)

    return paths


def _page(registry: Registry) -> dict[str, Any]:
    """Anthropic's list, all on one page (requirements VS-05)."""
    data = registry.list_models()
    ids = [entry["id"] for entry in data]
    return {"data": data, "first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None, "has_more": False}


def _protocol(end: str) -> Protocol:
    return Protocol.ANTHROPIC if end in _ANTHROPIC else Protocol.OPENAI
