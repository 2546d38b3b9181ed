"""Requests are due when the schedule says so, and asked then."""

import asyncio
from itertools import islice, pairwise
from pathlib import Path
from random import Random

import pytest
from tandem_cli.benchmark.arrivals import limited, poisson, read_trace, replayed
from tandem_cli.benchmark.driving import Course, Ends, drive_closed, drive_open
from tandem_cli.benchmark.prompts import Prompt, Prompts, read_dataset
from tandem_cli.benchmark.samples import Sample
from tandem_cli.failing import Failed


def prompts(seed: int = 1) -> Prompts:
    return Prompts(Random(seed), input_tokens=5, output_tokens=9)


def test_poisson_arrivals_have_their_rate_and_the_spread_of_one():
    dues = [due for due, _ in islice(poisson(20, Random(3), prompts()), 20_000)]
    gaps = [later - earlier for earlier, later in pairwise(dues)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(1 / 20, rel=0.05)
    assert deviation == pytest.approx(mean, rel=0.05)


def test_the_same_seed_gives_the_same_arrivals_and_prompts():
    first, second = (list(limited(poisson(5, Random(3), prompts()), 50, None)) for _ in range(2))
    assert first == second


def test_a_schedule_ends_by_count_and_by_time():
    assert len(list(limited(poisson(5, Random(3), prompts()), 7, None))) == 7
    assert all(due <= 2 for due, _ in limited(poisson(50, Random(3), prompts()), None, 2.0))


def test_a_trace_is_replayed_from_its_first_request(tmp_path: Path):
    path = tmp_path / "trace.jsonl"
    path.write_text(
        '{"timestamp": 3000, "input_length": 4, "output_length": 2}\n{"timestamp": 1500, "prompt": "Why?"}\n\n'
    )
    found = list(replayed(read_trace(path), prompts()))
    assert [due for due, _ in found] == [0.0, 1.5]
    assert found[0][1].messages[0]["content"] == "Why?"
    assert found[0][1].max_tokens == 9
    assert (len(found[1][1].messages[0]["content"].split()), found[1][1].max_tokens) == (4, 2)


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"input_length": 3}', '{"timestamp": "soon"}'])
def test_a_line_of_a_trace_that_cant_be_read_is_named(tmp_path: Path, line: str):
    path = tmp_path / "trace.jsonl"
    path.write_text(f'{{"timestamp": 1}}\n{line}\n')
    with pytest.raises(Failed, match="line 2"):
        read_trace(path)


@pytest.mark.parametrize("line", ["{", "[]", '{"text": "?"}', '{"messages": 3}'])
def test_a_line_of_a_dataset_that_cant_be_read_is_named(tmp_path: Path, line: str):
    path = tmp_path / "dataset.jsonl"
    path.write_text(line)
    with pytest.raises(Failed, match="line 1"):
        read_dataset(path, 10)


class Clocked:
    """Asks nobody, in simulated time: an answer comes `seconds` after it was sent."""

    def __init__(self, seconds: float) -> None:
        self.time = 0.0
        self.asked: list[tuple[float, float]] = []
        self.at_once = self.most = 0
        self._seconds = seconds
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        done = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.time + seconds, done))
        await done

    async def ask(self, prompt: Prompt, due: float) -> Sample:
        sent = self.time
        self.asked.append((due, sent))
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await self.sleep(self._seconds)
        self.at_once -= 1
        return Sample(due=due, sent=sent, end=self.time)

    async def run(self, work: "asyncio.Task[None]") -> None:
        """Time goes on whenever nothing else can."""
        while not work.done():
            for _ in range(20):
                await asyncio.sleep(0)
            if self._sleepers:
                self._sleepers.sort(key=lambda sleeper: sleeper[0])
                self.time, done = self._sleepers.pop(0)
                done.set_result(None)
        await work


async def test_an_open_loop_asks_on_time_however_slow_the_answers():
    clocked, course = Clocked(100.0), Course()
    arrivals = iter([(float(at), Prompt((), 1)) for at in range(5)])
    await clocked.run(asyncio.create_task(drive_open(course, clocked, arrivals, None, clocked.sleep)))
    assert clocked.asked == [(float(at), float(at)) for at in range(5)]
    assert [sample.latency for sample in course.samples] == [100.0] * 5


async def test_what_waits_for_the_limit_of_an_open_loop_counts_from_when_it_was_due():
    clocked, course = Clocked(10.0), Course()
    arrivals = iter([(float(at), Prompt((), 1)) for at in range(3)])
    await clocked.run(asyncio.create_task(drive_open(course, clocked, arrivals, 1, clocked.sleep)))
    assert clocked.most == 1
    assert [sample.latency for sample in course.samples] == [10.0, 19.0, 28.0]


async def test_a_closed_loop_keeps_so_many_under_way_until_all_are_asked():
    clocked, course = Clocked(1.0), Course()
    work = drive_closed(course, clocked, prompts().next, 4, Ends(requests=10), 0, clocked.sleep)
    await clocked.run(asyncio.create_task(work))
    assert (clocked.most, len(course.samples), clocked.time, course.under_way) == (4, 10, 3.0, 0)


async def test_a_closed_loop_begins_nothing_after_its_time():
    clocked, course = Clocked(1.0), Course()
    await clocked.run(
        asyncio.create_task(drive_closed(course, clocked, prompts().next, 2, Ends(seconds=2.5), 0, clocked.sleep))
    )
    assert len(course.samples) == 6
    assert all(sent < 2.5 for _, sent in clocked.asked)


async def test_the_clients_of_a_closed_loop_begin_one_after_another():
    clocked, course = Clocked(10.0), Course()
    work = drive_closed(course, clocked, prompts().next, 4, Ends(requests=4), 2.0, clocked.sleep)
    await clocked.run(asyncio.create_task(work))
    assert clocked.asked == [(at, at) for at in (0.0, 0.5, 1.0, 1.5)]
