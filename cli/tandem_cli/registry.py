"""The model registry as the command line asks it: over HTTP, with errors that say what to do."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import httpx
from pydantic import BaseModel, ValidationError
from tandem_api.registry import Page

from tandem_cli.defaults import DEFAULT_URL
from tandem_cli.failing import Failed
from tandem_cli.keys import bearer, key_of, key_option

REGISTRY: Final = "/admin/v1/registry"
REPOSITORY: Final = "/admin/v1/repository"
KEYS: Final = "/admin/v1/keys"

_HINTS: Final = {
    "invalid_api_key": "give a key with scope admin: --key-file FILE, or TANDEM_API_KEY",
    "insufficient_scope": "give a key with scope admin: --key-file FILE, or TANDEM_API_KEY",
    "precondition_failed": "somebody changed it at this moment: look with `tandem registry show`, then try again",
    "database_unavailable": "see the registry's logs; serving is not affected",
    "registry_unavailable": "see whether the registry runs, and its logs; serving is not affected",
    "no_registry": "name a router that has one, or the registry itself: --url, TANDEM_URL",
    "nothing_active": "`tandem registry activate NAME VERSION` makes one active",
    "nothing_before": "`tandem registry history NAME` shows what was active; `activate` takes any version",
    "version_active": "`tandem registry activate NAME VERSION` with another version first",
    "artifact_referenced": "`tandem registry delete NAME/VERSION` first",
}
"""By the error's code: what to do on this command line."""

_AWAY: Final = frozenset({502, 503, 504})

T = TypeVar("T", bound=BaseModel)


class Away(Failed):
    """The registry, or what it needs, can't be asked at this moment; the router before it says so."""


class Registry:
    """A registry, or a router that relays to one."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def get(self, shape: type[T], path: str, **query: str) -> T:
        """What a path answers.

        Raises:
            Failed: with the error that the registry gave.
        """
        return self.read(shape, self.client.get(path, params=query))

    def etag(self, path: str) -> str:
        """Of what a path answers."""
        return str(checked(self.client.get(path)).headers.get("etag", "*"))

    def send(
        self, shape: type[T], method: str, path: str, given: BaseModel | None = None, headers: Mapping[str, str] = {}
    ) -> T:
        """Writes something, and reads what is answered.

        Raises:
            Failed: with the error that the registry gave.
        """
        content = None if given is None else given.model_dump_json(exclude_none=True)
        more = {"Content-Type": "application/json"} if given is not None else {}
        return self.read(shape, self.client.request(method, path, content=content, headers={**more, **headers}))

    def all(self, shape: type[T], path: str, **query: str) -> Iterator[T]:
        """A whole list, part by part."""
        cursor: str | None = None
        while True:
            more = {"cursor": cursor} if cursor is not None else {}
            page = self.get(Page[shape], path, limit="500", **query, **more)  # type: ignore[valid-type]
            yield from page.data
            cursor = page.next_cursor
            if cursor is None:
                return

    def read(self, shape: type[T], answer: httpx.Response) -> T:
        """An answer as its shape.

        Raises:
            Failed: it is an error, or of another shape.
        """
        try:
            return shape.model_validate_json(checked(answer).content)
        except ValidationError:
            raise Failed(
                f"{answer.url} answers with something of another shape",
                "is it a Tandem registry or router of this release?",
            ) from None


def checked(answer: httpx.Response) -> httpx.Response:
    """An answer that is a success.

    Raises:
        Failed: with the error that it is.
    """
    if answer.is_success:
        return answer
    code, message = refusal(answer)
    if not message:
        raise Failed(
            f"{answer.url} answered with status {answer.status_code}",
            "is it a Tandem router with a registry, or a registry? See its logs",
        )
    kind = Away if answer.status_code in _AWAY else Failed
    raise kind(message, _HINTS.get(code, ""))


def refusal(answer: httpx.Response) -> tuple[str, str]:
    """Code and text of an error answer; empty where it is not one of ours."""
    try:
        error = answer.json()["error"]
        return str(error.get("code") or ""), str(error["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", ""


@contextmanager
def opened(url: str, key: str) -> Iterator[Registry]:
    """A client for a registry; what keeps it from being reached ends the command with a text that helps.

    Raises:
        Failed: it can't be reached, or does not answer in time.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise Failed(f"{url!r} is no URL of a router or registry", "give one such as http://127.0.0.1:8080")
    try:
        with httpx.Client(
            base_url=url.rstrip("/"), headers=bearer(key), timeout=httpx.Timeout(60.0, connect=5.0)
        ) as client:
            yield Registry(client)
    except (httpx.ConnectError, httpx.ConnectTimeout):
        raise Failed(f"nobody answers at {url}", "say where the router or the registry is: --url, TANDEM_URL") from None
    except httpx.TimeoutException:
        raise Failed(f"the registry at {url} does not answer in time", "see its logs, then try again") from None
    except httpx.TransportError as error:
        raise Failed(f"the connection to {url} broke: {type(error).__name__}", "try again") from None


def registry_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--url, --key-file and -o, for commands that take `url`, `key_file` and `output`."""
    for option in (
        click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="json: for scripts."),
        key_option,
        click.option(
            "--url",
            envvar="TANDEM_URL",
            default=DEFAULT_URL,
            show_default=True,
            help="A router, which relays, or the registry; also by TANDEM_URL.",
        ),
    ):
        command = option(command)
    return command


@contextmanager
def registry_at(url: str, key_file: Path | None) -> Iterator[Registry]:
    """What `registry_options` name."""
    with opened(url, key_of(key_file)) as registry:
        yield registry
