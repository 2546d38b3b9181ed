"""One request over HTTP, timed. Nothing that a server does raises: it becomes the sample's error."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from tandem_cli.benchmark.hearing import Hearing
from tandem_cli.benchmark.prompts import Prompt
from tandem_cli.benchmark.protocols import Api
from tandem_cli.benchmark.samples import Sample

CONNECT_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Target:
    """Who is asked, and how."""

    url: str
    """Of the API's path."""
    api: Api
    model: str
    stream: bool
    key: str = field(default="", repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Members of each body, beside those of the API."""


class Asker:
    """Asks a target.

    Args:
        session: without a limit of connections.
        target: who is asked.
        timeout: seconds that an answer may take in all.
        clock: seconds; where they count from does not matter.
        origin: the moment on that clock that samples count from.
    """

    def __init__(
        self, session: aiohttp.ClientSession, target: Target, timeout: float, clock: Callable[[], float], origin: float
    ) -> None:
        self._session = session
        self._target = target
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_SECONDS)
        self._headers = {"Content-Type": "application/json", **target.api.headers(target.key)}
        self._clock = clock
        self._origin = origin

    def now(self) -> float:
        """Seconds since the origin."""
        return self._clock() - self._origin

    async def ask(self, prompt: Prompt, due: float) -> Sample:
        """Asks, and waits for the whole answer."""
        target = self._target
        body = json.dumps({**target.api.body(target.model, prompt, target.stream), **target.extra}).encode()
        hearing = Hearing(target.api, due, self.now())
        try:
            request = self._session.post(target.url, data=body, headers=self._headers, timeout=self._timeout)
            async with request as response:
                if response.status != 200:
                    await response.read()
                    return hearing.sample(self.now(), f"status {response.status}")
                if not target.stream:
                    return hearing.whole(await response.read(), self.now())
                async for data in response.content.iter_any():
                    hearing.piece(data, self.now())
                return hearing.streamed(self.now())
        except TimeoutError:
            return hearing.sample(self.now(), "timeout")
        except aiohttp.ClientConnectorError:
            return hearing.sample(self.now(), "no connection")
        except (aiohttp.ClientError, OSError):
            return hearing.sample(self.now(), "broken connection")
