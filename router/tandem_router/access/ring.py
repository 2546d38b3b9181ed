"""The keys that a router has at hand: a request costs one look into a dictionary, whatever the registry does.

Only digests are kept, and a key is found by its digest: how long that takes tells nothing about any other key.

The store's keys come from the registry (`tandem_router.access.following`). While it can't be asked, those that are
known go on working for a while, and of others nothing can be said: they may have been made a moment ago.
"""

from collections.abc import Callable
from typing import Final

from tandem_api.registry import KeySnapshot, key_digest

from tandem_router.access.callers import Caller, Refused, unauthenticated
from tandem_router.access.scopes import EVERYTHING, granted
from tandem_router.access.settings import AccessSettings

STATIC: Final = "static-key"
SERVICE: Final = "service-key"
RETRY_SECONDS: Final = 5


class KeyRing:
    """Finds out who shows a key."""

    def __init__(self, settings: AccessSettings, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        """`clock` counts seconds and never goes back; `wall` gives Unix seconds."""
        self._settings = settings
        self._clock = clock
        self._wall = wall
        self._fixed: dict[str, Caller] = {}
        if settings.service_key:
            self._fixed[key_digest(settings.service_key)] = Caller(SERVICE, granted(["read_only"]), service=True)
        if settings.static is not None:
            self._fixed[settings.static] = Caller(STATIC, EVERYTHING)
        self._stored: dict[str, Caller] = {}
        self._confirmed: float | None = None
        self._away = True

    @property
    def known(self) -> bool:
        """There is nothing to wait for: the store's keys are here, or there is no store."""
        return not self._settings.store or self._confirmed is not None

    @property
    def count(self) -> int:
        """Of the store's keys."""
        return len(self._stored)

    @property
    def age(self) -> float | None:
        """Seconds since the store confirmed them last; None: never, or there is no store."""
        return None if self._confirmed is None else self._clock() - self._confirmed

    def take(self, snapshot: KeySnapshot) -> None:
        """These are the store's keys, and no others."""
        self._stored = {
            key.sha256: Caller(
                key.id, granted(key.scopes), key.limits, None if key.expires_at is None else key.expires_at.timestamp()
            )
            for key in snapshot.keys
        }
        self.confirm()

    def confirm(self) -> None:
        """The store has changed nothing since."""
        self._confirmed = self._clock()
        self._away = False

    def lose(self) -> None:
        """The store can't be asked."""
        self._away = True

    def caller(self, key: str) -> Caller:
        """Who shows this key.

        Raises:
            Refused: 401 where it is unknown or has expired, 503 where that can't be told.
        """
        digest = key_digest(key)
        caller = self._fixed.get(digest)
        if caller is not None:
            return caller
        caller = self._stored.get(digest)
        if caller is None:
            if self._settings.store and self._away:
                raise self._unavailable()
            raise unauthenticated("invalid API key")
        if caller.expires_at is not None and caller.expires_at <= self._wall():
            raise unauthenticated("this API key has expired")
        if self._confirmed is None or self._clock() - self._confirmed > self._settings.max_stale:
            raise self._unavailable()
        return caller

    def _unavailable(self) -> Refused:
        return Refused(
            503,
            "keys_unavailable",
            "this API key can't be checked at the moment: try again soon",
            [("Retry-After", str(RETRY_SECONDS))],
        )
