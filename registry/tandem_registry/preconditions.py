"""ETags: a reader asks cheaply whether something has changed, and a writer says which state it acts on.

A write to something that changes needs `If-Match` (428 without it): what somebody did meanwhile is never overwritten
unseen (412). `If-Match: *` says that any state will do.
"""

from typing import Annotated

from fastapi import Header, Response
from pydantic import BaseModel

from tandem_registry.failures import Failure

IfMatch = Annotated[str | None, Header(description="The ETag of what is to be changed, or *.")]
IfNoneMatch = Annotated[str | None, Header(description="An ETag; where it is still right, the answer is 304.")]


def check_match(if_match: str | None, etag: str, what: str) -> None:
    """Lets a write go on if it acts on the present state.

    Raises:
        Failure: 428 without a precondition, 412 where it does not hold.
    """
    if if_match is None:
        raise Failure(
            428,
            "precondition_required",
            f"send If-Match with the ETag of {what}, as a GET answers it, or If-Match: * for any state",
            "If-Match",
        )
    if not _matches(if_match, etag):
        raise Failure(
            412,
            "precondition_failed",
            f"{what} has changed since: its ETag is {etag} now, not {if_match}. Read it again, then decide",
            "If-Match",
            ETag=etag,
        )


def tagged(shape: BaseModel, etag: str, if_none_match: str | None) -> Response:
    """An answer with its ETag, or 304 where the client has it already."""
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if if_none_match is not None and _matches(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    return Response(shape.model_dump_json(), media_type="application/json", headers=headers)


def _matches(given: str, etag: str) -> bool:
    tags = {tag.strip().removeprefix("W/") for tag in given.split(",")}
    return "*" in tags or etag in tags
