"""The seam between an API's wire format and what answers."""

from collections.abc import Sequence
from typing import Any, Protocol

import pydantic_core

from tandem_api.conversations import Ask, Turn
from tandem_api.openai.requests import RequestError
from tandem_api.replies import ReplyEncoder


class Surface(Protocol):
    """One API. Holds no state."""

    name: str
    """"chat", "responses" or "messages"."""

    def read(self, body: bytes) -> Ask:
        """A request, checked.

        Raises:
            RequestError: the body can't be served; says what is wrong.
        """

    def rewritten(self, ask: Ask, model: str, turns: Sequence[Turn]) -> bytes:
        """The body of a request like this one to another model, with another conversation."""

    def encoder(self, ask: Ask, response_id: str, created: int) -> ReplyEncoder:
        """What writes the answer."""

    def error(self, status: int, message: str, *, type: str = "", param: str = "", code: str = "") -> bytes:
        """The body of an error response; without `type`, the one that goes with the status."""


def given(body: bytes) -> dict[str, Any]:
    """A body's JSON; it is an object, since a request was read from it already."""
    try:
        members: dict[str, Any] = pydantic_core.from_json(body)
    except ValueError:
        raise RequestError("the body is not valid JSON") from None
    return members


def model_of(model: str | None) -> str:
    """The model that a request names.

    Raises:
        RequestError: it names none.
    """
    if not model:
        raise RequestError("model is required: name the model that is to answer", param="model")
    return model
