"""All requests of a measurement, each when it is due."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Protocol

from tandem_cli.benchmark.arrivals import Arrival
from tandem_cli.benchmark.prompts import Prompt
from tandem_cli.benchmark.samples import Sample


class Asks(Protocol):
    """What does one request."""

    def now(self) -> float:
        """Seconds since the measurement began."""

    async def ask(self, prompt: Prompt, due: float) -> Sample: ...


@dataclass
class Course:
    """A measurement as it goes."""

    samples: list[Sample] = field(default_factory=list)
    under_way: int = 0

    async def ask(self, asker: Asks, prompt: Prompt, due: float) -> None:
        """One request, and its sample."""
        self.under_way += 1
        try:
            self.samples.append(await asker.ask(prompt, due))
        finally:
            self.under_way -= 1


@dataclass(frozen=True, slots=True)
class Ends:
    """What ends a closed loop: so many requests, or so many seconds in which they begin. None: not this."""

    requests: int | None = None
    seconds: float | None = None


async def drive_closed(
    course: Course,
    asker: Asks,
    prompts: Callable[[], Prompt],
    concurrency: int,
    ends: Ends,
    ramp_up: float = 0.0,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """So many clients, each of which asks again when it has its answer. They begin evenly over `ramp_up` seconds."""
    left = ends.requests

    async def client(number: int) -> None:
        nonlocal left
        await sleep(ramp_up * number / concurrency)
        while (left is None or left > 0) and (ends.seconds is None or asker.now() < ends.seconds):
            left = None if left is None else left - 1
            await course.ask(asker, prompts(), asker.now())

    async with asyncio.TaskGroup() as clients:
        for number in range(concurrency):
            clients.create_task(client(number))


async def drive_open(
    course: Course,
    asker: Asks,
    arrivals: Iterator[Arrival],
    concurrency: int | None,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Requests by a schedule, whether or not earlier ones have their answer.

    With a `concurrency`, no more are sent at once; those that wait for that count from when they were due all the same.
    """
    places = None if concurrency is None else asyncio.Semaphore(concurrency)

    async def one(prompt: Prompt, due: float) -> None:
        async with AsyncExitStack() as place:
            if places is not None:
                await place.enter_async_context(places)
            await course.ask(asker, prompt, due)

    async with asyncio.TaskGroup() as requests:
        for due, prompt in arrivals:
            await sleep(max(0.0, due - asker.now()))
            requests.create_task(one(prompt, due))
