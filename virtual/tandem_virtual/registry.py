"""Which virtual models there are: one registry for each protocol, since the registry is a model's protocol."""

import threading
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from tandem_virtual.models import ProxyModel, VirtualModel


class Protocol(StrEnum):
    """A family of APIs: OpenAI's chat completions and Responses, or Anthropic's Messages."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class AlreadyRegistered(ValueError):
    """A model of this id is there already, and stays."""


class ProxyLoop(ValueError):
    """Proxies would forward to each other for ever."""


class Registry:
    """The models of one protocol. Safe for threads."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self._lock = threading.RLock()
        self._models: dict[str, VirtualModel] = {}

    def register(self, model: VirtualModel) -> None:
        """Adds a model.

        Raises:
            AlreadyRegistered: its id is taken.
            ProxyLoop: it closes a circle of proxies.
        """
        with self._lock:
            if model.id in self._models:
                raise AlreadyRegistered(f"there is a virtual model {model.id!r} for {self.protocol} already")
            self._refuse_loop(model)
            self._models[model.id] = model

    def unregister(self, id: str) -> None:
        """Removes a model, if it is there."""
        with self._lock:
            self._models.pop(id, None)

    def get(self, id: str) -> VirtualModel | None:
        with self._lock:
            return self._models.get(id)

    def has(self, id: str) -> bool:
        return self.get(id) is not None

    def list(self) -> tuple[VirtualModel, ...]:
        """All models, by id."""
        with self._lock:
            return tuple(self._models[id] for id in sorted(self._models))

    def list_models(self) -> tuple[Mapping[str, Any], ...]:
        """All models as entries of a models list in the protocol's own shape, by id."""
        if self.protocol is Protocol.OPENAI:
            return tuple(model.listed() for model in self.list())
        return tuple(model.listed_for_messages() for model in self.list())

    def clear(self) -> None:
        with self._lock:
            self._models.clear()

    def _refuse_loop(self, model: VirtualModel) -> None:
        way = [model.id]
        following: VirtualModel | None = model
        while isinstance(following, ProxyModel) and following.delegate:
            way.append(following.delegate)
            if following.delegate == model.id:
                raise ProxyLoop(f"proxies must not forward in a circle: {' -> '.join(way)}")
            following = self._models.get(following.delegate)


class Registries:
    """Both registries, and what concerns both."""

    def __init__(self) -> None:
        self.openai = Registry(Protocol.OPENAI)
        self.anthropic = Registry(Protocol.ANTHROPIC)

    def of(self, protocol: Protocol) -> Registry:
        return self.openai if protocol is Protocol.OPENAI else self.anthropic

    def register(self, model: VirtualModel) -> None:
        """Adds a model to both, as two that share nothing, or to neither. Errors as of `Registry.register`."""
        self.openai.register(model)
        try:
            self.anthropic.register(model.twin())
        except ValueError:
            self.openai.unregister(model.id)
            raise

    def unregister(self, id: str) -> None:
        """Removes a model from both, where it is."""
        self.openai.unregister(id)
        self.anthropic.unregister(id)

    def find(self, id: str, protocol: Protocol) -> VirtualModel | None:
        """For who sees both as one: the protocol's own model goes before the other's of the same id."""
        other = Protocol.ANTHROPIC if protocol is Protocol.OPENAI else Protocol.OPENAI
        return self.of(protocol).get(id) or self.of(other).get(id)

    def list_models(self) -> tuple[Mapping[str, Any], ...]:
        """The models of both in OpenAI's shape, by id; one that is in both is there once."""
        union = {model.id: model for registry in (self.anthropic, self.openai) for model in registry.list()}
        return tuple(union[id].listed() for id in sorted(union))
