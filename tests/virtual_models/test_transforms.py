from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_api.conversations import Image, Part, ToolResult, ToolUse, Turn
from tandem_api.replies import Text, Thinking
from tandem_virtual.defaults import register_defaults
from tandem_virtual.registry import Registries
from tandem_virtual.transforms import TRANSFORMS

from tests.virtual_models.asking import answered, request

EDIT = Turn("assistant", (Thinking("hm"), Text("I edit."), ToolUse("1", "edit", '{"file_path": "a.py"}')))
LAST = (Turn("user", (Text("And now?"),)), Turn("assistant", (Thinking("well"), ToolUse("2", "read", "{}"))))
CONVERSATION = (
    Turn("system", (Text("Be brief."),)),
    Turn("user", (Text("Change it."),)),
    EDIT,
    Turn("user", (ToolResult("1", "changed"),)),
    Turn("assistant", (Text("Done."),)),
    *LAST,
)


def test_old_thinking_is_dropped_and_nothing_else() -> None:
    changed = TRANSFORMS["compact-thinking"](CONVERSATION)
    assert changed[2] == Turn("assistant", EDIT.parts[1:])
    assert changed[:2] + changed[3:] == CONVERSATION[:2] + CONVERSATION[3:]


def test_rounds_keep_question_and_answer() -> None:
    assert TRANSFORMS["compact-round-only"](CONVERSATION) == (
        Turn("system", (Text("Be brief."),)),
        Turn("user", (Text("Change it."),)),
        Turn("assistant", (Text("Done."),)),
        *LAST,
    )


def test_rounds_may_keep_the_names_of_files() -> None:
    assert TRANSFORMS["compact-round-files"](CONVERSATION)[2].text == "Done.\n[files: a.py]"


def test_a_conversation_is_summed_up_where_that_is_asked_for() -> None:
    asking = (*CONVERSATION[:5], Turn("user", (Text("Please compact this."),)))
    for name in ("claude-code-compact", "claude-code-strategy"):
        assert TRANSFORMS[name](asking) == (
            CONVERSATION[0],
            Turn(
                "user",
                (
                    Text(
                        "<conversation>\n<user>Change it.</user>\n<assistant>Done.</assistant>\n"
                        "<files>a.py</files>\n</conversation>"
                    ),
                ),
            ),
        )


def test_a_conversation_stays_as_it_is_where_nobody_asks() -> None:
    assert TRANSFORMS["claude-code-compact"](CONVERSATION) == CONVERSATION


@pytest.mark.parametrize(("rounds", "as_with"), [(8, "compact-thinking"), (9, "compact-round-files")])
def test_the_strategy_goes_by_length(rounds: int, as_with: str) -> None:
    long = tuple(turn for _ in range(rounds - 1) for turn in CONVERSATION[1:5]) + LAST
    assert TRANSFORMS["claude-code-strategy"](long) == TRANSFORMS[as_with](long)


PARTS: st.SearchStrategy[Part] = st.one_of(
    st.text(max_size=9).map(Text),
    st.builds(Thinking, st.text(max_size=9)),
    st.builds(ToolUse, st.just("1"), st.just("f"), st.sampled_from(["{}", "no", '{"path":"x"}', "[]", '{"path":1}'])),
    st.builds(ToolResult, st.just("1"), st.text(max_size=9)),
    st.just(Image("data:image/png;base64,AA==")),
)
TURNS = st.lists(
    st.builds(Turn, st.sampled_from(["system", "user", "assistant"]), st.lists(PARTS, max_size=3).map(tuple)),
    max_size=9,
).map(tuple)


@pytest.mark.parametrize("name", TRANSFORMS)
@given(turns=TURNS)
def test_a_transform_takes_any_conversation_and_does_it_once(name: str, turns: Any) -> None:
    once = TRANSFORMS[name](turns)
    assert sum(len(turn.parts) for turn in once) <= max(sum(len(turn.parts) for turn in turns), 2) + len(turns)
    if name.startswith("compact") and name != "compact-round-files":
        assert TRANSFORMS[name](once) == once


def test_a_compacting_model_answers_with_the_last_message_it_leaves() -> None:
    registries = Registries()
    register_defaults(registries)
    asking = [
        {"role": "user", "content": "Change it."},
        {"role": "assistant", "content": [{"type": "text", "text": "Done."}]},
        {"role": "user", "content": "/compact"},
    ]
    answer = answered(registries, "messages", request("messages", "claude-code-compact", messages=asking))
    assert "<user>Change it.</user>" in answer["content"][0]["text"]
    assert answer["stop_reason"] == "end_turn"
