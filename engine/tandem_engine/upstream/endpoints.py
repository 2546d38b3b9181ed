"""The servers behind an engine: how each is, as probes and calls find it, and which one is asked next."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp
from tandem_api.inference_service.upstream import UpstreamEndpoint, key_variable

PROBE_SECONDS: Final = 3.0
"""That an endpoint's list of models may take."""

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Endpoint:
    """One server."""

    spec: UpstreamEndpoint
    key: str
    up: bool = False
    why: str = "it was not asked yet"
    """Why it is not up."""
    under_way: int = 0

    def url(self, path: str) -> str:
        """Of a path that begins with /v1. A base URL's own path stays (requirements 14.2, row 20)."""
        return self.spec.url.rstrip("/").removesuffix("/v1") + path

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def serves(self, *, embeds: bool) -> bool:
        return ("embedding" if embeds else "chat") in self.spec.capabilities


def endpoints_of(specs: Sequence[UpstreamEndpoint], environment: Mapping[str, str]) -> tuple[Endpoint, ...]:
    """The endpoints with their keys.

    Raises:
        ValueError: the environment lacks a key.
    """
    found = []
    for index, spec in enumerate(specs):
        name = key_variable(index)
        key = environment.get(name, "").strip() if spec.api_key is not None else ""
        if spec.api_key is not None and not key and not spec.api_key.optional:
            secret = f"key {spec.api_key.key!r} of Secret {spec.api_key.name!r}"
            raise ValueError(f"the upstream {spec.label} needs {secret}: {name} is not set")
        found.append(Endpoint(spec, key))
    return tuple(found)


def choose(endpoints: Sequence[Endpoint], tried: Sequence[Endpoint], *, embeds: bool) -> Endpoint | None:
    """Who is asked next: of those that can, first who was tried least, then who is up, then who has least to do."""
    able = [endpoint for endpoint in endpoints if endpoint.serves(embeds=embeds)]
    return min(able, key=lambda one: (tried.count(one), not one.up, one.under_way), default=None)


async def probe_all(session: aiohttp.ClientSession, endpoints: Sequence[Endpoint]) -> None:
    """Looks at all endpoints at once; one that is shared by several is asked once (requirements SH-20, SH-21)."""
    urls: dict[tuple[str, str], list[Endpoint]] = {}
    for endpoint in endpoints:
        urls.setdefault((endpoint.url("/v1/models"), endpoint.key), []).append(endpoint)
    async with asyncio.TaskGroup() as group:
        for sharing in urls.values():
            group.create_task(_probe(session, sharing))


async def _probe(session: aiohttp.ClientSession, endpoints: Sequence[Endpoint]) -> None:
    why = ""
    first = endpoints[0]
    timeout = aiohttp.ClientTimeout(total=PROBE_SECONDS)
    try:
        async with session.get(first.url("/v1/models"), headers=first.headers, timeout=timeout) as response:
            if response.status != 200:
                why = f"its list of models has status {response.status}"
            else:
                listed = [str(model["id"]) for model in (await response.json(content_type=None))["data"]]
    except TimeoutError:
        why = f"its list of models does not come within {PROBE_SECONDS:g} s"
    except (aiohttp.ClientError, OSError):
        why = "it can't be reached"
    except (ValueError, KeyError, TypeError):
        why = "its list of models is no such list"
    for endpoint in endpoints:
        _believe(endpoint, why)
        if not why and endpoint.spec.model not in listed:
            # Some servers know more names than they list: a call finds out.
            log.debug("%s does not list the model %s", endpoint.spec.label, endpoint.spec.model)


def _believe(endpoint: Endpoint, why: str) -> None:
    if endpoint.up != (not why) or endpoint.why != why:
        level = logging.WARNING if why else logging.INFO
        log.log(level, "the upstream %s %s", endpoint.spec.label, f"is down: {why}" if why else "is up")
    endpoint.up, endpoint.why = not why, why
