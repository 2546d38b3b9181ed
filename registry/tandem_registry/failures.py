"""What a request can fail with, in OpenAI's error shape.

Each failure says what was wrong, where, and what to do. What nobody foresaw is logged with its trace and told as an
internal error without any detail.
"""

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from tandem_api.openai.errors import error_object

from tandem_registry.storage import StorageFailed

_log = logging.getLogger(__name__)

DATABASE_FAILED = (DBAPIError, PoolTimeout)
"""What the database raises that a later attempt may not meet."""


class Failure(Exception):
    """A request that can't be fulfilled.

    Attributes:
        status: HTTP status.
        code: What programs tell failures apart by.
        param: The member, header or query parameter to blame.
        headers: More of the answer.
    """

    def __init__(self, status: int, code: str, message: str, param: str = "", **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def not_found(what: str, hint: str = "") -> Failure:
    """404: `what` names the thing: "model 'llama'"."""
    return Failure(404, "not_found", f"there is no {what}{': ' + hint if hint else ''}")


def conflict(code: str, message: str, param: str = "") -> Failure:
    """409: the state forbids it."""
    return Failure(409, code, message, param)


def invalid(message: str, param: str = "", code: str = "invalid_request") -> Failure:
    """400: the request itself is wrong."""
    return Failure(400, code, message, param)


def install(app: FastAPI) -> None:
    """Makes all errors of an app have the one shape."""
    app.add_exception_handler(Failure, _failed)
    app.add_exception_handler(RequestValidationError, _refused)
    app.add_exception_handler(HTTPException, _http)
    for kind in DATABASE_FAILED:
        app.add_exception_handler(kind, _database)
    app.add_exception_handler(StorageFailed, _storage)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unforeseen)


async def _storage(request: Request, error: Exception) -> JSONResponse:
    _log.error("the storage failed", extra={"path": request.url.path}, exc_info=error)
    return response(
        Failure(
            503,
            "storage_unavailable",
            "the registry's storage does not answer: try again in a moment; what was uploaded is kept",
            Retry_After="5",
        )
    )


def response(failure: Failure) -> JSONResponse:
    """A failure as an answer."""
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = "server_error" if failure.status >= 500 else kinds.get(failure.status, "invalid_request_error")
    error = error_object(failure.message, type=kind, param=failure.param, code=failure.code)
    return JSONResponse({"error": error}, failure.status, failure.headers)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Failure)
    return response(error)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    where = ".".join(place[1:] if place[0] in ("body", "query", "path", "header") else place)
    if first["type"] == "json_invalid":
        return response(invalid(f"the body is not JSON: {first['ctx']['error']}", "body"))
    if place == ["body"] and not request.headers.get("content-type", "").startswith("application/json"):
        # Not read as JSON without it: a page in somebody's browser could send anything else from there.
        return response(Failure(415, "unsupported_media_type", "send Content-Type: application/json", "Content-Type"))
    return response(invalid(f"{where or 'the body'}: {first['msg']}", where))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return response(not_found(f"path {request.url.path}", "GET /openapi.json lists those that are"))
    phrase = HTTPStatus(error.status_code).phrase.lower()
    failure = Failure(error.status_code, phrase.replace(" ", "_"), f"{request.method} {request.url.path}: {phrase}")
    failure.headers = dict(error.headers or {})
    return response(failure)


async def _database(request: Request, error: Exception) -> JSONResponse:
    return database_failed(request, error)


def database_failed(request: Request, error: Exception) -> JSONResponse:
    """The answer to a request that the database kept from being fulfilled."""
    _log.error("the database failed", extra={"path": request.url.path}, exc_info=error)
    return response(
        Failure(
            503,
            "database_unavailable",
            "the registry's database does not answer in time: try again in a moment; what is served goes on",
            Retry_After="2",
        )
    )


async def _gone(request: Request, error: Exception) -> JSONResponse:
    return response(Failure(400, "client_disconnected", "the request's body ended too early"))


async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    _log.error("a request failed", extra={"path": request.url.path}, exc_info=error)
    return response(Failure(500, "internal_error", "the registry failed at this request: its log says why"))
