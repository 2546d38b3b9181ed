"""Messages and Responses written token by token, by an engine that does not know yet how its answer ends.

An answer is one block: text, or a call of one function. The events are those of the encoders of whole replies.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tandem_api.anthropic.answers import MessagesEncoder
from tandem_api.openai.answers import Choice, TokenLogprob, UsageCount, escape
from tandem_api.openai.response_replies import Numbered, ResponseEncoder
from tandem_api.replies import Block, Finish, Reply, Text, ToolCall, Usage

_MARK: Final = "\0text\0"
_FINISHES: Final = {"length": Finish.LENGTH, "tool_calls": Finish.TOOL_CALLS}


class SpokenMessage:
    """An `Encoder` of Messages.

    Args:
        response_id: the answer's "id".
        model: its "model".
        prompt_tokens: of the prompt, known when the answer begins.
        function: the answer is a call of it; empty: it is text.
    """

    def __init__(self, response_id: str, model: str, *, prompt_tokens: int, function: str = "") -> None:
        self._whole = MessagesEncoder(response_id, model)
        self._prompt_tokens = prompt_tokens
        self._block: Block = ToolCall(function, "") if function else Text("")
        self._delta: tuple[bytes, bytes] | None = None
        self._choice = Choice(0, "", "")

    def opening(self, index: int) -> bytes:
        begun = self._whole.begins(Usage(self._prompt_tokens, 0))
        return begun + self._whole.block_begins(0, self._block)

    def text(self, index: int, escaped: bytes) -> bytes:
        if self._delta is None:
            before, _, after = self._whole.delta(0, self._block, _MARK).partition(escape(_MARK))
            self._delta = before, after
        return self._delta[0] + escaped + self._delta[1]

    def detailed(self, index: int, text: str, logprobs: Sequence[TokenLogprob]) -> bytes:
        """Messages have no log probabilities."""
        return self._whole.delta(0, self._block, text)

    def closing(self, choice: Choice) -> bytes:
        self._choice = choice
        return self._whole.block_ends(0, self._block)

    def ending(self, usage: UsageCount) -> bytes:
        reply = _reply(self._choice, usage)
        return self._whole.ends(reply.finish, reply.stop_sequence, reply.usage)

    def body(self, choices: Sequence[Choice], usage: UsageCount) -> bytes:
        return self._whole.body(_reply(choices[0], usage))


class SpokenResponse:
    """An `Encoder` of Responses. Its events are numbered, so they have to be asked for in the order of the stream.

    Args:
        response_id: the answer's "id".
        model: its "model".
        created: Unix seconds.
        given: the request's JSON.
        function: the answer is a call of it; empty: it is text.
    """

    def __init__(
        self, response_id: str, model: str, created: int, given: Mapping[str, Any], *, function: str = ""
    ) -> None:
        self._whole = ResponseEncoder(response_id, model, created, given)
        self._events = Numbered()
        self._block: Block = ToolCall(function, "") if function else Text("")
        self._choice = Choice(0, "", "")

    def opening(self, index: int) -> bytes:
        return self._whole.begins(self._events) + self._whole.item_begins(self._events, 0, self._block)

    def text(self, index: int, escaped: bytes) -> bytes:
        return self.detailed(index, json.loads(b'"' + escaped + b'"'), ())

    def detailed(self, index: int, text: str, logprobs: Sequence[TokenLogprob]) -> bytes:
        return self._whole.delta(self._events, 0, self._block, text)

    def closing(self, choice: Choice) -> bytes:
        self._choice = choice
        return b""  # items end with how the response does

    def ending(self, usage: UsageCount) -> bytes:
        reply = _reply(self._choice, usage)
        ended = self._whole.item_ends(self._events, 0, reply.blocks[0], reply)
        return ended + self._whole.ends(self._events, reply)

    def body(self, choices: Sequence[Choice], usage: UsageCount) -> bytes:
        return self._whole.body(_reply(choices[0], usage))


def _reply(choice: Choice, usage: UsageCount) -> Reply:
    if choice.call is not None:
        block: Block = ToolCall(choice.call.name, choice.call.arguments)
    else:
        block = Text(choice.text)
    finish = Finish.STOP_SEQUENCE if choice.stop else _FINISHES.get(choice.finish_reason, Finish.STOP)
    counts = Usage(usage.prompt, usage.completion, cached=usage.cached)
    return Reply((block,), counts, finish, stop_sequence=choice.stop)
