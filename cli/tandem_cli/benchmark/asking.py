"""One request over HTTP, timed. Nothing that a server does raises: it becomes the sample's error."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tandem_cli.benchmark.hearing import Hearing
from tandem_cli.benchmark.http import NotConnected, Server, head
from tandem_cli.benchmark.prompts import Prompt
from tandem_cli.benchmark.protocols import Api
from tandem_cli.benchmark.samples import Sample


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

    def head(self) -> bytes:
        """The head of each request, but for how long the body is."""
        return head("POST", self.url, {"Content-Type": "application/json", **self.api.headers(self.key)})

    def body(self, prompt: Prompt) -> bytes:
        """The body of a request."""
        return json.dumps({**self.api.body(self.model, prompt, self.stream), **self.extra}).encode()


class Asker:
    """Asks a target.

    Args:
        server: the target's.
        target: who is asked.
        timeout: seconds that an answer may take in all.
        clock: seconds; where they count from does not matter.
        origin: the moment on that clock that samples count from.
    """

    def __init__(
        self, server: Server, target: Target, timeout: float, clock: Callable[[], float], origin: float
    ) -> None:
        self._server = server
        self._target = target
        self._head = target.head()
        self._timeout = timeout
        self._clock = clock
        self._origin = origin

    def now(self) -> float:
        """Seconds since the origin."""
        return self._clock() - self._origin

    async def ask(self, prompt: Prompt, due: float) -> Sample:
        """Asks, and waits for the whole answer."""
        body = self._target.body(prompt)
        request = b"%bContent-Length: %d\r\n\r\n%b" % (self._head, len(body), body)
        hearing, pieces = Hearing(self._target.api, due, self.now()), list[bytes]()

        def hear(piece: bytes) -> None:
            hearing.piece(piece, self.now())

        try:
            async with asyncio.timeout(self._timeout), self._server.connection() as connection:
                status = await connection.send(request, hear if self._target.stream else pieces.append)
        except TimeoutError:
            return hearing.sample(self.now(), "timeout")
        except NotConnected:
            return hearing.sample(self.now(), "no connection")
        except ConnectionError:
            return hearing.sample(self.now(), "broken connection")
        if status != 200:
            return hearing.sample(self.now(), f"status {status}")
        return hearing.streamed(self.now()) if self._target.stream else hearing.whole(b"".join(pieces), self.now())
