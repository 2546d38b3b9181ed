"""What all virtual models have, and what one does with a request."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from tandem_api.conversations import Ask, Turn
from tandem_api.replies import Block, Finish, Usage

from tandem_virtual.models.failures import Failure

OWNER: Final = "tandem-virtual"
"""`owned_by` of every virtual model."""
CREATED: Final = 0
"""`created` of every virtual model: the same at every call."""
DESCRIPTION: Final = "A virtual model. It gives fixed responses, for testing and for dry runs."


@dataclass(frozen=True, slots=True)
class Says:
    """Answers by itself."""

    blocks: tuple[Block, ...]
    pieces: tuple[tuple[str, ...], ...]
    """How each block is cut for a stream."""
    completion: int
    """Tokens."""
    finish: Finish = Finish.STOP
    failure: Failure | None = None
    """What becomes of the stream."""


@dataclass(frozen=True, slots=True)
class Forwards:
    """Has another model answer."""

    delegate: str
    turns: tuple[Turn, ...]


Act = Says | Forwards | Failure


@dataclass(frozen=True, kw_only=True)
class VirtualModel(ABC):
    """A synthetic model behind a real API."""

    type: ClassVar[str]
    """"static", "tool", "proxy" or "sequence"."""

    id: str
    name: str = ""
    """Empty: the id."""
    description: str = DESCRIPTION
    delay: float = 0.0
    """Seconds that an answer takes, streamed or whole."""
    role: str = "assistant"
    usage: Usage | None = None
    """Counts to report in place of estimates; those that are 0 are estimated, or not told."""

    @property
    def display_name(self) -> str:
        return self.name or self.id

    @abstractmethod
    def act(self, ask: Ask) -> Act:
        """What this model does with a request."""

    def twin(self) -> Self:
        """A model like this that shares nothing with it, for the other protocol's registry (requirements VM-04)."""
        return self

    def listed(self) -> Mapping[str, Any]:
        """Its entry in OpenAI's list of models (requirements VM-12)."""
        return {"id": self.id, "object": "model", "created": CREATED, "owned_by": OWNER}

    def listed_for_messages(self) -> Mapping[str, Any]:
        """Its entry in Anthropic's list of models."""
        return {
            "type": "model",
            "id": self.id,
            "display_name": self.display_name,
            "created_at": "1970-01-01T00:00:00Z",
        }
