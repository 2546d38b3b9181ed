import re
from pathlib import Path
from typing import Any, get_args

import pytest
from tandem_api.manifest import ManifestError
from tandem_api.replies import Finish, Usage
from tandem_api.virtual_models import VirtualModelSpec, load_models
from tandem_api.virtual_models.spec import TransformName
from tandem_virtual.building import build, register_declared
from tandem_virtual.models import (
    Ending,
    Exhaustion,
    Failure,
    Function,
    ProxyModel,
    SequenceModel,
    Stage,
    StaticModel,
    Step,
    ToolModel,
)
from tandem_virtual.registry import Registries
from tandem_virtual.transforms import TRANSFORMS

from tests.virtual_models.asking import answered, request

DOCS = Path(__file__).parents[2] / "docs"


def built(text: str) -> Any:
    (spec,) = load_models(f"models:\n- {text}")
    return build(spec)


def test_every_field_of_a_static_model_is_honoured() -> None:
    model = built(
        "{id: m, name: M, description: d, type: static, content: a b, role: critic, finishReason: max_tokens, "
        "delay: 1.5s, streamChunks: [a, ' b'], thinking: hm, "
        "usage: {prompt: 9, completion: 8, cached: 7, cacheWrite: 1, reasoning: 2}, "
        "failure: {stage: mid-stream, status: 503, type: t, message: x, ending: clean, after: 2, pause: 100ms}}"
    )
    failure = Failure(
        stage=Stage.MID_STREAM, status=503, type="t", message="x", ending=Ending.CLEAN, after=2, pause=0.1
    )
    assert model == StaticModel(
        id="m",
        name="M",
        description="d",
        content="a b",
        role="critic",
        finish=Finish.LENGTH,
        delay=1.5,
        stream_chunks=("a", " b"),
        thinking="hm",
        usage=Usage(9, 8, 7, 1, 2),
        failure=failure,
    )


@pytest.mark.parametrize("calls", ["{name: f, arguments: {a: [1]}}", "[{name: f, arguments: {a: [1]}}]"])
def test_a_tool_model_is_declared_by_a_call_or_several(calls: str) -> None:
    model = built(f"{{id: m, type: tool, toolCall: {calls}}}")
    assert model == ToolModel(id="m", calls=(Function("f", {"a": [1]}),))


def test_a_proxy_is_declared_by_delegate_and_transformers() -> None:
    model = built("{id: m, type: proxy, delegateModel: real, transformer: [compact-thinking, compact-round-only]}")
    transforms = (TRANSFORMS["compact-thinking"], TRANSFORMS["compact-round-only"])
    assert model == ProxyModel(id="m", delegate="real", transforms=transforms)
    assert built("{id: m, type: proxy, transformer: compact-thinking}").transforms == transforms[:1]


def test_a_sequence_is_declared_by_its_steps() -> None:
    model = built(
        "{id: m, type: sequence, content: c, sequence: {whenUsedUp: fail, "
        "steps: [{repeat: 2, content: x}, {status: 429, type: t, message: nay}]}}"
    )
    steps = (Step(repeat=2, content="x"), Step(status=429, type="t", message="nay"))
    assert model == SequenceModel(id="m", content="c", steps=steps, exhaustion=Exhaustion.FAIL)


def test_a_model_needs_no_more_than_an_id() -> None:
    assert built("{id: m}") == StaticModel(id="m")


def test_chunks_alone_are_the_content() -> None:
    assert built("{id: m, streamChunks: [a, b]}").content == "ab"


