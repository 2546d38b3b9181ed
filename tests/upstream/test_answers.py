"""What clients get of an upstream's answer."""

import asyncio
import json

import pytest
from tandem_engine.errors import CallError, InvalidRequest, Unavailable
from tandem_proto.tandem.v1 import worker_pb2 as pb

from .conftest import Heard, Server, answering, call, chunk, endpoint, engine_of, streaming, whole

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": {"city": "Zürich"}}}


async def test_an_answer_has_our_id_and_model_and_the_upstreams_words(server: Server):
    async with engine_of(endpoint(server)) as engine:
        outcome = await engine.generate(call(temperature=0), heard := Heard())
    assert (heard.json["id"], heard.json["model"]) == ("chatcmpl-ours", "ours")
    assert heard.json["choices"][0]["message"]["content"] == "Hi."
    assert (outcome.usage.prompt_tokens, outcome.usage.completion_tokens, outcome.finish_reason) == (9, 2, "stop")
    assert server.bodies[0]["model"] == "theirs"
    assert server.bodies[0]["temperature"] == 0


async def test_a_stream_comes_event_by_event_and_its_usage_only_where_it_was_asked_for(server: Server):
    usage = chunk(usage={"prompt_tokens": 3, "completion_tokens": 2})
    server.handlers = [streaming(chunk({"role": "assistant"}), chunk({"content": "Hé"}, "stop"), usage, b"[DONE]")]
    async with engine_of(endpoint(server)) as engine:
        without = await engine.generate(call(stream=True), quiet := Heard())
        await engine.generate(call(stream=True, stream_options={"include_usage": True}), telling := Heard())
    assert without.usage.completion_tokens == 2
    assert server.bodies[0]["stream_options"] == {"include_usage": True}
    assert [event["choices"][0]["delta"] for event in quiet.events] == [{"role": "assistant"}, {"content": "Hé"}]
    assert telling.events[-1]["usage"]["completion_tokens"] == 2
    assert {event["id"] for event in telling.events} == {"chatcmpl-ours"}
    assert quiet.pieces[-1] == b"data: [DONE]\n\n"


