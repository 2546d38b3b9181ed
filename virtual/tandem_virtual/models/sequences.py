"""A model that answers by a list: this time well, next time with a 429 (requirements EI-06)."""

import threading
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import ClassVar, Final, Self

from tandem_api.conversations import Ask

from tandem_virtual.models.failures import Failure
from tandem_virtual.models.model import Act, VirtualModel
from tandem_virtual.models.statics import spoken

_EXHAUSTED: Final = Failure(status=410, type="sequence_exhausted", message="all steps of this virtual model are used")


class Exhaustion(StrEnum):
    """What comes after the last step."""

    LOOP = "loop"
    CLAMP = "clamp"
    """The last step, for ever."""
    FAIL = "fail"
    """410."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What some requests get. `status` 0 and 200 are success."""

    status: int = 200
    repeat: int = 1
    content: str | None = None
    """None: the model's content."""
    type: str = ""
    message: str = ""


class Cursor:
    """Counts requests, from any thread, each once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0

    def take(self) -> int:
        with self._lock:
            taken = self._next
            self._next += 1
            return taken


@dataclass(frozen=True, kw_only=True)
class SequenceModel(VirtualModel):
    """Each request takes the next step. Without steps it always says its content."""

    type: ClassVar[str] = "sequence"

    content: str = ""
    steps: tuple[Step, ...] = ()
    exhaustion: Exhaustion = Exhaustion.LOOP
    cursor: Cursor = field(default_factory=Cursor, repr=False, compare=False)

    def step(self, position: int) -> Step | None:
        """The step of the request at a position, 0 and up; None: there is none for it any more."""
        count = sum(step.repeat for step in self.steps)
        if position >= count:
            match self.exhaustion:
                case Exhaustion.LOOP:
                    position %= count
                case Exhaustion.CLAMP:
                    return self.steps[-1]
                case Exhaustion.FAIL:
                    return None
        for step in self.steps:
            position -= step.repeat
            if position < 0:
                return step
        return None

    def act(self, ask: Ask) -> Act:
        if not self.steps:
            return spoken(ask, self.content)
        step = self.step(self.cursor.take())
        if step is None:
            return _EXHAUSTED
        if step.status in (0, 200):
            return spoken(ask, self.content if step.content is None else step.content)
        message = step.message or f"this step of the virtual model {self.id} fails with {step.status}"
        return Failure(status=step.status, type=step.type, message=message)

    def twin(self) -> Self:
        return replace(self, cursor=Cursor())
