"""The FastAPI application: all paths of a router, their errors in OpenAI's shape, and its life."""

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from http import HTTPStatus
from typing import Any, Final

import yaml
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Route
from tandem_api.anthropic.errors import error_body as anthropic_error
from tandem_api.anthropic.errors import error_type
from tandem_api.openai.errors import error_body, failure_body
from tandem_api.status import RouterStatus
from tandem_api.surfaces.types import openai_type
from tandem_proto.tandem.v1 import worker_pb2 as pb
from tandem_virtual.registry import Protocol

from tandem_router.access.callers import CALLER, Refused
from tandem_router.access.guard import Guard, Refusal
from tandem_router.access.openapi import with_keys
from tandem_router.endpoints.feedback import SCHEMA, Feedback
from tandem_router.endpoints.inference import (
    NO_STORE,
    SECURITY_HEADERS,
    Inference,
    read_body,
    request_id,
    request_id_headers,
)
from tandem_router.endpoints.metrics import CONTENT_TYPE, Exposition, RouterCollector
from tandem_router.endpoints.openapi import with_inference
from tandem_router.endpoints.relaying import ADMIN, Relay
from tandem_router.endpoints.status import status
from tandem_router.failures import RETRY_SECONDS, CallFailed
from tandem_router.frontends.clients import Message, Receive, Scope, Send
from tandem_router.frontends.direct import detach
from tandem_router.frontends.parsing import FRONTENDS
from tandem_router.frontends.shapes import is_anthropic
from tandem_router.limits.limiter import GRANT
from tandem_router.router import Router
from tandem_router.scheduling.fleet import Service
from tandem_router.telemetry.logs import Access
from tandem_router.virtual.admin import admin_paths
from tandem_router.virtual.endpoint import Asgi
from tandem_router.virtual.listed import Listed
from tandem_router.virtual.models import RouterModels
from tandem_router.virtual.openapi import with_virtual
from tandem_router.virtual.paths import inference_routes, list_paths, listed_endpoints, virtual_paths

_log = logging.getLogger(__name__)

_OWNER: Final = "tandem"
_POSTED: Final = frozenset({*(frontend.path for frontend in FRONTENDS), *virtual_paths()})
"""Paths for inference: limits hold there, and each is counted by its name."""
_QUIET: Final = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json", "/openapi.yaml"})


