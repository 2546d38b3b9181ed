"""What an upstream answers, made into what the client gets: its own API, our id and model, repaired calls. Pure."""

import json
from collections.abc import Iterator
from typing import Any, Final

from tandem_api.anthropic.answers import MessagesEncoder
from tandem_api.blocks import BlockWriter, MessageBlocks, ResponseBlocks
from tandem_api.from_chat import ChatReading, ChatStream, Unreadable
from tandem_api.openai.answers import DONE
from tandem_api.openai.response_replies import ResponseEncoder
from tandem_api.replies import ReplyEncoder
from tandem_api.surfaces.messages import count_body
from tandem_proto.tandem.v1 import worker_pb2 as pb

from tandem_engine.errors import CallError, Unavailable
from tandem_engine.upstream.requests import Asked, repair_calls

MAX_EVENT: Final = 8 * 2**20
"""Bytes of one event of a stream."""


class Broken(Unavailable):
    """The upstream's answer can't be used."""


class Answering:
    """Turns one answer over.

    Args:
        asked: the request.
        model: the name that clients use.
        id: the answer's id.
        created: Unix seconds.
    """

    def __init__(self, asked: Asked, model: str, id: str, created: int) -> None:
        self.usage = pb.Usage()
        self.finish_reason = ""
        self.over = False
        """The stream has said its end."""
        self._asked = asked
        self._ours = {"id": id, "model": model}
        self._held = b""
        self._encoder, blocks = _in_words_of(asked, model, id, created)
        self._stream = ChatStream(blocks) if blocks is not None else None

    def whole(self, body: bytes, dimension: int | None = None) -> bytes:
        """A whole answer; `dimension` is the length that its embeddings must have.

        Raises:
            Broken: it can't be used; the text says why.
        """
        answer = _object(body)
        if self._asked.counts:
            return self._counted(answer)
        if self._asked.embeds:
            answer["data"] = _placed(answer.get("data"), self._asked.inputs, dimension)
            answer["model"] = self._ours["model"]
            self._read_usage(answer)
            return _json(answer)
        choices = answer.get("choices")
        if not isinstance(choices, list) or not choices:
            raise Broken("The upstream's answer has no choices.")
        turned = self._turned(answer)
        if self._encoder is None:
            return _json(turned)
        reading = ChatReading()
        try:
            for _ in reading.read(turned):
                pass
            return self._encoder.body(reading.reply())
        except Unreadable as error:
            raise Broken(f"The upstream's answer can't be read: {error}.") from error

    def events(self, data: bytes) -> Iterator[bytes]:
        """More bytes of a stream, as whole events for the client.

        Raises:
            CallError: the upstream's stream says that it has failed, or can't be read.
        """
        *lines, self._held = (self._held + data).split(b"\n")
        if len(self._held) > MAX_EVENT:
            raise Broken("The upstream's stream has an event that is too long.")
        for line in lines:
            if line.startswith(b"data:") and not self.over and (event := self._event(line[5:].strip())):
                yield event

    def _event(self, data: bytes) -> bytes:
        if data == b"[DONE]":
            self.over = True
            return DONE if self._stream is None else self._anew(self._stream, None)
        if not data:
            return b""
        event = _object(data)
        if "error" in event:
            raise CallError("The upstream failed in the midst of its answer.")
        only_usage = not event.get("choices") and event.get("usage") is not None
        turned = self._turned(event)
        if self._stream is not None:
            return self._anew(self._stream, turned)
        return b"" if only_usage and not self._asked.tells_usage else b"data: " + _json(turned) + b"\n\n"

    def _anew(self, stream: ChatStream, chunk: dict[str, Any] | None) -> bytes:
        """The events for a chunk, or those of the end, in the words of the client's API."""
        try:
            return stream.end() if chunk is None else stream.chunk(chunk)
        except Unreadable as error:
            raise Broken(f"The upstream's stream can't be read: {error}.") from error

    def _counted(self, answer: dict[str, Any]) -> bytes:
        tokens = answer.get("input_tokens")
        if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 0:
            raise Broken("The upstream's answer has no count of tokens.")
        self.usage = pb.Usage(prompt_tokens=_count(tokens))
        return count_body(tokens)

    def _turned(self, answer: dict[str, Any]) -> dict[str, Any]:
        self._read_usage(answer)
        if not self._asked.tells_usage and self._asked.stream:
            answer.pop("usage", None)
        choices = answer.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                raise Broken("The upstream's answer has a choice that is no object.")
            for name in ("message", "delta"):
                said = choice.get(name)
                calls = said.get("tool_calls") if isinstance(said, dict) else None
                if isinstance(calls, list):
                    repair_calls(calls)
            self.finish_reason = self.finish_reason or str(choice.get("finish_reason") or "")
        return {**answer, **self._ours}

    def _read_usage(self, answer: dict[str, Any]) -> None:
        usage = answer.get("usage")
        if not isinstance(usage, dict):
            return
        details = usage.get("prompt_tokens_details")
        cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
        prompt = _count(usage.get("prompt_tokens"))
        self.usage = pb.Usage(
            prompt_tokens=prompt,
            completion_tokens=_count(usage.get("completion_tokens")),
            cached_tokens=min(cached, prompt),
            computed_tokens=max(prompt - cached, 0),
        )


def _in_words_of(asked: Asked, model: str, id: str, created: int) -> tuple[ReplyEncoder | None, BlockWriter | None]:
    """What writes an answer, whole and streamed, in another API than that which the upstream was asked by."""
    if asked.ask is None or asked.counts:
        return None, None
    if asked.api == pb.API_MESSAGES:
        message = MessagesEncoder(id, model)
        return message, MessageBlocks(message)
    response = ResponseEncoder(id, model, created, asked.ask.given)
    return response, ResponseBlocks(response)


def _placed(data: Any, count: int, dimension: int | None) -> list[Any]:
    """Embeddings in the order of their inputs (requirements SH-51)."""
    if not isinstance(data, list) or len(data) != count:
        found = len(data) if isinstance(data, list) else "no"
        raise Broken(f"The upstream's answer has {found} embeddings for {count} inputs.")
    placed: dict[int, Any] = {}
    for item in data:
        index = item.get("index") if isinstance(item, dict) else None
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < count or index in placed:
            raise Broken("The upstream's answer has embeddings whose indices do not fit the inputs.")
        vector = item.get("embedding")
        # base64 is the other format that clients may ask for: four characters for three bytes, four bytes a number.
        length = (
            len(vector)
            if isinstance(vector, list)
            else len(vector.rstrip("=")) * 3 // 16
            if isinstance(vector, str)
            else 0
        )
        if dimension is not None and length != dimension:
            raise Broken(f"The upstream's embeddings have {length} dimensions; {dimension} are declared.")
        placed[index] = item
    return [placed[index] for index in range(count)]


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Broken("The upstream's answer is no JSON object.")
    return found


def _json(value: Any) -> bytes:
    # Half of a character that a server has cut in two is no UTF-8.
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")


def _count(value: Any) -> int:
    return min(value, 2**32 - 1) if isinstance(value, int) and value > 0 else 0
