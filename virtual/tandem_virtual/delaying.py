"""A provider whose delays are known: what it takes to its first token, and to its end, is drawn from given ranges.

Metrics are tried out on it from end to end: what they measure can be compared with what was drawn (requirements,
section 3). It serves chat completions for whatever model it is asked for.
"""

from dataclasses import dataclass
from random import Random
from typing import Any, Final

from tandem_api.inference_service.base import Spec
from tandem_api.openai.answers import DONE, event
from tandem_api.openai.chat_replies import ChatReplyEncoder, usage_object
from tandem_api.openai.errors import error_body
from tandem_api.openai.requests import Lenient, RequestError, parse
from tandem_api.replies import Reply, Text, Usage

from tandem_virtual.outcomes import Streamed, Whole

PATHS: Final = ("/v1/chat/completions", "/chat/completions")
PIECES: Final = ("I am ", "testing ", "and random sleep")
USAGE: Final = Usage(10, 7)
MODEL: Final = "delay-model"
"""Answers where a request names no model."""


class DelaySpec(Spec):
    """Ranges in milliseconds. Where `max` is not above `min`, a delay is `min`; where both are 0 or less, none."""

    min_first_token_ms: int = 50
    """Least delay before the first event."""
    max_first_token_ms: int = 500
    """Greatest delay before the first event."""
    min_end_ms: int = 100
    """Least delay between the last content and the end of a stream."""
    max_end_ms: int = 1000
    """Greatest delay between the last content and the end of a stream."""
    seed: int | None = None
    """Draws the same delays each time, request by request."""


class _Request(Lenient):
    model: str | None = None
    stream: bool | None = False


@dataclass(frozen=True, slots=True)
class DelayProvider:
    """Answers chat completions. `spec` says how slowly."""

    spec: DelaySpec

    def random(self, request: int) -> Random:
        """What the delays of a request are drawn from; `request` counts from 0. Each has its own, so none waits."""
        return Random() if self.spec.seed is None else Random(f"{self.spec.seed}/{request}")  # noqa: S311 - no secrets are drawn

    def answer(self, body: bytes, random: Random, key: str, created: int) -> Whole | Streamed:
        """What is to happen for a request; `key` makes its id, `created` is in Unix seconds."""
        try:
            request = parse(_Request, body)
        except RequestError as error:
            return Whole(status=400, body=error_body(error.message, param=error.param))
        spec = self.spec
        model = request.model or MODEL
        first = delay(spec.min_first_token_ms, spec.max_first_token_ms, random)
        end = delay(spec.min_end_ms, spec.max_end_ms, random)
        id = f"chatcmpl-delay-{key}"
        if not request.stream:
            reply = Reply((Text("".join(PIECES)),), USAGE)
            return Whole(body=ChatReplyEncoder(id, model, created).body(reply), delay=first)
        head = {"id": id, "object": "chat.completion.chunk", "created": created, "model": model}

        def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
            return event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more})

        return Streamed(
            delay=first,
            opening=chunk({"role": "assistant", "content": ""}),
            chunks=(*(chunk({"content": piece}) for piece in PIECES), chunk({}, "stop", usage=usage_object(USAGE))),
            chunk_delay=0.0,
            pause=end,
            closing=DONE,
        )


def delay(low: int, high: int, random: Random) -> float:
    """Seconds, drawn from milliseconds (requirements DP-05)."""
    if low <= 0 and high <= 0:
        return 0.0
    return max(low if low >= high else random.randint(low, high), 0) / 1000