class RouterApp(FastAPI):
    """FastAPI, whose inference paths are plain ASGI routes that skip its middleware and its matching of paths.

    They do for themselves what `_Envelope` does for the rest.
    """

    def __init__(self, router: Router) -> None:
        relay = Relay(router.settings.registry_url)
        super().__init__(
            title="Tandem router",
            version="1",
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            lifespan=_lifespan(router, relay),
        )
        self._platform = router
        self._guard = Guard(router.settings.access, router.keys)
        self._inference: dict[str, Asgi] = {frontend.path: Inference(router, frontend) for frontend in FRONTENDS}
        virtual = router.settings.virtual
        models = RouterModels(virtual, time.time, router.entropy) if virtual.enabled else None
        if models is not None:
            self._add_virtual(router, models)
        for path, endpoint in self._inference.items():
            self.router.routes.append(Route(path, endpoint, methods=["POST"]))
        self.router.routes.append(Route(f"{ADMIN}{{path:path}}", relay, methods=None))
        self.add_middleware(_Envelope, router=router)
        self.add_exception_handler(HTTPException, _http_error)
        self.add_exception_handler(RequestValidationError, _validation_error)
        self.add_exception_handler(Exception, _unforeseen)
        _add_paths(self, router, models)

    def _add_virtual(self, router: Router, models: RouterModels) -> None:
        real: dict[str, Asgi] = dict(self._inference)
        self.router.routes += inference_routes(router, models, self._inference.get)
        self.include_router(list_paths(models))
        self.include_router(admin_paths(models))
        if not models.settings.listed:
            return
        for path, (endpoint, reachable) in listed_endpoints(router, models, real.get).items():
            if path in real:
                self._inference[path] = Listed(
                    real[path],
                    endpoint,
                    reachable,
                    served=lambda model: model in router.fleet.services,
                    enveloped=lambda app: _Envelope(app, router),
                    settings=router.settings,
                )
            else:
                self.router.routes.append(Route(path, endpoint, methods=["POST"]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        try:
            caller = self._guard.admit(scope)
            if scope["path"] in _POSTED and scope["method"] == "POST":
                await self._platform.limiter.admit(caller, scope)
            endpoint = self._inference.get(scope["path"]) if scope["method"] == "POST" else None
            await (endpoint or super().__call__)(scope, receive, send)
        except Refused as refused:
            self._platform.measures.refused[refused.reason] += 1
            await _Envelope(Refusal(refused), self._platform)(scope, receive, send)
        finally:
            detach(scope)

    def openapi(self) -> dict[str, Any]:
        """The description of all paths, with those that FastAPI does not know of."""
        if self.openapi_schema is None:
            self.openapi_schema = with_inference(super().openapi())
            if self._platform.settings.virtual.enabled:
                self.openapi_schema = with_virtual(self.openapi_schema, virtual_paths())
            if self._platform.settings.access.required:
                self.openapi_schema = with_keys(self.openapi_schema)
        return self.openapi_schema


def _lifespan(router: Router, relay: Relay) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with router, relay:
            yield

    return lifespan


def _add_paths(app: RouterApp, router: Router, virtual_models: RouterModels | None) -> None:
    virtual = virtual_models.registries if virtual_models is not None and virtual_models.settings.listed else None

    @cache
    def exposition() -> Exposition:
        return Exposition(RouterCollector(router.measures, router.fleet, router.keys, router.limiter))

    @cache
    def scores() -> Feedback:
        return Feedback(router.ids, router.fleet, router.measures)

    @app.get("/v1/models", summary="The models that are served here, ready or not")
    async def models() -> dict[str, Any]:
        services = router.fleet.services
        listed = [] if virtual is None else [entry for entry in virtual.list_models() if entry["id"] not in services]
        return {"object": "list", "data": [*(_model(service) for service in services.values()), *listed]}

    @app.get(
        "/v1/models/{id:path}",
        summary="One model; its id may contain slashes",
        responses={
            404: {"description": "The model does not exist"},
            503: {"description": "The router does not know its models yet"},
        },
    )
    async def model(id: str) -> dict[str, Any]:
        service = router.fleet.services.get(id)
        if service is None and virtual is not None and (found := virtual.find(id, Protocol.OPENAI)) is not None:
            return dict(found.listed())
        if service is None and not router.fleet.known:
            retry = {"Retry-After": str(RETRY_SECONDS[pb.UNAVAILABLE])}
            raise HTTPException(503, "the router does not know its models yet", retry)
        if service is None:
            raise ModelNotFound(id)
        return _model(service)

    @app.post(
        "/v1/feedback",
        summary="Say what an answer is worth: a score for a response's id, once",
        openapi_extra=SCHEMA,
        responses={
            400: {"description": "The request is wrong: what, and in which member"},
            404: {"description": "The id is none of a response of this service"},
            409: {"description": "The response has another score"},
            410: {"description": "The experiment in which the response was given is over"},
        },
    )
    async def feedback(request: Request) -> dict[str, Any]:
        try:
            body = await read_body(request.scope, request.receive, dict(request.scope["headers"]), router.settings)
        except CallFailed as failure:
            raise HTTPException(413 if failure.code == pb.REQUEST_TOO_LARGE else 400, failure.message) from None
        return scores().take(body)

    @app.get("/healthz", summary="The process lives")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="It may get requests", responses={503: {"description": "Not ready"}})
    async def readyz() -> JSONResponse:
        return JSONResponse({"status": "ready"}) if router.ready else JSONResponse({"status": "not ready"}, 503)

    @app.get("/metrics", summary="Prometheus text", response_class=Response)
    async def metrics() -> Response:
        return Response(exposition().text(), media_type=CONTENT_TYPE)

    @app.get("/openapi.yaml", include_in_schema=False)
    async def openapi_yaml() -> Response:
        return Response(yaml.safe_dump(app.openapi(), sort_keys=False), media_type="application/yaml")

    @app.get("/tandem/v1/status", summary="What this router sees: services, versions, workers")
    async def tandem_status() -> RouterStatus:
        return status(router)


class ModelNotFound(HTTPException):
    """No such model."""

    def __init__(self, id: str) -> None:
        super().__init__(404, f"The model `{id}` does not exist")


def _model(service: Service) -> dict[str, Any]:
    return {"id": service.model, "object": "model", "created": service.created, "owned_by": _OWNER}


# ---- errors


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path, status = request.url.path, error.status_code
    message, code = error.detail or HTTPStatus(status).phrase, ""
    if status == 404 and message == HTTPStatus.NOT_FOUND.phrase:
        message, code = f"there is no path {path}", "not_found"
    elif status == 405:
        message, code = f"{request.method} is not allowed at {path}", "method_not_allowed"
    if is_anthropic(path):
        body = anthropic_error(message, type=error_type(status))
    elif isinstance(error, ModelNotFound):
        body = error_body(message, param="model", code="model_not_found")
    elif status == 503:
        body = failure_body("UNAVAILABLE", message)[1]
    else:
        body = error_body(message, type=openai_type(status), code=code)
    return Response(body, status, error.headers, "application/json")


async def _validation_error(request: Request, error: Exception) -> Response:
    return Response(error_body("invalid request"), 400, media_type="application/json")


async def _unforeseen(request: Request, error: Exception) -> Response:
    # Starlette raises it again when this is sent, and uvicorn logs it.
    body = error_body("internal server error", type="server_error", code="internal_error")
    return Response(body, 500, media_type="application/json")


# ---- what every response has


class _Envelope:
    """Headers, counts and the access log of all paths but inference. HEAD is GET without the body.

    Not so where another server answers: it would send the body for nothing.
    """

    def __init__(self, app: Any, router: Router) -> None:
        self._app = app
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        router, started = self._router, self._router.clock()
        id = request_id(dict(scope["headers"]), router.entropy)
        common = [*SECURITY_HEADERS, NO_STORE, *request_id_headers(scope["path"], id)]
        if GRANT in scope:
            common += scope[GRANT].headers
        if router.leaving:
            common.append((b"connection", b"close"))
        # What is not answered at all was given up by its client.
        answered = 499

        async def enveloped(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = message["status"]
                headers = message.get("headers", ())
                own = {name for name, _ in headers}
                message["headers"] = [*headers, *(header for header in common if header[0] not in own)]
            await send(message)

        heads = scope["method"] == "HEAD" and not scope["path"].startswith(ADMIN)
        inner = {**scope, "method": "GET"} if heads else scope
        router.measures.active += 1
        try:
            await self._app(inner, receive, enveloped)
        finally:
            router.measures.active -= 1
            self._account(scope, inner, id, answered, router.clock() - started)

    def _account(self, scope: Scope, inner: Scope, id: str, status: int, seconds: float) -> None:
        route = inner.get("route")
        if route is not None:
            endpoint = str(route.path).replace(":path", "")
        else:
            endpoint = scope["path"] if scope["path"] in _POSTED else "other"
        # Probes and scrapes are no news, and would drown what the requests of clients are counted for.
        quiet = endpoint in _QUIET
        if not quiet:
            self._router.measures.answered(endpoint, status, seconds)
        if (not quiet or self._router.settings.log_level == "debug") and self._router.access_log.wants(status, ""):
            path = scope["raw_path"].decode("ascii", "backslashreplace")
            self._router.access_log.add(
                Access(
                    time="",
                    level="",
                    message="request",
                    method=scope["method"],
                    path=path,
                    status_code=status,
                    latency_ms=round(seconds * 1000, 1),
                    request_id=id,
                    key=scope[CALLER].id if CALLER in scope else "",
                )
            )
