"""Whether what a client saw may be: the very answer that its request has, or a typed error, and never a silent end."""

import json
from dataclasses import dataclass
from typing import Any

from tests.conservation.client import Sighting
from tests.conservation.shots import Ask, Shot

ERROR_STATUSES = frozenset({429, 500, 502, 503, 504})
"""Statuses that a storm may lead to; a client's own fault (400, 404) it may not."""


@dataclass(frozen=True)
class Answer:
    """A whole answer: text, finish reason, and tokens of prompt and completion."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Verdict:
    """`fault` is empty where all is well; `complete` tells an answer from a typed error."""

    complete: bool = False
    fault: str = ""


def judge(shot: Shot, sighting: Sighting, expected: Answer | None) -> Verdict:
    """`expected` is None where the answer is not known yet: then any whole answer will do."""
    if sighting.left:
        return Verdict()
    ask = shot.ask
    if sighting.broken:
        return Verdict(fault=f"the connection broke: {sighting.broken}; {len(sighting.events)} events came")
    if sighting.status != 200:
        return _error(sighting)
    try:
        answer = read_stream(ask, sighting.events) if ask.stream else read_body(ask, json.loads(sighting.body))
    except StreamError as error:
        return Verdict(fault=error.fault)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        return Verdict(fault=f"not the API's shape: {error!r}")
    if expected is not None and answer != expected:
        return Verdict(fault=f"got {answer}, and not {expected}")
    if shot.behaviour == "stall":
        return Verdict(fault="a client that did not read was not cut off")
    return Verdict(complete=True)


class StreamError(Exception):
    """A stream had no whole answer. `fault` is empty where it ended as it may: in a typed error."""

    def __init__(self, fault: str) -> None:
        self.fault = fault


def read_stream(ask: Ask, events: list[Any]) -> Answer:
    """The answer of a stream's events.

    Raises:
        StreamError: it ended in an error, or silently.
    """
    if not events or events[-1] != "[DONE]":
        raise StreamError(f"a silent end after {len(events)} events")
    last = events[-2] if len(events) > 1 else {}
    if isinstance(last, dict) and "error" in last:
        error = last["error"]
        typed = isinstance(error, dict) and error.get("message") and error.get("type")
        raise StreamError("" if typed else f"an error without message and type: {error}")
    text, reasons = "", []
    usage = None
    for event in events[:-1]:
        usage = event.get("usage") or usage
        for choice in event["choices"]:
            text += (choice["delta"].get("content") or "") if ask.chat else choice["text"]
            if choice["finish_reason"] is not None:
                reasons.append(choice["finish_reason"])
    if len(reasons) != 1:
        raise StreamError(f"finish reasons {reasons}")
    if usage is None:
        raise StreamError("no usage")
    return Answer(text, reasons[0], usage["prompt_tokens"], usage["completion_tokens"])


def read_body(ask: Ask, body: dict[str, Any]) -> Answer:
    """The answer of a JSON body."""
    (choice,) = body["choices"]
    text = choice["message"]["content"] if ask.chat else choice["text"]
    usage = body["usage"]
    return Answer(text or "", choice["finish_reason"], usage["prompt_tokens"], usage["completion_tokens"])


def _error(sighting: Sighting) -> Verdict:
    try:
        error = json.loads(sighting.body)["error"]
        typed = bool(error["message"]) and bool(error["type"])
    except (ValueError, KeyError, TypeError):
        typed = False
    if not typed:
        return Verdict(fault=f"status {sighting.status} without a typed error: {sighting.body[:200]!r}")
    if sighting.status not in ERROR_STATUSES:
        return Verdict(fault=f"status {sighting.status} is no storm's doing: {sighting.body[:200]!r}")
    return Verdict()
