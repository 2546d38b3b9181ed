"""Drives storms at a platform, and says what was lost in them."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

from tests.conservation.client import Sighting, fire
from tests.conservation.counters import Counters, Observer
from tests.conservation.judge import Answer, judge, read_body, read_stream
from tests.conservation.platform import Platform
from tests.conservation.shots import Ask, Shot, Storm

ANSWER_SECONDS = 60.0
"""A request that has not ended by then is lost."""


@dataclass
class Report:
    """What storms came to. No faults: nothing was lost."""

    storms: int = 0
    shots: int = 0
    complete: int = 0
    left: int = 0
    errors: int = 0
    kills: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        ends = f"{self.complete} complete, {self.errors} typed errors, {self.left} left"
        first = "".join(f"\n  {fault}" for fault in self.faults[:10])
        return (
            f"{self.storms} storms, {self.shots} requests: {ends}; {self.kills} kills; {len(self.faults)} faults{first}"
        )


class Stormer:
    """Storms at one platform. Answers are learned in calm weather first, or handed in where they are known."""

    def __init__(self, platform: Platform, session: aiohttp.ClientSession, observer: Observer) -> None:
        self._platform = platform
        self._session = session
        self._observer = observer
        self._answers: dict[Ask, Answer] = {}
        self._rest: Counters = {}

    async def learn(self, asks: Sequence[Ask], at_once: int = 8) -> dict[Ask, Answer]:
        """Asks each once, calmly, and takes the counters at rest."""
        places = asyncio.Semaphore(at_once)

        async def one(ask: Ask) -> Answer:
            async with places:
                shot = Shot(ask, 0.0, "read", 0.0, 0)
                seen = await fire(self._session, self._platform.url, self._platform.model, shot, ANSWER_SECONDS)
            assert seen.status == 200, f"in calm weather: {seen}"
            return read_stream(ask, seen.events) if ask.stream else read_body(ask, json.loads(seen.body))

        self._answers = dict(zip(asks, await asyncio.gather(*map(one, asks)), strict=True))
        await self.rest()
        return self._answers

    async def rest(self) -> None:
        """Takes the counters at rest: two equal readings, a little apart."""
        while True:
            first = await self._observer.counters()
            await asyncio.sleep(0.2)
            if first == await self._observer.counters():
                self._rest = first
                return

    async def run(self, storms: Sequence[Storm], at_once: int) -> Report:
        """Runs the storms in groups, and after each waits for all counters to be at rest, for one lease TTL."""
        report = Report()
        for start in range(0, len(storms), at_once):
            group = storms[start : start + at_once]
            async with asyncio.TaskGroup() as tasks:
                for storm in group:
                    tasks.create_task(self._one(storm, report))
            off = await self._observer.settle(self._rest, self._platform.lease_ttl)
            if off:
                seeds = [storm.seed for storm in group]
                report.faults.append(f"storms {seeds}: not at rest after a lease TTL (at rest, now): {off}")
                await self.rest()
        return report

    async def _one(self, storm: Storm, report: Report) -> None:
        async with asyncio.TaskGroup() as tasks:
            shots = [tasks.create_task(self._fire(shot)) for shot in storm.shots]
            if storm.strike != "none":
                tasks.create_task(self._strike(storm))
        report.storms += 1
        report.kills += storm.strike != "none"
        for shot, task in zip(storm.shots, shots, strict=True):
            seen = task.result()
            verdict = judge(shot.ask, seen, self._answers.get(shot.ask))
            report.shots += 1
            report.complete += verdict.complete
            report.left += seen.left
            if verdict.fault:
                report.faults.append(f"storm {storm.seed}, {shot.behaviour} {shot.ask}: {verdict.fault}")
            elif not verdict.complete and not seen.left:
                report.errors += 1

    async def _fire(self, shot: Shot) -> Sighting:
        return await fire(self._session, self._platform.url, self._platform.model, shot, ANSWER_SECONDS)

    async def _strike(self, storm: Storm) -> None:
        await asyncio.sleep(storm.strike_at)
        role = "prefill" if storm.strike == "kill_prefill" else "decode"
        victims = [worker for worker in self._platform.workers if worker.role == role]
        await self._platform.kill(victims[storm.victim % len(victims)])
