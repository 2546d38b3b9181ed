"""Following the registry's keys: a revoked one is refused a second or two later, on every replica."""

import asyncio
import logging
from typing import Final

import httpx
from pydantic import ValidationError
from tandem_api.registry import KeySnapshot

from tandem_router.access.ring import KeyRing

SNAPSHOT: Final = "/admin/v1/keys/snapshot"
ANSWER_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


class _Unreadable(Exception):
    """The registry answered something else than keys."""


class Following:
    """Asks a registry for its keys, again and again; what has not changed costs it next to nothing.

    Args:
        ring: gets the keys.
        registry: its URL.
        service_key: shown to it.
        poll: seconds between two questions.
    """

    def __init__(self, ring: KeyRing, registry: str, service_key: str, poll: float) -> None:
        self._ring = ring
        self._registry = registry
        self._service_key = service_key
        self._poll = poll
        self._tag = ""
        self._trouble = ""

    async def run(self) -> None:
        """Follows until it is cancelled."""
        headers = {"Authorization": f"Bearer {self._service_key}"} if self._service_key else {}
        async with httpx.AsyncClient(base_url=self._registry, headers=headers, trust_env=False) as http:
            while True:
                await self._follow(http)
                await asyncio.sleep(self._poll)

    async def _follow(self, http: httpx.AsyncClient) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._ask(http)
        except (httpx.HTTPError, TimeoutError, _Unreadable) as error:
            self._ring.lose()
            self._tell(str(error) or type(error).__name__)
        else:
            self._tell("")

    async def _ask(self, http: httpx.AsyncClient) -> None:
        answer = await http.get(SNAPSHOT, headers={"If-None-Match": self._tag} if self._tag else {})
        if answer.status_code == 304:
            self._ring.confirm()
            return
        if answer.status_code != 200:
            raise _Unreadable(f"it answered with status {answer.status_code}")
        try:
            snapshot = KeySnapshot.model_validate_json(answer.content)
        except ValidationError:
            raise _Unreadable("it answered something else than keys: is it a registry of this release?") from None
        self._ring.take(snapshot)
        self._tag = answer.headers.get("etag", "")

    def _tell(self, trouble: str) -> None:
        """Logs what has changed."""
        if trouble and trouble != self._trouble:
            _log.error("the registry's keys can't be read: %s", trouble, extra={"registry": self._registry})
        elif self._trouble and not trouble:
            _log.info("the registry's keys can be read again", extra={"keys": self._ring.count})
        self._trouble = trouble
