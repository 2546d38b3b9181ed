"""One measurement from its settings to its samples: the target is found, warmed up, and asked."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit

from tandem_cli.benchmark.arrivals import Arrival, Traced, limited, poisson, replayed
from tandem_cli.benchmark.asking import Asker, Target
from tandem_cli.benchmark.driving import Course, Ends, drive_closed, drive_open
from tandem_cli.benchmark.http import NotConnected, Server, head
from tandem_cli.benchmark.prompts import Prompt, Prompts
from tandem_cli.benchmark.protocols import APIS, Api
from tandem_cli.benchmark.showing import shown
from tandem_cli.failing import Failed
from tandem_cli.interrupts import heard

_MODELS_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is to be measured."""

    url: str
    api: str | None = None
    model: str | None = None
    key: str = field(default="", repr=False)
    stream: bool = True
    concurrency: int | None = None
    ramp_up: float = 0.0
    """Seconds over which the clients of a closed loop begin."""
    rate: float | None = None
    """Requests per second, Poisson; with neither a rate nor a trace, a closed loop of `concurrency`."""
    trace: Sequence[Traced] = ()
    requests: int | None = None
    duration: float | None = None
    warm_up: int = 0
    timeout: float = 600.0
    seed: int = 0
    input_tokens: int = 256
    output_tokens: int = 64
    dataset: Sequence[Prompt] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def prompts(self, phase: str) -> Prompts:
        """Those of the warm-up are others than those that are measured: no cache shall know the latter."""
        return Prompts(Random(f"{self.seed}/{phase}"), self.input_tokens, self.output_tokens, self.dataset)  # noqa: S311 - no secrets are drawn

    def arrivals(self) -> Iterator[Arrival] | None:
        """The schedule of an open loop; None: the loop is closed."""
        prompts = self.prompts("measured")
        if self.trace:
            return limited(replayed(tuple(self.trace), prompts), self.requests, self.duration)
        if self.rate is None:
            return None
        arrivals = poisson(self.rate, Random(f"{self.seed}/arrivals"), prompts)  # noqa: S311 - no secrets are drawn
        return limited(arrivals, self.requests, self.duration)


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found, and whether it came to its own end."""

    course: Course
    model: str
    interrupted: bool


async def measure(settings: Settings, clock: Callable[[], float]) -> Measured:
    """Measures.

    Raises:
        Failed: the server can't be asked at all, or no request of the warm-up was answered.
    """
    with heard() as interrupts:
        base, name = place_of(settings.url, settings.api)
        async with Server(base) as server:
            target = await _target(settings, server, base, APIS[name])
            await _warm_up(settings, server, target, clock)
            course, origin = Course(), clock()
            asker = Asker(server, target, settings.timeout, clock, origin)
            working = asyncio.create_task(_drive(settings, course, asker))
            asking = asyncio.create_task(interrupts.wait())
            try:
                async with shown(course, lambda: _share(settings, course, asker.now())):
                    await asyncio.wait({working, asking}, return_when=asyncio.FIRST_COMPLETED)
                if working.done():
                    working.result()
            finally:
                working.cancel()
                asking.cancel()
                await asyncio.gather(working, asking, return_exceptions=True)
            return Measured(course, target.model, interrupts.asked)


async def _drive(settings: Settings, course: Course, asker: Asker) -> None:
    arrivals = settings.arrivals()
    if arrivals is not None:
        await drive_open(course, asker, arrivals, settings.concurrency)
        return
    prompts = settings.prompts("measured")
    ends = Ends(settings.requests, settings.duration)
    await drive_closed(course, asker, prompts.next, settings.concurrency or 1, ends, settings.ramp_up)


def _share(settings: Settings, course: Course, now: float) -> float | None:
    requests = settings.requests or len(settings.trace) or None
    shares = [len(course.samples) / requests] if requests else []
    shares += [now / settings.duration] if settings.duration else []
    return min(1.0, max(shares)) if shares else None


async def _warm_up(settings: Settings, server: Server, target: Target, clock: Callable[[], float]) -> None:
    if not settings.warm_up:
        return
    course, asker = Course(), Asker(server, target, settings.timeout, clock, clock())
    prompts = settings.prompts("warm-up")
    await drive_closed(course, asker, prompts.next, min(settings.warm_up, 8), Ends(settings.warm_up))
    if all(sample.error for sample in course.samples):
        raise Failed(
            f"{target.url} answered none of {len(course.samples)} warm-up requests: {course.samples[-1].error}",
            "ask it once by hand; --warm-up 0 measures all the same",
        )


# ---- whom to ask


def place_of(url: str, api: str | None) -> tuple[str, str]:
    """The base URL up to and with /v1, and the name of the API: a server's URL, its /v1, or the path of an API itself.

    Raises:
        Failed: it is no URL of a server.
    """
    parts = urlsplit(url)
    try:
        reachable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # no number
        reachable = False
    if not reachable:
        raise Failed(f"{url!r} is no URL of a server", "give one such as http://127.0.0.1:8080")
    path = parts.path.rstrip("/")
    for name, known in APIS.items():
        if path.endswith(f"/{known.path}"):
            path, api = path.removesuffix(f"/{known.path}"), api or name
            break
    if not path.endswith("/v1"):
        path += "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}", api or "chat"


async def _target(settings: Settings, server: Server, base: str, api: Api) -> Target:
    model = settings.model or await _only_model(server, base, api.headers(settings.key))
    return Target(f"{base}/{api.path}", api, model, settings.stream, settings.key, settings.extra)


async def _only_model(server: Server, base: str, headers: Mapping[str, str]) -> str:
    request, pieces = head("GET", f"{base}/models", headers) + b"\r\n", list[bytes]()
    try:
        async with asyncio.timeout(_MODELS_SECONDS), server.connection() as connection:
            status = await connection.send(request, pieces.append)
    except (NotConnected, ConnectionError, TimeoutError):
        raise Failed(f"no server at {base}", "start one with `tandem up` or `tandem mock`, or check the URL") from None
    if status != 200:
        raise Failed(f"{base}/models answered with status {status}", "say whom to ask: --model NAME")
    try:
        found = [str(model["id"]) for model in json.loads(b"".join(pieces))["data"]]
    except (ValueError, KeyError, TypeError):
        raise Failed(f"{base}/models has no list of models", "say whom to ask: --model NAME") from None
    if len(found) != 1:
        listed = ", ".join(found[:20]) or "none"
        raise Failed(f"{base} serves {len(found)} models: {listed}", "say whom to ask: --model NAME")
    return found[0]
