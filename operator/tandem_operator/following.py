"""What sources of the registry stand for, asked again and again; and the registry told which versions are in use.

A version that a service uses can't be deleted there. Who uses what is said again by every operator that starts, and a
registry that is away hears of it when it is back: nothing waits for that. What a source stands for is taken as it was
for a while, when the registry does not answer; then it is said that it does not.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import httpx
from pydantic import BaseModel, ValidationError
from tandem_api import registry as wire

from tandem_operator.planning.observed import Resolution
from tandem_operator.settings import RegistrySettings
from tandem_operator.store import Key

POLL_SECONDS: Final = 2.0
TOLERATED_SECONDS: Final = 10.0
"""A registry that is upgraded is away for a moment: that is no news."""
ANSWER_SECONDS: Final = 10.0
AT_ONCE: Final = 8

_REGISTRY: Final = "/admin/v1/registry"
_NONE: Final = Resolution(error="There is no registry here: give the chart registry.enabled=true, or registry.url.")

_log = logging.getLogger(__name__)

T = TypeVar("T", bound=BaseModel)


class _Away(Exception):
    """The registry can't be asked now; the text says why."""


class _Refused(Exception):
    """It was asked, and says that it is not so; the text is its own."""


@dataclass(frozen=True, slots=True)
class _Use:
    """That a service, the holder, needs a registered version."""

    holder: str
    model: str
    version: str


@dataclass(frozen=True, slots=True)
class _Interest:
    """What one service wants of the registry."""

    sources: frozenset[str]
    uses: frozenset[_Use]


