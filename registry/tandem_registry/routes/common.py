"""What the routes share."""

from typing import Annotated, Any

from fastapi import Depends, Path, Request
from pydantic import BaseModel
from tandem_api.registry.base import PART

from tandem_registry.access import Caller


def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


CallerHere = Annotated[Caller, Depends(_caller)]
"""Whoever makes the request."""

NameHere = Annotated[str, Path(max_length=128, pattern=f"^{PART}$")]
ArtifactHere = Annotated[str, Path(max_length=255, pattern=f"^{PART}(/{PART})*$")]
HolderHere = Annotated[str, Path(max_length=255, pattern=f"^{PART}(/{PART})*$")]
Sha256Here = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]


class ErrorObject(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Every error has this shape."""

    error: ErrorObject


def failing(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: the errors that a route answers, besides those of all."""
    return {status: {"model": ErrorBody} for status in statuses}
