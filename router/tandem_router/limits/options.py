"""The options that say how much may be used, and the value they become."""

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import click
from tandem_api.registry import KeyLimits

from tandem_router.limits.settings import LimitSettings, Network


class _Network(click.ParamType[Network]):
    name = "network"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Network:
        try:
            return ip_network(value)
        except ValueError as error:
            self.fail(f"{error}: expected an address or a network, such as 10.0.0.0/8", param, ctx)


def _limit(name: str, text: str) -> Callable[..., Any]:
    return click.option(name, type=click.IntRange(1), show_default="no limit", help=text)


_OPTIONS = (
    _limit("--key-requests-per-minute", "Requests for inference by each key that has no limit of its own."),
    _limit("--key-tokens-per-minute", "Tokens, of prompts and answers, by each key that has no limit of its own."),
    _limit("--address-requests-per-minute", "Requests for inference from each client address."),
    _limit("--address-tokens-per-minute", "Tokens, of prompts and answers, from each client address."),
    click.option(
        "--trusted-proxy",
        "trusted_proxies",
        type=_Network(),
        multiple=True,
        metavar="CIDR",
        help="Proxies that are believed, by X-Forwarded-For, whose request they pass on. May be given several times.",
        show_default="none",
    ),
    click.option(
        "--redis-url",
        default="",
        metavar="URL",
        show_default="each router counts for itself",
        help="Limits hold over all routers that count there. Give it by the environment: TANDEM_ROUTER_REDIS_URL.",
    ),
)


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds them all; `limits_of` takes them away again."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def limits_of(given: dict[str, Any]) -> LimitSettings:
    """What the options say, removed from `given`.

    Raises:
        click.UsageError: the URL is none of a Redis.
    """
    url = given.pop("redis_url")
    if url and not url.startswith(("redis://", "rediss://", "unix://")):
        raise click.UsageError("--redis-url: expected redis://host:6379/0, rediss://... or unix://...")
    return LimitSettings(
        key=_limits(given, "key"),
        address=_limits(given, "address"),
        trusted_proxies=given.pop("trusted_proxies"),
        redis_url=url,
    )


def _limits(given: dict[str, Any], whose: str) -> KeyLimits:
    return KeyLimits(
        requests_per_minute=given.pop(f"{whose}_requests_per_minute"),
        tokens_per_minute=given.pop(f"{whose}_tokens_per_minute"),
    )
