"""What is asked of a model, whichever API it came by: the conversation, and what of the request bears on the answer.

Only what virtual models look at and what transforms of a conversation change is here. All else stays in the request's
own JSON, which `Ask` carries along, so that a request that is forwarded loses nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tandem_api.replies import Text, Thinking


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A call that the assistant made. `arguments` is JSON."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image: a URL, or a data URL."""

    url: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came of a call: text, and images."""

    id: str
    text: str
    images: tuple[Image, ...] = ()


@dataclass(frozen=True, slots=True)
class Opaque:
    """A part that means nothing here: documents, results of a server's own tools."""

    type: str


Part = Text | Thinking | ToolUse | ToolResult | Image | Opaque


@dataclass(frozen=True, slots=True)
class Turn:
    """A message. `given` is its JSON as it came, and None where a transform has made it."""

    role: str
    """"system", "user", "assistant"; results of tools are the user's."""
    parts: tuple[Part, ...]
    given: Any = field(default=None, compare=False)

    @property
    def text(self) -> str:
        """Its text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request for one answer, checked."""

    model: str
    turns: tuple[Turn, ...]
    instructions: str = ""
    """What stands beside the messages: Messages' `system`, Responses' `instructions`."""
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    stops: tuple[str, ...] = ()
    thinks: bool = True
    """Thinking is not refused."""
    calls: bool = True
    """Tools are not refused."""
    given: Mapping[str, Any]
    """The body's JSON."""
