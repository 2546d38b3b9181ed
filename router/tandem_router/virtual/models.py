"""The virtual models of one router."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tandem_api.virtual_models import load_models
from tandem_virtual.answering import Answering, Models
from tandem_virtual.building import register_declared
from tandem_virtual.catalogue import register_failures
from tandem_virtual.defaults import register_defaults
from tandem_virtual.models import VirtualModel
from tandem_virtual.registry import Protocol, Registries

from tandem_router.virtual.settings import VirtualSettings

_KEY_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class Both:
    """Both registries as one, seen from a protocol."""

    registries: Registries
    protocol: Protocol

    def get(self, id: str) -> VirtualModel | None:
        return self.registries.find(id, self.protocol)


class RouterModels:
    """Registries, and what answers by them.

    Args:
        settings: which models there are at the start.
        now: Unix seconds.
        entropy: so many random bytes.

    Raises:
        ManifestError: the file of models is wrong.
        AlreadyRegistered: it has a model of a default's id.
    """

    def __init__(self, settings: VirtualSettings, now: Callable[[], float], entropy: Callable[[int], bytes]) -> None:
        self.settings = settings
        self.registries = Registries()
        self.answering = Answering(now, lambda: entropy(_KEY_BYTES).hex())
        register_defaults(self.registries)
        if settings.failures:
            register_failures(self.registries)
        if settings.models is not None:
            register_declared(self.registries, load_models(settings.models))

    def walled(self, protocol: Protocol) -> Models:
        """The models that are reachable behind /virtual."""
        return self.registries.of(protocol)

    def listed(self, protocol: Protocol) -> Models:
        """The models that are reachable in /v1."""
        return Both(self.registries, protocol)
