"""Drives storms at a platform, and says what was lost in them."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import aiohttp

from tests.conservation.client import Sighting, fire, stall
from tests.conservation.counters import Observer, Reading
from tests.conservation.judge import Answer, judge, read_body, read_stream
from tests.conservation.platform import Platform
from tests.conservation.shots import Ask, Shot, Storm
from tests.conservation.troubles import troubles

ANSWER_SECONDS = 120.0
"""A request that has not ended by then is lost."""
STALL_SECONDS = 30.0
"""A client that stalls and has not been cut off by then reads what there is."""


@dataclass
class Report:
    """What storms came to. No faults: nothing was lost."""

    storms: int = 0
    shots: int = 0
    complete: int = 0
    left: int = 0
    errors: int = 0
    strikes: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    """What befell requests: see `troubles`."""
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        ends = f"{self.complete} complete, {self.errors} typed errors, {self.left} left"
        first = "".join(f"\n  {fault}" for fault in self.faults[:10])
        befell = ", ".join(f"{count} {kind}" for kind, count in sorted((self.strikes + self.troubles).items()))
        return f"{self.storms} storms, {self.shots} requests: {ends}; {befell}; {len(self.faults)} faults{first}"

    @property
    def kills(self) -> int:
        return self.strikes["kill_prefill"] + self.strikes["kill_decode"]


class Stormer:
    """Storms at one platform. Answers are learned in calm weather first, or handed in where they are known."""

    def __init__(self, platform: Platform, session: aiohttp.ClientSession, observer: Observer) -> None:
        self._platform = platform
        self._session = session
        self._observer = observer
        self._answers: dict[Ask, Answer] = {}
        self._rest = Reading({}, {})
        self._stalling = asyncio.Lock()

    async def learn(self, asks: Sequence[Ask], at_once: int = 4) -> dict[Ask, Answer]:
        """Asks each once, so few at once that KV waiting to be fetched has room; takes the counters at rest."""
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
        """Takes the counters at rest: two equal readings, so far apart that no lease is left that nobody ends."""
        while True:
            first = await self._observer.read()
            await asyncio.sleep(1.2 * self._platform.lease_ttl)
            self._rest = await self._observer.read()
            if first.held == self._rest.held:
                return

    async def run(self, storms: Sequence[Storm], at_once: int) -> Report:
        """Runs the storms in groups, and after each waits for all counters to be at rest, for one lease TTL.

        A lease that only its TTL ends is at rest by then, too; so none may expire where nothing disturbed the storms.
        """
        report = Report()
        for start in range(0, len(storms), at_once):
            group = storms[start : start + at_once]
            async with asyncio.TaskGroup() as tasks:
                for storm in group:
                    tasks.create_task(self._one(storm, report))
            reading, off = await self._observer.settle(self._rest.held, self._platform.lease_ttl)
            disturbed = any(storm.strike != "none" for storm in group)
            found = troubles(self._rest, reading, disturbed=disturbed)
            report.troubles += found
            self._rest = replace(self._rest, totals=reading.totals)
            seeds = [storm.seed for storm in group]
            if found["expired"] and not disturbed:
                report.faults.append(f"storms {seeds}: {found['expired']} leases expired, and nothing disturbed them")
            if off:
                report.faults.append(f"storms {seeds}: not at rest after a lease TTL (at rest, now): {off}")
                await self.rest()
        return report

    async def _one(self, storm: Storm, report: Report) -> None:
        async with asyncio.TaskGroup() as tasks:
            shots = [tasks.create_task(self._fire(shot)) for shot in storm.shots]
            if storm.strike != "none":
                tasks.create_task(self._strike(storm))
        report.storms += 1
        if storm.strike != "none":
            report.strikes[storm.strike] += 1
        for shot, task in zip(storm.shots, shots, strict=True):
            seen = task.result()
            verdict = judge(shot, seen, self._answers.get(shot.ask))
            report.shots += 1
            report.complete += verdict.complete
            report.left += seen.left
            if verdict.fault:
                report.faults.append(f"storm {storm.seed}, {shot.behaviour} {shot.ask}: {verdict.fault}")
            elif not verdict.complete and not seen.left:
                report.errors += 1

    async def _fire(self, shot: Shot) -> Sighting:
        if shot.behaviour != "stall":
            return await fire(self._session, self._platform.url, self._platform.model, shot, ANSWER_SECONDS)
        # One at a time, so that each knows which cut was its own.
        async with self._stalling:
            before = await self._observer.cut_off()
            return await stall(
                self._platform.url, self._platform.model, shot, lambda: self._cut_off(before), ANSWER_SECONDS
            )

    async def _cut_off(self, before: int) -> None:
        """Returns when the router has cut off another client, or when there is no more hope of that."""
        end = time.monotonic() + STALL_SECONDS
        while await self._observer.cut_off() == before and time.monotonic() < end:
            await asyncio.sleep(0.05)

    async def _strike(self, storm: Storm) -> None:
        await asyncio.sleep(storm.strike_at)
        blow, _, role = storm.strike.partition("_")
        victims = [worker for worker in self._platform.workers if worker.role == role]
        victim = victims[storm.victim % len(victims)]
        if blow == "kill":
            await self._platform.kill(victim)
        else:
            await self._platform.stop(victim, 1.2 * self._platform.lease_ttl)
