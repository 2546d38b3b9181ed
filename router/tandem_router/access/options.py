"""The options that say who may use a router, and the value they become."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
from tandem_api.inference_service.quantities import parse_duration
from tandem_api.registry import key_digest

from tandem_router.access.settings import AccessSettings

SHORTEST_KEY: Final = 16


def _duration(given: str) -> float:
    try:
        return parse_duration(given)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

_OPTIONS = (
    click.option(
        "--api-key-file", type=_FILE, help="A key that may do everything and needs no registry, as from a Secret."
    ),
    click.option(
        "--api-key",
        default="",
        show_default=False,
        help="The same, by the environment: TANDEM_ROUTER_API_KEY. Others of this machine can read a command line.",
    ),
    click.option("--allow-no-auth", is_flag=True, help="Let everybody do everything: for a laptop, on loopback only."),
    click.option(
        "--service-key-file",
        type=_FILE,
        help="The key that this router shows to the registry, and the operator to this router: for status alone.",
    ),
    click.option(
        "--key-store/--no-key-store",
        default=None,
        show_default="where there is a --registry-url",
        help="Accept the keys of the registry's store. Ready only once they are known.",
    ),
    click.option(
        "--keys-max-stale",
        default="24h",
        callback=lambda _context, _option, given: _duration(given),
        help="How long they are accepted while the registry can't be asked: 30m, 24h.",
    ),
    click.option("--virtual-open", is_flag=True, help="/virtual needs no key, but for /virtual/admin."),
)


def access_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds them all; `access_of` takes them away again."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def access_of(given: dict[str, Any]) -> AccessSettings:
    """What the options say, removed from `given`, but for `registry_url`.

    Raises:
        click.UsageError: nobody could get in, or everybody, without that being asked for.
    """
    open_to_all = given.pop("allow_no_auth")
    static = _static_key(given.pop("api_key_file"), given.pop("api_key"))
    service_key_file = given.pop("service_key_file")
    store = given.pop("key_store")
    if store and not given["registry_url"]:
        raise click.UsageError("--key-store needs --registry-url: its keys are kept there")
    store = bool(given["registry_url"]) if store is None else store
    if open_to_all and static is not None:
        raise click.UsageError("--allow-no-auth lets everybody in: leave it out, or the key")
    if not (open_to_all or static is not None or store):
        raise click.UsageError(
            "without a key nobody could get in. Write one to a file for --api-key-file (openssl rand -hex 32), accept "
            "those of a registry (--registry-url), or let everybody in with --allow-no-auth"
        )
    return AccessSettings(
        required=not open_to_all,
        static=static,
        service_key=_read_key(service_key_file) if service_key_file is not None else "",
        store=store and not open_to_all,
        max_stale=given.pop("keys_max_stale"),
        virtual_open=given.pop("virtual_open"),
    )


def _static_key(file: Path | None, key: str) -> str | None:
    if file is not None and key:
        raise click.UsageError("--api-key-file and --api-key are two keys: give one")
    if file is None and not key:
        return None
    return key_digest(_read_key(file) if file is not None else _checked(key.strip(), "the API key"))


def _read_key(file: Path) -> str:
    try:
        return _checked(file.read_text().strip(), str(file))
    except (OSError, UnicodeDecodeError):
        raise click.UsageError(f"{file} can't be read as a key") from None


def _checked(key: str, where: str) -> str:
    if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise click.UsageError(
            f"{where}: a key is one word of at least {SHORTEST_KEY} ASCII characters, such as `openssl rand -hex 32`"
        )
    return key
