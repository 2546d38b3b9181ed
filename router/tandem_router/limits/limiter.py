"""Letting a request pass as far as the limits of its key and its address go, and taking what it used off them.

Tokens are known when an answer is over. Until then a request counts for what its body may have of them; what it used
beyond that its bucket owes, and gives nothing until it is filled again. A stream that its client broke off counts for
its body alone.
"""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from tandem_router.access.callers import Caller, Refused
from tandem_router.frontends.clients import Headers, Scope
from tandem_router.frontends.parsing import BYTES_PER_TOKEN
from tandem_router.frontends.shapes import is_anthropic
from tandem_router.limits.addresses import client_of
from tandem_router.limits.buckets import Buckets, Draw, Drawn, missing, until_full
from tandem_router.limits.settings import LimitSettings
from tandem_router.limits.shared import Away, SharedBuckets

GRANT: Final = "tandem.grant"
"""Member of an ASGI scope: what the limits let it have; not there where there are none for it."""

_REQUESTS: Final = "requests"
_TOKENS: Final = "tokens"


class _Names:
    """Of the headers: the limit, what is left of it, and when all of it is there again."""

    def __init__(self, what: str) -> None:
        self.openai = [f"x-ratelimit-{part}-{what}".encode() for part in ("limit", "remaining", "reset")]
        self.anthropic = [f"anthropic-ratelimit-{what}-{part}".encode() for part in ("limit", "remaining", "reset")]


_NAMES: Final = {what: _Names(what) for what in (_REQUESTS, _TOKENS)}


class Grant:
    """What a request may use."""

    def __init__(self, headers: Headers, correct: Callable[[Draw], None], tokens: Sequence[Draw]) -> None:
        self.headers = headers
        """Of its answer."""
        self._correct = correct
        self._tokens = tokens

    def settle(self, used: int) -> None:
        """It used so many tokens."""
        for draw in self._tokens:
            if more := used - draw.amount:
                self._correct(Draw(draw.bucket, draw.limit, more))


class Limiter:
    """The limits of one router."""

    def __init__(
        self,
        settings: LimitSettings,
        clock: Callable[[], float],
        wall: Callable[[], float],
        shared: SharedBuckets | None = None,
    ) -> None:
        """`clock` counts seconds and never goes back; `wall` gives Unix seconds; `shared` is run by someone else."""
        self._settings = settings
        self._wall = wall
        self._own = Buckets(clock)
        self.shared = shared

    async def admit(self, caller: Caller, scope: Scope) -> None:
        """Counts a request, and notes in its scope what it may use.

        Raises:
            Refused: 429; it is over one of its limits.
        """
        draws = self._draws(caller, scope)
        if not draws:
            return
        drawn, correct = await self._draw(draws)
        headers = self._headers(scope["path"], draws, drawn)
        if not drawn.granted:
            raise self._refused(draws, drawn, headers)
        scope[GRANT] = Grant(headers, correct, [draw for draw in draws if draw.bucket.endswith(_TOKENS)])

    def _draws(self, caller: Caller, scope: Scope) -> list[Draw]:
        draws: list[Draw] = []
        if caller.id:
            own, given = caller.limits, self._settings.key
            requests = own.requests_per_minute or given.requests_per_minute
            tokens = own.tokens_per_minute or given.tokens_per_minute
            _add(draws, f"key:{caller.id}:", requests, tokens, scope)
        given = self._settings.address
        if given.requests_per_minute or given.tokens_per_minute:
            address = client_of(scope, self._settings.trusted_proxies)
            _add(draws, f"address:{address}:", given.requests_per_minute, given.tokens_per_minute, scope)
        return draws

    async def _draw(self, draws: Sequence[Draw]) -> tuple[Drawn, Callable[[Draw], None]]:
        if self.shared is not None:
            try:
                return await self.shared.draw(draws), self.shared.correct
            except Away:
                pass
        return self._own.draw(draws), self._own.correct

    def _headers(self, path: str, draws: Sequence[Draw], drawn: Drawn) -> Headers:
        """OpenAI's names everywhere, and Anthropic's on its paths; of two limits the one that has less left."""
        nearest: dict[str, tuple[float, Draw]] = {}
        for draw, level in zip(draws, drawn.levels, strict=True):
            what = _TOKENS if draw.bucket.endswith(_TOKENS) else _REQUESTS
            if what not in nearest or level < nearest[what][0]:
                nearest[what] = level, draw
        headers: list[tuple[bytes, bytes]] = []
        anthropic = is_anthropic(path)
        for what, (level, draw) in nearest.items():
            names, seconds = _NAMES[what], until_full(draw, level)
            values = str(draw.limit).encode(), str(max(0, int(level))).encode(), duration(seconds).encode()
            headers += zip(names.openai, values, strict=True)
            if anthropic:
                at = datetime.fromtimestamp(math.ceil(self._wall() + seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                headers += zip(names.anthropic, (*values[:2], at.encode()), strict=True)
        return headers

    def _refused(self, draws: Sequence[Draw], drawn: Drawn, headers: Headers) -> Refused:
        seconds, draw = max(
            ((missing(draw, level), draw) for draw, level in zip(draws, drawn.levels, strict=True)),
            key=lambda pair: pair[0],
        )
        whose, what = draw.bucket.partition(":")[0], draw.bucket.rpartition(":")[2]
        wait = max(1, math.ceil(seconds))
        return Refused(
            429,
            "rate_limit_exceeded",
            f"rate limit exceeded: {draw.limit:,} {what} a minute for this {whose}; try again in {wait} s",
            [("Retry-After", str(wait)), *((name.decode(), value.decode()) for name, value in headers)],
            reason=f"limit_{whose}_{what}",
        )


def _add(draws: list[Draw], name: str, requests: int | None, tokens: int | None, scope: Scope) -> None:
    if requests is not None:
        draws.append(Draw(name + _REQUESTS, requests, 1.0))
    if tokens is not None:
        # A request that needs more than a minute's worth takes what there can be, and the rest is owed.
        draws.append(Draw(name + _TOKENS, tokens, min(float(tokens), _body_tokens(scope))))


def _body_tokens(scope: Scope) -> float:
    """What a body may have, by its length; 1 where that is not told."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return max(1.0, int(value[:12]) // BYTES_PER_TOKEN)
    return 1.0


def duration(seconds: float) -> str:
    """As OpenAI writes durations: 120ms, 6s, 1m30s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    whole = math.ceil(seconds)
    return f"{whole // 60}m{whole % 60}s" if whole >= 60 else f"{whole}s"
