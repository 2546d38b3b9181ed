"""What a moving source stands for at this moment: a branch of the hub's, as a commit.

Asked once when a revision is made; the answer then stands in the service's status. A token comes from the Secret that
the version names, where the operator may read it (the chart does not let it: a public model needs none).
"""

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

import httpx
from tandem_api.inference_service import Source

from tandem_operator.cluster import SECRET, ApiError, Cluster, NotFound
from tandem_operator.planning.actions import Resolve
from tandem_operator.planning.observed import Resolution
from tandem_operator.store import Key

TOKEN: Final = "HF_TOKEN"  # noqa: S105 - the name of a variable
ANSWER_SECONDS: Final = 10.0
AT_ONCE: Final = 4
KEPT_SECONDS: Final = 60.0
"""How long an answer, or a failure, stands: a revision that is made later asks again."""

_log = logging.getLogger(__name__)


class SourceResolver:
    """Answers `Plan.resolve`. `run` owns the questions that are under way."""

    def __init__(
        self,
        cluster: Cluster,
        http: httpx.AsyncClient,
        endpoint: str,
        answered: Callable[[Key], None],
        clock: Callable[[], float],
    ) -> None:
        """Takes what it works with.

        Args:
            cluster: For Secrets.
            http: For the hub.
            endpoint: The hub's base URL.
            answered: Told which service has to be looked at.
            clock: Seconds, never backwards.
        """
        self._cluster = cluster
        self._http = http
        self._endpoint = endpoint.rstrip("/")
        self._answered = answered
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[Resolution, float]] = {}
        self._asked: dict[tuple[str, str], set[Key]] = {}
        self._wanted: asyncio.Queue[tuple[str, Resolve]] = asyncio.Queue()

    def known(self, namespace: str) -> dict[str, Resolution]:
        """The answers of the last minute, by source."""
        now = self._clock()
        self._known = {place: answer for place, answer in self._known.items() if answer[1] > now}
        return {source: answer for (where, source), (answer, _) in self._known.items() if where == namespace}

    def resolve(self, key: Key, wanted: Resolve) -> None:
        """Asks; several that ask the same wait for one answer."""
        place = key[0], wanted.source
        if place not in self._asked:
            self._asked[place] = set()
            self._wanted.put_nowait((key[0], wanted))
        self._asked[place].add(key)

    async def run(self) -> None:
        """Answers until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            namespace, wanted = await self._wanted.get()
            answer = await self._find(namespace, wanted)
            if answer.error:
                _log.warning("can't resolve a source", extra={"source": wanted.source, "why": answer.error})
            self._known[namespace, wanted.source] = answer, self._clock() + KEPT_SECONDS
            for key in self._asked.pop((namespace, wanted.source), set()):
                self._answered(key)

    async def _find(self, namespace: str, wanted: Resolve) -> Resolution:
        source = Source.parse(wanted.source)
        if source.scheme != "hf":
            return Resolution(resolved=wanted.source)
        token, hint = await self._token(namespace, wanted.secret)
        model, branch = f"{source.authority}/{source.path}", source.revision or "main"
        url = f"{self._endpoint}/api/models/{model}/revision/{quote(branch, safe='')}"
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                answer = await self._http.get(url, headers=headers, follow_redirects=True)
        except (httpx.HTTPError, TimeoutError) as error:
            return Resolution(error=f"{self._endpoint} does not answer: {str(error) or type(error).__name__}")
        if answer.status_code in (401, 403, 404):
            return Resolution(
                error=f"{self._endpoint} answers {answer.status_code} for {model} at {branch}: there is no such model "
                f"or branch, or it takes a token that may read it{hint}"
            )
        try:
            sha = answer.json()["sha"]
        except (ValueError, KeyError, TypeError):
            return Resolution(error=f"{self._endpoint} answers {answer.status_code} for {model} at {branch}")
        return Resolution(resolved=f"hf://{model}@{sha}")

    async def _token(self, namespace: str, secret: str | None) -> tuple[str, str]:
        """The token, and why there is none."""
        if secret is None:
            return "", ""
        try:
            data: dict[str, Any] = (await self._cluster.get(SECRET, namespace, secret)).get("data") or {}
            return base64.b64decode(data[TOKEN]).decode().strip(), ""
        except NotFound:
            return "", f"; the Secret {secret} is not there"
        except ApiError:
            return "", f"; the operator may not read the Secret {secret}: pin a commit, or let it"
        except (KeyError, binascii.Error, UnicodeDecodeError):
            return "", f"; the Secret {secret} has no usable {TOKEN}"
