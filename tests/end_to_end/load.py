"""A load of requests that never stops, of which none may be refused, dropped, or answered by anything but its text."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from tests.conservation.client import fire
from tests.conservation.judge import Answer, judge
from tests.conservation.shots import WORDS, Ask, Shot
from tests.end_to_end.services import answer

ANSWER_SECONDS = 120.0
"""A request that has not ended by then is lost."""
PAUSE_SECONDS = 0.1
"""At most, between two requests of one client."""


def asks(count: int = 24) -> list[Ask]:
    """Chats and completions, streams and whole answers; one in four takes some seconds, so that it outlives steps of a
    rollout."""
    rng = random.Random(4)
    return [
        Ask(
            prompt=" ".join(rng.choices(WORDS, k=rng.randint(1, 60))),
            seed=rng.randrange(2**31),
            max_tokens=rng.randint(100, 200) if number % 4 == 0 else rng.randint(1, 12),
            stream=number % 3 != 2,
            chat=rng.random() < 0.5,
            endless=number % 4 == 0,
        )
        for number in range(count)
    ]


@dataclass
class Load:
    """What has come of the load on one model so far."""

    url: str
    model: str
    answers: Mapping[int, Mapping[Ask, Answer]]
    """By the seed of the engine."""
    seeds: frozenset[int]
    """Of the revisions that may answer at the moment: a test that changes the seed adds and removes it."""
    complete: int = 0
    from_seed: dict[int, int] = field(default_factory=dict)
    """Answers by the seed of who gave them, where texts tell."""
    faults: list[str] = field(default_factory=list)

    async def client(self, session: aiohttp.ClientSession, rng: random.Random) -> None:
        """One client: asks, reads to the end, and asks again; for ever."""
        pool = list(self.answers[min(self.answers)])
        while True:
            shot = Shot(rng.choice(pool), rng.uniform(0, PAUSE_SECONDS), "read", 0.0, 0)
            allowed = self.seeds
            seen = await fire(session, self.url, self.model, shot, ANSWER_SECONDS)
            verdicts = {seed: judge(shot, seen, self.answers[seed][shot.ask]) for seed in allowed | self.seeds}
            whose = [seed for seed, verdict in verdicts.items() if verdict.complete]
            if whose:
                self.complete += 1
                self.from_seed[whose[0]] = self.from_seed.get(whose[0], 0) + 1
            else:
                ends = seen.events[-2:] or seen.body[:300]
                self.faults.append(
                    f"{shot.ask}: status {seen.status}, {[v.fault for v in verdicts.values()]}, {ends!r}"
                )

    async def grows(self, by: int) -> None:
        """Waits for so many more answers."""
        goal = self.complete + by
        async with asyncio.timeout(ANSWER_SECONDS):
            while self.complete < goal and not self.faults:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def loaded(url: str, model: str, *, clients: int, seeds: Sequence[int] = (0,)) -> AsyncIterator[Load]:
    """So many clients on a model while the block lasts. `seeds`: its engines' at any time, at first the first."""
    pool = asks()
    answers = {seed: {ask: await answer(ask, seed) for ask in pool} for seed in seeds}
    load = Load(url.removesuffix("/v1"), model, answers, frozenset(seeds[:1]))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        tasks = [asyncio.create_task(load.client(session, random.Random(number))) for number in range(clients)]
        try:
            yield load
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended
