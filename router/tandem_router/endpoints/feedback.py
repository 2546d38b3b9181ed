"""`POST /v1/feedback`: what somebody thinks of an answer, as a score for its response id.

Any replica can take it, for the id itself says who answered, in which experiment, and how that was drawn
(`tandem_router.ids`). An id has one score: a router remembers those it has got last, and what several routers have got
of one request is settled where their counts are merged.
"""

from collections import OrderedDict
from typing import Annotated, Any, Final

import msgspec
from starlette.exceptions import HTTPException

from tandem_router.frontends.parsing import FRONTENDS
from tandem_router.ids import Origin, ResponseIds
from tandem_router.scheduling.fleet import Fleet
from tandem_router.telemetry.measures import RouterMeasures

REMEMBERED: Final = 65_536
"""Scores by response id."""

_PREFIXES: Final = tuple(dict.fromkeys(frontend.id_prefix for frontend in FRONTENDS))

SCHEMA: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["id", "score"],
                    "properties": {
                        "id": {"type": "string", "description": "Of the response, as the client got it"},
                        "score": {"type": "number", "minimum": 0, "maximum": 1, "description": "1 is best"},
                    },
                    "additionalProperties": False,
                }
            }
        },
    }
}
"""For /openapi.json."""


class _Given(msgspec.Struct, forbid_unknown_fields=True):
    id: Annotated[str, msgspec.Meta(max_length=1024)]
    score: Annotated[float, msgspec.Meta(ge=0, le=1)]


_DECODER: Final = msgspec.json.Decoder(_Given)


class Feedback:
    """Takes scores."""

    def __init__(self, ids: ResponseIds, fleet: Fleet, measures: RouterMeasures, remembered: int = REMEMBERED) -> None:
        self._ids = ids
        self._fleet = fleet
        self._measures = measures
        self._limit = remembered
        self._scores: OrderedDict[str, float] = OrderedDict()

    def take(self, body: bytes) -> dict[str, Any]:
        """Counts a score. The same one again is taken, and counts no more.

        Returns the answer: `counts` says whether the response was given in an experiment that scores decide.

        Raises:
            HTTPException: 400 what came can't be read, 404 the id is no response's, 409 it has another score, 410 its
                experiment is over.
        """
        given = _read(body)
        origin = self._origin(given.id)
        known = self._scores.get(given.id)
        if known is not None and known != given.score:
            raise HTTPException(409, f"the response has a score, {known:g}: it can have no other")
        service = next((one for one in self._fleet.services.values() if one.full_name == origin.service), None)
        if service is None:
            raise HTTPException(404, f"the service {origin.service}, which gave the response, is gone")
        if origin.key and (service.counting is None or service.counting.id != origin.experiment):
            raise HTTPException(410, "the experiment in which the response was given is over: its score counts no more")
        if known is None:
            self._remember(given)
            self._measures.version(origin.service, origin.version).score.observe(given.score)
            if origin.key and service.counting is not None:
                service.counting.score(origin.weight, origin.key, given.score)
        return {"object": "feedback", "id": given.id, "score": given.score, "counts": bool(origin.key)}

    def _origin(self, id: str) -> Origin:
        for prefix in _PREFIXES:
            if (origin := self._ids.read(prefix, id)) is not None:
                return origin
        raise HTTPException(
            404, "id is none of a response of this service: it was not issued here, or the routers have another key now"
        )

    def _remember(self, given: _Given) -> None:
        self._scores[given.id] = given.score
        if len(self._scores) > self._limit:
            self._scores.popitem(last=False)


def _read(body: bytes) -> _Given:
    try:
        return _DECODER.decode(body)
    except msgspec.ValidationError as error:
        what, _, where = str(error).replace("`", "").partition(" - at $.")
        raise HTTPException(400, f"{where or 'the body'}: {what[0].lower()}{what[1:]}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise HTTPException(400, "the body is not valid JSON") from None
