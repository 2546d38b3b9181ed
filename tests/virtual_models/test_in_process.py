from collections.abc import AsyncIterator

import pytest
from tandem_virtual.catalogue import register_failures
from tandem_virtual.in_process import InProcess, Refused, Relayed
from tandem_virtual.models import ProxyModel, StaticModel
from tandem_virtual.outcomes import Forwarded, Lost
from tandem_virtual.registry import Registries

from tests.virtual_models.asking import HELLO, with_models


class Waits:
    """Sleeping that takes no time."""

    def __init__(self) -> None:
        self.all: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.all.append(seconds)


async def test_a_model_is_asked_as_an_object() -> None:
    waits = Waits()
    models = InProcess.with_defaults(sleep=waits.sleep)
    answer = await models.chat.create(model="virtual-gpt-4", messages=HELLO)
    assert "virtual-gpt-4" in answer["choices"][0]["message"]["content"]
    assert waits.all == [0.1]


async def test_events_come_as_objects_each_after_its_wait() -> None:
    waits = Waits()
    models = InProcess.with_defaults(sleep=waits.sleep)
    events = [event async for event in models.messages.stream(model="virtual-claude-3", messages=HELLO)]
    assert (events[0]["type"], events[-1]["type"]) == ("message_start", "message_stop")
    assert len(waits.all) == len([event for event in events if event["type"] == "content_block_delta"])
    assert sum(waits.all) == pytest.approx(0.15)


async def test_every_answer_has_an_id_of_its_own() -> None:
    models = InProcess.with_defaults(sleep=Waits().sleep)
    ids = {(await models.responses.create(model="echo-model", input="Hello"))["id"] for _ in range(3)}
    assert len(ids) == 3


async def test_an_error_response_is_raised() -> None:
    models = InProcess.with_defaults(sleep=Waits().sleep)
    with pytest.raises(Refused, match="none") as refused:
        await models.chat.create(model="none", messages=HELLO)
    assert refused.value.status == 404
    with pytest.raises(Refused):
        [event async for event in models.chat.stream(model="none", messages=HELLO)]


async def test_a_cut_connection_is_raised_after_what_came() -> None:
    registries = Registries()
    register_failures(registries)
    models = InProcess(registries, sleep=Waits().sleep)
    failing = models.chat.stream(model="virtual-fail-midstream-close", messages=HELLO)
    deltas = [(await anext(failing))["choices"][0]["delta"] for _ in range(2)]
    assert [delta["content"] for delta in deltas] == ["", "These are"]
    with pytest.raises(Lost):
        await anext(failing)
    with pytest.raises(Lost):
        await models.chat.create(model="virtual-fail-midstream-close", messages=HELLO)


class Elsewhere:
    """A delegate that has others answer."""

    def __init__(self, models: InProcess) -> None:
        self.models = models
        self.asked: list[Forwarded] = []

    async def forward(self, request: Forwarded) -> Relayed:
        self.asked.append(request)
        return Relayed(200, self._answer())

    async def _answer(self) -> AsyncIterator[bytes]:
        for piece in (b'{"from"', b': "elsewhere"}'):
            yield piece


async def test_a_proxy_has_the_delegate_answer() -> None:
    registries = with_models(ProxyModel(id="p", delegate="real"))
    elsewhere = Elsewhere(InProcess(registries))
    models = InProcess(registries, delegate=elsewhere)
    assert await models.chat.create(model="p", messages=HELLO) == {"from": "elsewhere"}
    assert [request.model for request in elsewhere.asked] == ["real"]


async def test_a_delegate_that_nobody_knows_does_not_exist() -> None:
    models = InProcess(with_models(ProxyModel(id="p", delegate="real"), StaticModel(id="m")))
    with pytest.raises(Refused, match="real") as refused:
        await models.messages.create(model="p", messages=HELLO)
    assert refused.value.body["error"]["type"] == "not_found_error"
