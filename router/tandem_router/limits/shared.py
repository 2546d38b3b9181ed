"""Token buckets in Redis, so that a limit holds over all replicas.

A script draws from all buckets of a request at once, by the server's own clock. All that is asked while an answer is
under way is asked next, together, over the one connection. Where Redis does not answer in time, nobody waits for it and
nobody is refused: every replica counts for itself until it is back.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from tandem_router.limits.buckets import Draw, Drawn

ANSWER_SECONDS: Final = 0.5
AGAIN_SECONDS: Final = 1.0
PREFIX: Final = "tandem:limit:"
AT_ONCE: Final = 200
"""Questions, and corrections, in one go."""
MOST_CORRECTIONS: Final = 10_000
"""That wait for a Redis which is away; those beyond are not made."""

_SCRIPT: Final = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local levels, granted = {}, 1
for i, key in ipairs(KEYS) do
  local limit, amount = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local held = redis.call('HMGET', key, 'level', 'at')
  levels[i] = limit
  if held[1] then
    levels[i] = math.min(limit, tonumber(held[1]) + math.max(0, now - tonumber(held[2])) * limit / 60)
  end
  if ARGV[1] == 'draw' and levels[i] < amount then granted = 0 end
end
local told = {granted}
for i, key in ipairs(KEYS) do
  local limit, amount = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  if granted == 1 then
    levels[i] = math.min(limit, levels[i] - amount)
    redis.call('HSET', key, 'level', tostring(levels[i]), 'at', string.format('%.6f', now))
    redis.call('EXPIRE', key, math.ceil((limit - levels[i]) * 60 / limit) + 1)
  end
  told[i + 1] = tostring(levels[i])
end
return told
"""

_log = logging.getLogger(__name__)


class Away(Exception):
    """Redis does not answer."""


class SharedBuckets:
    """Buckets in a Redis; `run` asks it."""

    def __init__(self, url: str) -> None:
        """Takes where it is.

        Raises:
            ValueError: that is no URL of a Redis.
        """
        # Only routers that have one pay for the library.
        import redis.asyncio
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        self._redis = redis.asyncio.Redis.from_url(
            url,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._failures = (redis.RedisError, OSError, TimeoutError)
        self._asked: list[tuple[Sequence[Draw], asyncio.Future[Drawn]]] = []
        self._corrections: list[Draw] = []
        self._wake = asyncio.Event()
        self.here = True
        """It answered when it was asked last."""

    async def draw(self, draws: Sequence[Draw]) -> Drawn:
        """Takes all, or nothing where one bucket has too little.

        Raises:
            Away: it does not answer.
        """
        if not self.here:
            raise Away
        answer: asyncio.Future[Drawn] = asyncio.get_running_loop().create_future()
        self._asked.append((draws, answer))
        self._wake.set()
        return await answer

    def correct(self, draw: Draw) -> None:
        """Takes an amount soon, whatever there is; a negative one is given back."""
        if len(self._corrections) < MOST_CORRECTIONS:
            self._corrections.append(draw)
            self._wake.set()

    async def run(self) -> None:
        """Asks, and where nobody answers asks again, until it is cancelled."""
        try:
            while True:
                if self.here:
                    await self._wake.wait()
                else:
                    await asyncio.sleep(AGAIN_SECONDS)
                self._wake.clear()
                await self._ask()
                if self._asked or self._corrections:
                    self._wake.set()
        finally:
            self.here = False
            self._give_up(self._asked)
            await self._redis.aclose()

    async def _ask(self) -> None:
        """One go: whatever happens, all that it takes gets an answer. With nothing to ask it finds out who is here."""
        asked, self._asked = self._asked[:AT_ONCE], self._asked[AT_ONCE:]
        corrections = self._corrections[:AT_ONCE]
        try:
            answers = await self._evaluated(
                [*(("draw", draws) for draws, _ in asked), ("correct", _merged(corrections))]
            )
        except self._failures as error:
            self._tell(str(error) or type(error).__name__)
            self._give_up(asked + self._asked)
            self._asked = []
        else:
            self._tell("")
            del self._corrections[: len(corrections)]
            for (_, answer), drawn in zip(asked, answers, strict=False):
                if not answer.done():
                    answer.set_result(drawn)
        finally:
            self._give_up(asked)

    async def _evaluated(self, questions: Sequence[tuple[str, Sequence[Draw]]]) -> list[Drawn]:
        async with asyncio.timeout(ANSWER_SECONDS), self._redis.pipeline(transaction=False) as pipeline:
            for what, draws in questions:
                buckets = [PREFIX + draw.bucket for draw in draws]
                numbers = [number for draw in draws for number in (draw.limit, draw.amount)]
                pipeline.eval(_SCRIPT, len(buckets), *buckets, what, *numbers)
            return [Drawn(bool(told[0]), tuple(map(float, told[1:]))) for told in await pipeline.execute()]

    @staticmethod
    def _give_up(asked: Sequence[tuple[Sequence[Draw], asyncio.Future[Drawn]]]) -> None:
        for _, answer in asked:
            if not answer.done():
                answer.set_exception(Away())

    def _tell(self, trouble: str) -> None:
        """Logs what has changed; the URL may hold a password and is not logged."""
        if trouble and self.here:
            _log.error("Redis does not answer: this router limits by its own counts until it does: %s", trouble)
        elif not trouble and not self.here:
            _log.info("Redis answers again: limits hold over all routers")
        self.here = not trouble


def _merged(draws: Sequence[Draw]) -> list[Draw]:
    """One for each bucket: a script reads all of them before it writes."""
    amounts: dict[tuple[str, int], float] = {}
    for draw in draws:
        amounts[draw.bucket, draw.limit] = amounts.get((draw.bucket, draw.limit), 0.0) + draw.amount
    return [Draw(*bucket, amount) for bucket, amount in amounts.items()]