def test_a_model_is_reachable_by_its_protocols_only() -> None:
    registries = Registries()
    register_declared(registries, load_models("models:\n- {id: m, protocols: [anthropic]}\n- {id: n, content: both}"))
    assert ([model.id for model in registries.openai.list()], len(registries.anthropic.list())) == (["n"], 2)
    assert answered(registries, "chat", request("chat", "n"))["choices"][0]["message"]["content"] == "both"


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("models: []", "1:9: models: found a list of 0: must have 1 or more"),
        ("model: []", '1:1: model: is not a field here; did you mean "models"?'),
        ("", "1:1: holds no models"),
        ("models: [{id: a}]\n---\nmodels: [{id: b}]", "1:1: holds several documents: put all models into one"),
        ("models:\n- id: m\n  contnt: a", '3:3: models[0].contnt: is not a field here; did you mean "content"?'),
        ("models:\n- id: m\n  type: tol", '3:9: models[0].type: found "tol": must be "static", "tool", "proxy" or '),
        ("models:\n- id: m\n  delay: 5", "3:10: models[0].delay: found 5: must be a duration as text with a unit"),
        ("models:\n- content: a", "2:3: models[0].id: is missing: what clients call it"),
        ("models:\n- id: m\n  type: tool", "2:3: models[0]: toolCall is missing: a model of type tool needs a call"),
        ("models:\n- id: m\n  sequence: {}", "models[0]: sequence is for models of type sequence, and this one is of"),
        ("models:\n- {id: m, type: proxy, content: a}", "models[0]: content is not for models of type proxy"),
        ("models:\n- {id: m, content: ab, streamChunks: [a]}", "models[0]: streamChunks must join to content"),
        ("models:\n- {id: m, type: proxy, transformer: compct-thinking}", 'did you mean "compact-thinking"?'),
        ("models:\n- {id: m, failure: {status: 200}}", "models[0].failure.status: found 200: must be 400 or more"),
        ("models:\n- {id: m, usage: {cached: 5}}", "models[0].usage: cached and cacheWrite are parts of prompt"),
        ("models:\n- {id: m, usage: {reasoning: 5}}", "models[0].usage: reasoning is a part of completion"),
        ("models:\n- {id: m, protocols: [openai, openai]}", "models[0]: protocols names one twice"),
        ("models:\n- id: m\n- id: m", '3:7: models[1].id: "m" is there already for openai, as models[0]: remove one'),
        (
            "models:\n- {id: a, type: proxy, delegateModel: b}\n- {id: b, type: proxy, delegateModel: a}",
            "3:39: models[1].delegateModel: forwards in a circle: b -> a -> b",
        ),
        (
            "models:\n- {id: m, type: sequence, sequence: {steps: [{status: 302}]}}",
            "models[0].sequence.steps[0]: status is 302: it must be 200, or an error from 400 to 599",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, finding: str) -> None:
    with pytest.raises(ManifestError) as error:
        load_models(text, "file")
    assert finding in str(error.value)
    assert str(error.value).startswith("file:")


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ManifestError) as error:
        load_models("models:\n- {id: 5}\n- {typ: tool}\n- {id: m, delay: x}")
    assert len(error.value.findings) == 4


def test_a_circle_is_told_once() -> None:
    proxies = "".join(f"\n- {{id: {id}, type: proxy, delegateModel: {to}}}" for id, to in ("ab", "bc", "ca"))
    with pytest.raises(ManifestError) as error:
        load_models(f"models:{proxies}")
    assert [finding.path for finding in error.value.findings] == ["models[2].delegateModel"]


def test_every_transform_can_be_declared() -> None:
    assert set(get_args(TransformName)) == set(TRANSFORMS)


@pytest.mark.parametrize("page", ["virtual-models.md", "failures.md"])
def test_the_examples_of_the_documentation_can_be_loaded(page: str) -> None:
    examples = re.findall(r"^```yaml\n(models:.*?)^```", (DOCS / page).read_text(), re.M | re.S)
    assert examples
    for example in examples:
        registries = Registries()
        register_declared(registries, load_models(example))


def test_the_same_fields_are_read_from_values_as_python() -> None:
    spec = VirtualModelSpec(id="m", delay=0.5, finish_reason="stop")
    assert build(spec) == StaticModel(id="m", delay=0.5)
