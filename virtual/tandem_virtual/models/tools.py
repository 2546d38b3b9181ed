"""A model that calls tools."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tandem_api.conversations import Ask
from tandem_api.replies import Block, Finish, Text, ToolCall

from tandem_virtual.chunking import chunks
from tandem_virtual.estimating import CALL_TOKENS, estimate
from tandem_virtual.models.model import Act, Says, VirtualModel
from tandem_virtual.models.statics import spoken, thought


@dataclass(frozen=True, slots=True)
class Function:
    """A call to make. `arguments` is an object, sent as JSON."""

    name: str
    arguments: Mapping[str, Any]

    @property
    def display(self) -> str:
        """What to show beside the call: the first of `message` and `question` that is a text (requirements VM-18)."""
        for key in ("message", "question"):
            value = self.arguments.get(key)
            if isinstance(value, str) and value:
                return value
        return ""


@dataclass(frozen=True, kw_only=True)
class ToolModel(VirtualModel):
    """Calls its functions, with a text beside the calls. To who refuses tools it says the text alone."""

    type: ClassVar[str] = "tool"

    calls: tuple[Function, ...]
    content: str | None = None
    """The text beside the calls; None: the first call's display text."""
    thinking: str = ""
    finish: Finish = Finish.TOOL_CALLS

    def __post_init__(self) -> None:
        if not self.calls:
            raise ValueError("a tool model needs a call")

    def act(self, ask: Ask) -> Act:
        text = self.calls[0].display if self.content is None else self.content
        if not ask.calls:
            return spoken(ask, text, thinking=self.thinking)
        calls = [ToolCall(call.name, json.dumps(call.arguments, ensure_ascii=False)) for call in self.calls]
        said: list[Block] = [thought(self.thinking)] if self.thinking and ask.thinks else []
        said += [Text(text)] if text else []
        return Says(
            blocks=(*said, *calls),
            pieces=(*(chunks(block.text) for block in said), *((call.text,) for call in calls)),
            completion=sum(estimate(block.text) for block in said) + CALL_TOKENS * len(calls),
            finish=self.finish,
        )