async def test_arguments_that_are_objects_become_text_in_both_directions(server: Server):
    server.handlers = [
        whole({"role": "assistant", "content": None, "tool_calls": [CALL]}),
        streaming(chunk({"tool_calls": [{"index": 0, **CALL}]}, "tool_calls"), b"[DONE]"),
    ]
    messages = [{"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "c1", "content": "8°"}]
    async with engine_of(endpoint(server)) as engine:
        await engine.generate(call(messages=messages), at_once := Heard())
        await engine.generate(call(stream=True), streamed := Heard())
    for found in (
        at_once.json["choices"][0]["message"],
        streamed.events[0]["choices"][0]["delta"],
        server.bodies[0]["messages"][0],
    ):
        arguments = found["tool_calls"][0]["function"]["arguments"]
        assert isinstance(arguments, str)
        assert json.loads(arguments) == {"city": "Zürich"}


async def test_a_stream_that_is_cut_fails_and_is_not_asked_for_again(server: Server):
    server.handlers = [streaming(chunk({"content": "Hi"}), abrupt=True)]
    async with engine_of(endpoint(server)) as engine:
        with pytest.raises(CallError):
            await engine.generate(call(stream=True), heard := Heard())
    assert heard.status == 200
    assert len(server.bodies) == 1


async def test_a_stream_that_ends_without_its_end_fails(server: Server):
    server.handlers = [streaming(chunk({"content": "Hi"}))]
    async with engine_of(endpoint(server)) as engine:
        with pytest.raises(CallError, match="before the end"):
            await engine.generate(call(stream=True), Heard())


async def test_an_upstreams_error_event_reaches_no_client_in_its_own_words(server: Server):
    server.handlers = [streaming(chunk({"content": "Hi"}), {"error": {"message": "secret at 10.0.0.7"}})]
    async with engine_of(endpoint(server)) as engine:
        with pytest.raises(CallError) as failed:
            await engine.generate(call(stream=True), Heard())
    assert "secret" not in failed.value.message


@pytest.mark.parametrize("body", ["no object", {"choices": []}, {"choices": [3]}, {}])
async def test_an_answer_that_cant_be_used_is_refused(server: Server, body: object):
    server.handlers = [answering(200, body)]
    async with engine_of(endpoint(server)) as engine:
        with pytest.raises(Unavailable):
            await engine.generate(call(), heard := Heard())
    assert not heard.status


async def test_a_cancelled_call_ends_the_upstreams_work(server: Server):
    gone = asyncio.Event()

    async def hang(request: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()

    server.handlers = [hang]
    async with engine_of(endpoint(server)) as engine:
        asking = asyncio.create_task(engine.generate(call(), Heard()))
        async with asyncio.timeout(60):
            while not server.bodies:
                await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


def vectors(*indices: int, length: int = 2) -> dict[str, object]:
    return {"data": [{"index": index, "embedding": [float(index)] * length} for index in indices], "model": "theirs"}


async def test_embeddings_come_in_the_order_of_their_inputs(server: Server):
    server.handlers = [answering(200, {**vectors(2, 0, 1), "usage": {"prompt_tokens": 5, "total_tokens": 5}})]
    async with engine_of(endpoint(server, capabilities=("embedding",), dimension=2)) as engine:
        outcome = await engine.generate(call(pb.API_EMBEDDINGS, input=["a", "b", "c"]), heard := Heard())
    assert [item["embedding"] for item in heard.json["data"]] == [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]
    assert heard.json["model"] == "ours"
    assert outcome.usage.prompt_tokens == 5
    assert server.paths == ["/v1/embeddings"]


@pytest.mark.parametrize(
    "body",
    [
        vectors(0),
        vectors(0, 2),
        vectors(0, 0),
        vectors(-1, 0),
        vectors(0, 1, length=3),
        {"data": None},
        {"data": [1, 2]},
    ],
    ids=["missing", "out of range", "twice", "negative", "dimension", "none", "no objects"],
)
async def test_embeddings_that_do_not_fit_their_inputs_are_refused(server: Server, body: object):
    server.handlers = [answering(200, body)]
    async with engine_of(endpoint(server, capabilities=("embedding",), dimension=2)) as engine:
        with pytest.raises(Unavailable):
            await engine.generate(call(pb.API_EMBEDDINGS, input=["a", "b"]), Heard())


@pytest.mark.parametrize("given", ["", [], None, [""] and [None], [1, "a"], {"a": 1}])
async def test_an_embedding_request_without_inputs_is_refused_here(server: Server, given: object):
    async with engine_of(endpoint(server, capabilities=("embedding",), dimension=2)) as engine:
        with pytest.raises(InvalidRequest):
            await engine.generate(call(pb.API_EMBEDDINGS, input=given), Heard())
    assert not server.bodies


async def test_limits_of_tokens_are_cut_to_the_platforms(server: Server):
    async with engine_of(endpoint(server)) as engine:
        await engine.generate(call(max_tokens=5000), Heard())
    assert server.bodies[0]["max_tokens"] == 100


@pytest.mark.parametrize("wrong", [{"max_tokens": 0}, {"temperature": -0.1}, {"top_k": -2}], ids=str)
async def test_numbers_that_make_no_sense_are_refused_here(server: Server, wrong: dict[str, float]):
    async with engine_of(endpoint(server)) as engine:
        with pytest.raises(InvalidRequest, match=next(iter(wrong))):
            await engine.generate(call(**wrong), Heard())
        await engine.generate(call(temperature=9, top_p=3), Heard())
    assert [(body["temperature"], body["top_p"]) for body in server.bodies] == [(2.0, 1.0)]
