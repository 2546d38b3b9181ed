"""A virtual model in the place of a version's engine: in a worker, and by the whole way of a request."""

import json
from collections.abc import Iterator
from typing import Any, get_args

import anthropic
import openai
import pytest
import yaml
from tandem_api.inference_service.virtual_model import UseName, VirtualModelEngineSpec
from tandem_engine.engine import Call
from tandem_engine.errors import CallError, InvalidRequest, Overloaded, Unavailable
from tandem_engine.virtual_model import VirtualModelEngine
from tandem_proto.tandem.v1 import worker_pb2 as pb
from tandem_virtual.catalogue import register_failures
from tandem_virtual.defaults import register_defaults
from tandem_virtual.models import ProxyModel
from tandem_virtual.registry import Protocol, Registries

from tests.cli.command import Up, tandem_up
from tests.surfaces.grammar import assert_message_grammar, assert_response_grammar
from tests.surfaces.transport import Recorder, Transport

CALL = {"name": "weather", "arguments": {"city": "Bern", "message": "I look."}}
FAILS = {"stage": "mid-stream", "message": "lost on purpose"}
ASK: Any = {"model": "ours", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}


async def never(seconds: float) -> None:
    """No time passes."""


def engine_of(**fields: Any) -> VirtualModelEngine:
    return VirtualModelEngine(VirtualModelEngineSpec.model_validate(fields), "ours", sleep=never, now=lambda: 1.0)


def chat(**more: Any) -> Call:
    return Call("chatcmpl-1", pb.API_CHAT_COMPLETIONS, json.dumps({**ASK, **more}).encode())


def test_a_service_can_use_every_model_that_answers_by_itself() -> None:
    registries = Registries()
    register_defaults(registries)
    register_failures(registries)
    models = [model for protocol in Protocol for model in registries.of(protocol).list()]
    assert set(get_args(UseName)) == {model.id for model in models if not isinstance(model, ProxyModel)}
    for name in get_args(UseName):
        engine_of(use=name)


@pytest.mark.parametrize(
    "fields",
    [
        {"use": "echo-model"},
        {"content": "Grüße, 天🌌!", "thinking": "Hm."},
        {"streamChunks": ["Hel", "lo"], "finishReason": "length"},
        {"toolCall": [CALL, CALL], "usage": {"prompt": 9, "completion": 8, "cached": 4}},
        {"sequence": {"steps": [{"content": "Once."}]}},
    ],
    ids=str,
)
async def test_all_surfaces_give_the_same_in_both_modes(fields: dict[str, Any]) -> None:
    engine = engine_of(**fields)
    transport = Transport(engine.generate)
    whole = await transport.claude.messages.create(**ASK)
    async with transport.claude.messages.stream(**ASK) as stream:
        streamed = await stream.get_final_message()
    assert_message_grammar(b"".join(transport.replies[-1].chunks))
    plain = [str([{**b.to_dict(), "id": ""} for b in message.content]) for message in (whole, streamed)]
    assert plain[0] == plain[1]
    said = await transport.gpt.chat.completions.create(**ASK)
    texts = [block.text for block in whole.content if block.type == "text"]
    assert (said.choices[0].message.content or "") == "".join(texts)
    calls = [block.input for block in whole.content if block.type == "tool_use"]
    assert [json.loads(call.function.arguments) for call in said.choices[0].message.tool_calls or ()] == calls
    await (await transport.gpt.responses.create(model="ours", input="Hi", stream=True)).close()
    assert_response_grammar(b"".join(transport.replies[-1].chunks))
    assert said.id.startswith("chatcmpl-")
    assert (whole.model, said.model) == ("ours", "ours")


async def test_usage_and_the_reason_of_the_end_are_told_beside_the_bytes() -> None:
    engine = engine_of(content="Hi", usage={"prompt": 9, "completion": 8, "cached": 4})
    for stream in (False, True):
        outcome = await engine.generate(chat(stream=stream), Recorder())
        assert (outcome.usage.prompt_tokens, outcome.usage.completion_tokens) == (9, 8)
        assert (outcome.usage.cached_tokens, outcome.finish_reason) == (4, "stop")


