"""The models that are there unasked. Users see them, so these are demonstrations, and nothing else ever joins them.

Tests make registries of their own. What is good for rehearsing failures is in `tandem_virtual.catalogue`.
"""

from typing import Any, Final

from tandem_virtual.models import Function, ProxyModel, StaticModel, ToolModel, VirtualModel
from tandem_virtual.registry import Registries
from tandem_virtual.transforms import TRANSFORMS

_ASK: Final = "ask_user_question"
_COMPACTIONS: Final = {
    "compact-round-only": "Keeps the question and the last answer of each earlier round.",
    "compact-round-files": "Keeps question, last answer and the names of files of each earlier round.",
    "claude-code-compact": "Sums the conversation up where its last message asks to compact it.",
    "claude-code-strategy": "Picks the compaction by what the conversation needs.",
}


def register_defaults(registries: Registries) -> None:
    """Adds the default models: exactly those of requirements 1.4."""
    for model in _shared():
        registries.register(model)
    registries.openai.register(
        StaticModel(
            id="virtual-gpt-4",
            name="Virtual GPT-4",
            content="Hello from virtual-gpt-4! No real model is at work here, but all that surrounds one is.",
            delay=0.1,
        )
    )
    registries.anthropic.register(
        StaticModel(
            id="virtual-claude-3",
            name="Virtual Claude 3",
            content="Hello from virtual-claude-3! These words are fixed; the protocol around them is real.",
            delay=0.15,
        )
    )
    for id, description in _COMPACTIONS.items():
        registries.anthropic.register(ProxyModel(id=id, description=description, transforms=(TRANSFORMS[id],)))


def _shared() -> tuple[VirtualModel, ...]:
    return (
        StaticModel(
            id="echo-model",
            name="Echo",
            description="Acknowledges a message, in the same words each time.",
            content="Your message has arrived, and this is the answer to it.",
            delay=0.05,
        ),
        _asking(
            "ask-user-question",
            "Asks the user to choose, by a tool call.",
            0.1,
            "Which way shall this be done?",
            {"label": "Fast", "value": "fast", "description": "An answer at once, good enough for most purposes."},
            {"label": "Accurate", "value": "accurate", "description": "A careful answer, which takes longer."},
        ),
        _asking(
            "ask-confirmation",
            "Asks the user for a yes or a no, by a tool call.",
            0.05,
            "Shall this be done?",
            {"label": "Yes", "value": "yes", "description": "Go on."},
            {"label": "No", "value": "no", "description": "Leave everything as it is."},
        ),
        ToolModel(
            id="web-search-example",
            name="Web search",
            description="Searches the web, by a tool call.",
            calls=(Function("web_search", {"query": "disaggregated prefill and decode for language models"}),),
            delay=0.05,
        ),
    )


def _asking(id: str, description: str, delay: float, question: str, *options: dict[str, Any]) -> ToolModel:
    call = Function(_ASK, {"question": question, "options": list(options)})
    return ToolModel(id=id, description=description, calls=(call,), delay=delay)
