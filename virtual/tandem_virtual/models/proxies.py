"""A model that changes the conversation and has another one answer it."""

from dataclasses import dataclass
from typing import ClassVar

from tandem_api.conversations import Ask, Turn
from tandem_api.replies import Text

from tandem_virtual.chunking import chunks
from tandem_virtual.estimating import PROXY_TOKENS
from tandem_virtual.models.model import Act, Forwards, Says, VirtualModel
from tandem_virtual.transforms import Transform


@dataclass(frozen=True, kw_only=True)
class ProxyModel(VirtualModel):
    """Applies its transforms in order, then forwards; without a delegate it says the text of the last message."""

    type: ClassVar[str] = "proxy"

    transforms: tuple[Transform, ...] = ()
    delegate: str = ""

    def act(self, ask: Ask) -> Act:
        turns: tuple[Turn, ...] = ask.turns
        for transform in self.transforms:
            turns = transform(turns)
        if self.delegate:
            return Forwards(self.delegate, turns)
        text = turns[-1].text if turns else ""
        return Says((Text(text),), (chunks(text),), PROXY_TOKENS)
