import threading

import pytest
from tandem_virtual.defaults import register_defaults
from tandem_virtual.models import ProxyModel, SequenceModel, StaticModel, Step
from tandem_virtual.registry import AlreadyRegistered, Protocol, ProxyLoop, Registries, Registry

from tests.virtual_models.asking import answered, asked, request, with_models


def test_the_first_model_of_an_id_stays() -> None:
    registry = Registry(Protocol.OPENAI)
    first = StaticModel(id="m", content="one")
    registry.register(first)
    with pytest.raises(AlreadyRegistered, match="'m' for openai"):
        registry.register(StaticModel(id="m", content="two"))
    assert registry.get("m") is first


def test_removing_what_is_not_there_does_nothing() -> None:
    registry = Registry(Protocol.OPENAI)
    registry.unregister("m")
    assert not registry.has("m")


def test_lists_are_sorted_and_the_same_each_time() -> None:
    registries = with_models(StaticModel(id="b"), StaticModel(id="a"))
    entry = {"object": "model", "created": 0, "owned_by": "tandem-virtual"}
    assert list(registries.openai.list_models()) == [{"id": "a", **entry}, {"id": "b", **entry}]
    assert list(registries.list_models()) == [{"id": "a", **entry}, {"id": "b", **entry}]
    registries.openai.clear()
    assert registries.openai.list() == ()
    assert len(registries.list_models()) == 2


def test_the_defaults_are_exactly_these() -> None:
    registries = Registries()
    register_defaults(registries)
    shared = {"ask-confirmation", "ask-user-question", "echo-model", "web-search-example"}
    compactions = {"claude-code-compact", "claude-code-strategy", "compact-round-files", "compact-round-only"}
    delays = {model.id: model.delay for model in (*registries.openai.list(), *registries.anthropic.list())}
    assert {model.id for model in registries.openai.list()} == shared | {"virtual-gpt-4"}
    assert {model.id for model in registries.anthropic.list()} == shared | compactions | {"virtual-claude-3"}
    assert delays == {
        "virtual-gpt-4": 0.1,
        "virtual-claude-3": 0.15,
        "echo-model": 0.05,
        "ask-user-question": 0.1,
        "ask-confirmation": 0.05,
        "web-search-example": 0.05,
        **dict.fromkeys(compactions, 0.0),
    }


@pytest.mark.parametrize(("surface", "id"), [("chat", "virtual-claude-3"), ("messages", "virtual-gpt-4")])
def test_a_model_of_the_other_protocol_does_not_exist(surface: str, id: str) -> None:
    registries = Registries()
    register_defaults(registries)
    error = answered(registries, surface, request(surface, id), status=404)["error"]
    assert id in error["message"]
    assert error["type"] == ("not_found_error" if surface == "messages" else "invalid_request_error")


def test_one_id_in_both_registries_is_two_models() -> None:
    registries = with_models(SequenceModel(id="s", content="well", steps=(Step(), Step(status=429))))
    answered(registries, "chat", request("chat", "s"))
    answered(registries, "messages", request("messages", "s"))
    answered(registries, "chat", request("chat", "s"), status=429)


def test_who_sees_both_registries_gets_the_surfaces_own_model() -> None:
    registries = Registries()
    registries.openai.register(StaticModel(id="m", content="openai"))
    own = StaticModel(id="m", content="anthropic")
    registries.anthropic.register(own)
    registries.openai.register(StaticModel(id="only"))
    assert registries.find("m", Protocol.ANTHROPIC) is own
    assert registries.find("only", Protocol.ANTHROPIC) is registries.openai.get("only")
    assert registries.find("none", Protocol.ANTHROPIC) is None


def test_a_model_that_one_registry_refuses_comes_into_neither() -> None:
    registries = Registries()
    registries.anthropic.register(StaticModel(id="m"))
    with pytest.raises(AlreadyRegistered):
        registries.register(StaticModel(id="m"))
    assert not registries.openai.has("m")


def test_a_circle_of_proxies_is_refused() -> None:
    registry = Registry(Protocol.OPENAI)
    registry.register(ProxyModel(id="a", delegate="b"))
    registry.register(ProxyModel(id="b", delegate="c"))
    with pytest.raises(ProxyLoop, match="c -> a -> b -> c"):
        registry.register(ProxyModel(id="c", delegate="a"))
    with pytest.raises(ProxyLoop):
        registry.register(ProxyModel(id="d", delegate="d"))


def test_threads_register_each_id_once() -> None:
    registry = Registry(Protocol.OPENAI)
    refused: list[str] = []

    def register() -> None:
        for number in range(200):
            try:
                registry.register(StaticModel(id=f"m{number}"))
            except AlreadyRegistered as error:
                refused.append(str(error))

    threads = [threading.Thread(target=register) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(registry.list()), len(refused)) == (200, 600)


def test_a_model_without_a_name_is_called_by_its_id() -> None:
    registries = with_models(StaticModel(id="m"), StaticModel(id="n", name="N"))
    assert [entry["display_name"] for entry in registries.anthropic.list_models()] == ["m", "N"]
    assert asked(registries, "chat", request("chat", "m")).delay == 0
