"""What holds for every API alike: the limit of a body, and workers that do not know an API yet."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tandem_proto.protocol import EMBEDDINGS, MESSAGES, RESPONSES
from tandem_proto.tandem.v1 import worker_pb2 as pb

from tests.router.fake_worker import fail_with
from tests.router.house import MODEL, OpenHouse, fake

HELLO = [{"role": "user", "content": "Hello?"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HELLO},
    "/v1/completions": {"prompt": "Hello?"},
    "/v1/embeddings": {"input": "Hello?"},
    "/v1/responses": {"input": "Hello?"},
    "/v1/messages": {"messages": HELLO, "max_tokens": 5},
    "/v1/messages/count_tokens": {"messages": HELLO},
}
NEEDED = {
    "/v1/embeddings": EMBEDDINGS,
    "/v1/responses": RESPONSES,
    "/v1/messages": MESSAGES,
    "/v1/messages/count_tokens": MESSAGES,
}
LIMIT = 1000


def assert_shape(path: str, body: Any, type: str, code: str | None) -> None:
    """Of an error, as the path's API has it."""
    assert isinstance(body["error"]["message"], str)
    if path.startswith("/v1/messages"):
        assert (body["type"], body["error"]["type"]) == ("error", type)
        assert body["request_id"]
    else:
        assert body.keys() == {"error"}
        assert (body["error"]["type"], body["error"]["code"]) == ("invalid_request_error", code)


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
@pytest.mark.parametrize("path", BODIES)
async def test_a_body_over_the_limit_is_a_413_in_the_apis_shape(
    open_house: OpenHouse, path: str, declared: bool
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * (LIMIT // 2)

    worker = fake("decode", "d0")
    worker.features = (MESSAGES, RESPONSES, EMBEDDINGS)
    async with open_house(decode=[worker], max_body_bytes=LIMIT) as h:
        answer = await h.http.post(path, content=b" " * (LIMIT + 1) if declared else pieces())
        assert answer.status_code == 413
        assert str(LIMIT) in answer.json()["error"]["message"]
        assert_shape(path, answer.json(), "request_too_large", "request_too_large")
        body = json.dumps({"model": MODEL, **BODIES[path]}).encode()
        assert (await h.http.post(path, content=body.ljust(LIMIT))).status_code == 200
        assert len(worker.calls) == 1


@pytest.mark.parametrize("path", NEEDED)
async def test_workers_that_do_not_know_an_api_are_named_as_the_reason(open_house: OpenHouse, path: str) -> None:
    async with open_house(decode=[fake("decode", "d0")]) as h:
        answer = await h.http.post(path, json={"model": MODEL, **BODIES[path]})
        assert answer.status_code == 400
        message = answer.json()["error"]["message"]
        assert path in message
        assert "earlier release" in message
        assert_shape(path, answer.json(), "invalid_request_error", None)
        assert not h.decode[0].calls
        assert (await h.chat()).status_code == 200


@pytest.mark.parametrize("path", NEEDED)
async def test_whoever_knows_an_api_gets_its_calls(open_house: OpenHouse, path: str) -> None:
    older, other = fake("decode", "d0"), fake("decode", "d1")
    other.features = (NEEDED[path],)
    async with open_house(decode=[older, other]) as h:
        for _ in range(4):
            answer = await h.http.post(path, json={"model": MODEL, **BODIES[path]})
            assert answer.status_code == 200
        assert (len(older.calls), len(other.calls)) == (0, 4)


async def test_a_worker_that_does_not_know_an_api_after_all_says_so(open_house: OpenHouse) -> None:
    worker = fake("decode", "d0", fail_with(pb.INVALID_REQUEST, "this worker does not serve this API"))
    worker.features = (MESSAGES,)
    async with open_house(decode=[worker]) as h:
        answer = await h.http.post("/v1/messages", json={"model": MODEL, **BODIES["/v1/messages"]})
        assert (answer.status_code, answer.json()["error"]["message"]) == (400, "this worker does not serve this API")