async def test_tokens_are_counted() -> None:
    counted = await Transport(engine_of(content="Hi").generate).claude.messages.count_tokens(
        model="ours", messages=ASK["messages"]
    )
    assert counted.input_tokens > 0


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, Overloaded), (503, Unavailable), (502, Unavailable), (500, CallError), (400, InvalidRequest)],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_before_the_first_byte_fails_the_call(status: int, kind: type[CallError], stream: bool) -> None:
    reply = Recorder()
    with pytest.raises(kind, match="on purpose") as failed:
        await engine_of(failure={"status": status}).generate(chat(stream=stream), reply)
    assert type(failed.value) is kind
    assert not reply.status


@pytest.mark.parametrize("ending", ["close", "event"])
async def test_a_failure_in_the_midst_fails_the_call_after_its_first_events(ending: str) -> None:
    reply = Recorder()
    with pytest.raises(CallError, match="on purpose"):
        await engine_of(content="Hi", failure={**FAILS, "ending": ending}).generate(chat(stream=True), reply)
    assert b"Hi" in b"".join(reply.chunks)
    assert b"error" not in b"".join(reply.chunks)


async def test_a_stream_that_ends_too_early_is_left_as_it_is() -> None:
    reply = Recorder()
    await engine_of(content="Hi", failure={**FAILS, "ending": "clean"}).generate(chat(stream=True), reply)
    assert b"[DONE]" not in b"".join(reply.chunks)


async def test_other_apis_and_other_models_are_refused() -> None:
    engine = engine_of(content="Hi")
    with pytest.raises(InvalidRequest, match="Messages"):
        await engine.generate(Call("1", pb.API_COMPLETIONS, b"{}"), Recorder())
    with pytest.raises(CallError, match="other"):
        await engine.generate(chat(model="other"), Recorder())
    assert engine.load().running == 0


# ---- the whole way


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("up")
    model = {"thinking": "Hm.", "content": "Hello, you.", "usage": {"prompt": 9, "completion": 8}}
    failing = {"use": "virtual-fail-400"}
    for name, fields in (("greeter", model), ("failing", failing)):
        manifest = {
            "apiVersion": "tandem.dev/v1alpha1",
            "kind": "InferenceService",
            "metadata": {"name": name},
            "spec": {
                "versions": [{"name": "v1", "engine": {"type": "virtualModel", "virtualModel": fields}}],
                "prefill": {"replicas": 1},
                "decode": {"replicas": 1},
            },
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(manifest))
    with tandem_up(folder, "-f", folder / "greeter.yaml", "-f", folder / "failing.yaml") as up:
        yield up


def test_a_service_answers_by_a_virtual_model_on_all_surfaces(up: Up) -> None:
    claude = anthropic.Anthropic(base_url=up.url, api_key="k", max_retries=0)
    gpt = openai.OpenAI(base_url=f"{up.url}/v1", api_key="k", max_retries=0)
    asked: Any = {**ASK, "model": "greeter"}
    message = claude.messages.create(**asked)
    assert [block.type for block in message.content] == ["thinking", "text"]
    with claude.messages.stream(**asked) as stream:
        assert stream.get_final_text() == "Hello, you."
    assert gpt.chat.completions.create(**asked).choices[0].message.content == "Hello, you."
    response = gpt.responses.create(model="greeter", input="Hi")
    assert response.output_text == "Hello, you."
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (9, 8)


def test_a_service_fails_as_its_virtual_model_does(up: Up) -> None:
    claude = anthropic.Anthropic(base_url=up.url, api_key="k", max_retries=0)
    with pytest.raises(anthropic.BadRequestError, match="on purpose"):
        claude.messages.create(**{**ASK, "model": "failing"})
