"""How experiments ended, asked of the registry and told to it, until it has answered.

The registry outlives services: what it keeps makes a service that is deleted and made again not try a challenger that
has lost before. Nothing else waits for it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import httpx
from pydantic import ValidationError
from tandem_api.registry import NewOutcome, Outcome

from tandem_operator.planning.experiments.progress import Recorded
from tandem_operator.planning.experiments.record import Record
from tandem_operator.settings import RegistrySettings
from tandem_operator.store import Key

ANSWER_SECONDS: Final = 10.0
AT_ONCE: Final = 4
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
"""Between two attempts: an experiment waits for the answer."""

REMEMBERED: Final = 4096
"""Answers; one that is forgotten is asked for again."""

_WORDS: Final[Mapping[str, Recorded]] = {"promoted": "Promoted", "rolledBack": "RolledBack"}
"""The registry's, and the planner's."""
_SAID: Final = {phase: word for word, phase in _WORDS.items()}

_log = logging.getLogger(__name__)


class _Unanswered(Exception):
    """The registry did not say what was asked; the text says why."""


@dataclass(slots=True)
class _Matter:
    """What is to be asked or told of one experiment."""

    keys: set[Key] = field(default_factory=set)
    """Services that are to be looked at afterwards."""
    record: Record | None = None
    """To be told; None: to be asked."""


class Outcomes:
    """Answers `Plan.inquire` and does `Plan.tell`. `run` owns all that is under way."""

    def __init__(
        self, http: httpx.AsyncClient, registry: RegistrySettings | None, answered: Callable[[Key], None]
    ) -> None:
        """Takes what it works with.

        Args:
            http: For the registry.
            registry: Where it is; None: nothing is ever asked.
            answered: Told which service has to be looked at.
        """
        self._http = http
        self._registry = registry
        self._answered = answered
        self._known: dict[str, Recorded] = {}
        self._open: dict[str, _Matter] = {}
        self._wake = asyncio.Event()

    def known(self) -> Mapping[str, Recorded]:
        """What the registry has answered, by experiment."""
        return self._known

    def inquire(self, key: Key, id: str) -> None:
        """Asks how an experiment ended; several that ask the same wait for one answer."""
        if id not in self._known:
            self._add(key, id)

    def tell(self, key: Key, record: Record) -> None:
        """Tells of an end, until the registry has it."""
        self._add(key, record.id).record = record

    def _add(self, key: Key, id: str) -> _Matter:
        matter = self._open.setdefault(id, _Matter())
        matter.keys.add(key)
        self._wake.set()
        return matter

    async def run(self) -> None:
        """Asks and tells until it is cancelled."""
        pause = FIRST_PAUSE
        while True:
            await self._wake.wait()
            self._wake.clear()
            if await self._settle_all():
                pause = FIRST_PAUSE
                continue
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            self._wake.set()

    async def _settle_all(self) -> bool:
        """Whether nothing is left open."""
        places = asyncio.Semaphore(AT_ONCE)

        async def settle(id: str, matter: _Matter) -> None:
            async with places:
                await self._attempt(id, matter)

        async with asyncio.TaskGroup() as group:
            for id, matter in self._open.items():
                group.create_task(settle(id, matter))
        return not self._open

    async def _attempt(self, id: str, matter: _Matter) -> None:
        record = matter.record
        try:
            self._known[id] = await self._settle(id, record)
            if len(self._known) > REMEMBERED:
                del self._known[next(iter(self._known))]
        except _Unanswered as why:
            _log.warning("the registry does not answer", extra={"experiment": id, "why": str(why)})
            return
        if matter.record is record:
            # Else it has ended while the registry was asked.
            del self._open[id]
        for key in matter.keys:
            self._answered(key)

    async def _settle(self, id: str, record: Record | None) -> Recorded:
        if record is None:
            return await self._ask(id)
        state = record.state
        given = NewOutcome(
            outcome=_SAID[_end(record)],
            # Counts of single users are nobody else's business, and many.
            evidence=record.model_dump(mode="json", by_alias=True, exclude={"ledger"}),
            decided_at=datetime.fromtimestamp(state.since, UTC),
        )
        answer = await self._request("PUT", id, given.model_dump_json().encode())
        if answer.status_code == 409:
            kept = await self._ask(id)
            _log.error("the registry keeps another outcome", extra={"experiment": id, "kept": kept})
            return kept
        if answer.status_code not in (200, 201):
            raise _Unanswered(f"it answers {answer.status_code} to an outcome")
        return _end(record)

    async def _ask(self, id: str) -> Recorded:
        answer = await self._request("GET", id)
        if answer.status_code == 404:
            return "none"
        if answer.status_code != 200:
            raise _Unanswered(f"it answers {answer.status_code} to a question for an outcome")
        try:
            return _WORDS[Outcome.model_validate_json(answer.content).outcome]
        except (ValidationError, KeyError):
            raise _Unanswered("it has an outcome that this release does not know") from None

    async def _request(self, method: str, id: str, body: bytes | None = None) -> httpx.Response:
        assert self._registry is not None, "plans ask and tell only where there is a registry"
        url = f"{self._registry.url.rstrip('/')}/admin/v1/experiments/{id}/outcome"
        try:
            headers = {"Content-Type": "application/json"}
            if self._registry.key_file is not None:
                headers["Authorization"] = f"Bearer {self._registry.key_file.read_text().strip()}"
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._http.request(method, url, content=body, headers=headers)
        except (httpx.HTTPError, TimeoutError) as error:
            raise _Unanswered(str(error) or type(error).__name__) from None
        except OSError as error:
            raise _Unanswered(f"the key can't be read: {error.strerror}") from None


def _end(record: Record) -> Recorded:
    return "Promoted" if record.state.phase == "Promoted" else "RolledBack"
