"""Who is asked, how often, and what a client is told where nobody answers."""

import socket

import pytest
from tandem_api.inference_service.upstream import UpstreamRetries
from tandem_engine.errors import CallError, InvalidRequest, Overloaded, Unavailable
from tandem_proto.tandem.v1 import worker_pb2 as pb

from .conftest import Heard, Server, Slept, answering, call, endpoint, engine_of, whole

ERROR = {"error": {"message": "disk /dev/sda is full", "type": "x"}}


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_a_server_that_fails_before_it_answers_is_asked_again_after_a_while(server: Server, status: int):
    server.handlers = [answering(status, ERROR), answering(status, ERROR), whole()]
    slept = Slept()
    async with engine_of(endpoint(server), slept=slept) as engine:
        await engine.generate(call(), heard := Heard())
    assert heard.status == 200
    assert len(server.bodies) == 3
    assert 0 < slept.seconds[0] < slept.seconds[1]


async def test_another_server_is_asked_at_once(server: Server, second: Server):
    server.handlers = [answering(500, ERROR)]
    slept = Slept()
    async with engine_of(endpoint(server), endpoint(second, "b"), slept=slept) as engine:
        await engine.generate(call(), heard := Heard())
    assert heard.status == 200
    assert slept.seconds == []


async def test_a_server_that_is_down_is_passed_over(server: Server):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = Server(url=f"http://127.0.0.1:{unused.getsockname()[1]}")
    async with engine_of(endpoint(dead), endpoint(server, "b")) as engine:
        await engine.check()
        await engine.generate(call(), Heard())
        assert engine.totals()["upstream_retries"] == 0


async def test_an_engine_none_of_whose_servers_answers_is_not_ready():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = Server(url=f"http://127.0.0.1:{unused.getsockname()[1]}")
    async with engine_of(endpoint(dead, "llama")) as engine:
        with pytest.raises(Unavailable, match="llama"):
            await engine.check()
        with pytest.raises(Unavailable):
            await engine.generate(call(), Heard())
        assert engine.totals()["upstream_calls"] == 3


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_request_that_a_server_refuses_is_not_sent_again(server: Server, status: int):
    server.handlers = [answering(status, {"error": {"message": "too many \x00tools"}})]
    async with engine_of(endpoint(server)) as engine:
        with pytest.raises(CallError, match="too many tools"):
            await engine.generate(call(), Heard())
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("status", "kind"), [(401, Unavailable), (404, Unavailable), (429, Overloaded), (500, Unavailable)]
)
async def test_what_is_no_fault_of_the_request_is_told_without_the_servers_words(
    server: Server, status: int, kind: type[CallError]
):
    server.handlers = [answering(status, ERROR)]
    async with engine_of(endpoint(server)) as engine:
        with pytest.raises(kind) as failed:
            await engine.generate(call(), Heard())
    assert "/dev/sda" not in failed.value.message


async def test_a_servers_wish_for_a_pause_is_kept_up_to_the_limit(server: Server):
    server.handlers = [
        answering(429, ERROR, **{"Retry-After": "3"}),
        answering(429, ERROR, **{"Retry-After": "900"}),
        whole(),
    ]
    slept = Slept()
    async with engine_of(endpoint(server), slept=slept, retries=UpstreamRetries(max_delay=8.0)) as engine:
        await engine.generate(call(), Heard())
    assert slept.seconds == [3.0, 8.0]


async def test_each_server_gets_its_own_key_and_others_none(server: Server, second: Server):
    keyed = endpoint(server, api_key={"name": "keys", "key": "llama"})
    async with engine_of(keyed, endpoint(second, "b"), environment={"TANDEM_UPSTREAM_KEY_0": "s3cret"}) as engine:
        await engine.generate(call(), Heard())
        server.handlers = [answering(500, ERROR)]
        await engine.generate(call(), Heard())
    assert server.headers[0]["Authorization"] == "Bearer s3cret"
    assert "Authorization" not in second.headers[0]


async def test_a_missing_key_is_named_with_its_secret(server: Server):
    with pytest.raises(ValueError, match="Secret 'keys'"):
        async with engine_of(endpoint(server, api_key={"name": "keys", "key": "llama"})):
            pass


async def test_chat_and_embeddings_go_to_those_that_can(server: Server, second: Server):
    second.handlers = [answering(200, {"data": [{"index": 0, "embedding": [1.0]}]})]
    embedder = endpoint(second, "b", capabilities=("embedding",), dimension=1)
    async with engine_of(endpoint(server), embedder) as engine:
        await engine.generate(call(), Heard())
        await engine.generate(call(pb.API_EMBEDDINGS, input="a"), Heard())
    assert (server.paths, second.paths) == (["/v1/chat/completions"], ["/v1/embeddings"])


async def test_what_no_server_can_is_refused_without_asking(server: Server):
    async with engine_of(endpoint(server)) as engine:
        with pytest.raises(InvalidRequest, match="embeddings"):
            await engine.generate(call(pb.API_EMBEDDINGS, input="a"), Heard())
    assert not server.bodies


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_a_path_in_the_url_is_kept_and_v1_is_not_doubled(server: Server, suffix: str):
    async with engine_of(endpoint(server, url=f"{server.url}/tenants/a{suffix}")) as engine:
        await engine.generate(call(), Heard())
    assert server.paths == ["/tenants/a/v1/chat/completions"]


async def test_a_url_that_several_endpoints_share_is_probed_once(server: Server):
    async with engine_of(endpoint(server), endpoint(server, "b", model="other")):
        assert server.probes == 1