class Following:
    """Answers `Plan.follow` and does `Plan.uses`. `run` owns all that is under way."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        registry: RegistrySettings | None,
        answered: Callable[[Key], None],
        clock: Callable[[], float],
    ) -> None:
        """Takes what it works with.

        Args:
            http: For the registry.
            registry: Where it is; None: nothing is ever asked.
            answered: Told which service has to be looked at.
            clock: Seconds, never backwards.
        """
        self._http = http
        self._registry = registry
        self._answered = answered
        self._clock = clock
        self._interests: dict[Key, _Interest] = {}
        self._known: dict[str, Resolution] = {}
        self._heard: dict[str, float] = {}
        """When each source was last told."""
        self._told: set[_Use] = set()
        self._read: set[tuple[str, str]] = set()
        """Holders and models of which it is known what the registry has."""
        self._wake = asyncio.Event()

    def known(self) -> Mapping[str, Resolution]:
        """What each source stands for, as far as it was found out."""
        return self._known

    def want(self, key: Key, uid: str, sources: Iterable[str], uses: Iterable[str]) -> None:
        """What a service wants from now on: these sources followed, these versions (NAME/VERSION) kept."""
        holder = f"{'/'.join(key)}/{uid}"
        held = (_Use(holder, *one.split("/")) for one in uses)
        interest = _Interest(frozenset(sources), frozenset(held))
        if interest != self._interests.get(key):
            self._interests[key] = interest
            self._wake.set()

    def forget(self, key: Key) -> None:
        """A service is no more: it needs nothing."""
        if self._interests.pop(key, None) is not None:
            self._wake.set()

    async def run(self) -> None:
        """Asks and tells until it is cancelled."""
        while True:
            await self._round()
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def _round(self) -> None:
        interests = list(self._interests.values())
        sources = {source for interest in interests for source in interest.sources}
        uses = {use for interest in interests for use in interest.uses}
        for gone in self._known.keys() - sources:
            del self._known[gone]
            self._heard.pop(gone, None)
        places = asyncio.Semaphore(AT_ONCE)

        async def one(work: Coroutine[Any, Any, None]) -> None:
            async with places:
                await work

        async with asyncio.TaskGroup() as group:
            for source in sources:
                group.create_task(one(self._ask(source)))
            for holder, model in {(use.holder, use.model) for use in uses ^ self._told}:
                group.create_task(one(self._settle(holder, model, uses)))
        self._read &= {(use.holder, use.model) for use in uses | self._told}

    # ---- what sources stand for

    async def _ask(self, source: str) -> None:
        found = await self._find(source)
        if found is None or found == self._known.get(source):
            return
        if found.error:
            _log.warning("can't follow a source", extra={"source": source, "why": found.error})
        self._known[source] = found
        for key, interest in self._interests.items():
            if source in interest.sources:
                self._answered(key)

    async def _find(self, source: str) -> Resolution | None:
        """What it stands for, or why that can't be told; None: it is still taken as it was."""
        if self._registry is None:
            return _NONE
        now = self._clock()
        try:
            answer = _shaped(wire.Resolution, await self._request("GET", f"{_REGISTRY}/resolve", source=source))
        except _Refused as why:
            return Resolution(error=f"{str(why).rstrip('.')}.")
        except _Away as why:
            if now - self._heard.get(source, now - TOLERATED_SECONDS) < TOLERATED_SECONDS:
                return None
            return Resolution(error=f"The registry can't be asked what {source} is: {why}.")
        self._heard[source] = now
        return Resolution(answer.uri, registered=f"{answer.model}/{answer.version}", args=answer.engine.args)

    # ---- what is in use

    async def _settle(self, holder: str, model: str, uses: set[_Use]) -> None:
        """Has the registry know which versions of a model a holder uses; what fails is tried again next time."""
        if self._registry is None:
            return

        def mine(all: set[_Use]) -> set[_Use]:
            return {use for use in all if (use.holder, use.model) == (holder, model)}

        try:
            if (holder, model) not in self._read:
                # What a former operator said, and did not come to take back.
                self._told |= await self._kept(holder, model)
                self._read.add((holder, model))
            for use in mine(uses) - self._told:
                await self._say("PUT", use)
                self._told.add(use)
            for use in mine(self._told) - uses:
                await self._say("DELETE", use)
                self._told.discard(use)
        except (_Away, _Refused) as why:
            _log.warning("can't say what is in use", extra={"holder": holder, "model": model, "why": str(why)})

    async def _say(self, method: str, use: _Use) -> None:
        try:
            await self._request(method, f"{_REGISTRY}/models/{use.model}/versions/{use.version}/uses/{use.holder}")
        except _Refused as why:
            # The version is not there, or no longer: to say it again would change nothing.
            _log.warning("the registry knows no such use", extra={"use": str(use), "why": str(why)})

    async def _kept(self, holder: str, model: str) -> set[_Use]:
        kept: set[_Use] = set()
        cursor: dict[str, str] = {}
        while True:
            path = f"{_REGISTRY}/models/{model}/versions"
            page = _shaped(wire.Page[wire.Version], await self._request("GET", path, limit="500", **cursor))
            kept |= {_Use(holder, model, version.name) for version in page.data if holder in version.used_by}
            if page.next_cursor is None:
                return kept
            cursor = {"cursor": page.next_cursor}

    # ---- HTTP

    async def _request(self, method: str, path: str, **query: str) -> httpx.Response:
        """What the registry answers, and that is good.

        Raises:
            _Refused: it says no.
            _Away: it says nothing that could be used.
        """
        assert self._registry is not None
        headers = {}
        try:
            if self._registry.key_file is not None:
                headers["Authorization"] = f"Bearer {self._registry.key_file.read_text().strip()}"
            async with asyncio.timeout(ANSWER_SECONDS):
                url = self._registry.url.rstrip("/") + path
                answer = await self._http.request(method, url, params=query, headers=headers)
        except (httpx.HTTPError, TimeoutError) as error:
            raise _Away(str(error) or type(error).__name__) from None
        except OSError as error:
            raise _Away(f"the key can't be read: {error.strerror}") from None
        if answer.status_code in (400, 404, 409):
            raise _Refused(_message(answer))
        if not answer.is_success:
            raise _Away(f"it answers {answer.status_code}, {_message(answer)}")
        return answer


def _shaped(shape: type[T], answer: httpx.Response) -> T:
    try:
        return shape.model_validate_json(answer.content)
    except ValidationError:
        raise _Away("it does not answer as a registry of this release does") from None


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase
