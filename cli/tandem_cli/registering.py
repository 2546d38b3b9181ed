"""Writes to the registry that several commands make."""

import getpass

from tandem_api.registry import Activate, Activation, NewModel, NewVersion, Rollback, Version

from tandem_cli.registry import REGISTRY, Registry, checked, refusal


def register(registry: Registry, name: str, given: NewVersion) -> Version:
    """Registers a version, and the model where it is the first.

    Raises:
        Failed: with the error that the registry gave.
    """
    made = registry.client.post(f"{REGISTRY}/models", json=NewModel(name=name).model_dump())
    if not made.is_success and refusal(made)[0] != "already_exists":
        checked(made)
    return registry.send(Version, "POST", f"{REGISTRY}/models/{name}/versions", given)


def change(registry: Registry, name: str, what: str, given: Activate | Rollback) -> Activation:
    """Changes the active version, if nobody else did at this moment.

    Raises:
        Failed: with the error that the registry gave.
    """
    path = f"{REGISTRY}/models/{name}"
    return registry.send(Activation, "POST", f"{path}/{what}", given, {"If-Match": registry.etag(path)})


def who() -> str:
    """The user of this machine, for the history."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""  # A container's user without a name: the key's id says who it was.
