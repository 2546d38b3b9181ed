"""`hf://org/name@revision`: a repository of the Hugging Face Hub, or of any server that speaks its protocol.

The revision (a branch, a tag or a commit; by default `main`) becomes one commit before anything is fetched, so all
files are of the same state whatever is pushed meanwhile. `HF_ENDPOINT` names another server, `HF_TOKEN` the token for
private and gated repositories; in a cluster it comes from a Secret.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import HfApi, get_session, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling

from tandem_engine.sources.downloading import download, retrying
from tandem_engine.sources.errors import (
    AccessDenied,
    InvalidUri,
    NotAModel,
    NotFound,
    SourceError,
    Transient,
    Unreachable,
)
from tandem_engine.sources.modelfolder import needed_files
from tandem_engine.sources.naming import safe_name
from tandem_engine.sources.progress import Progress
from tandem_engine.sources.source import Body, RemoteFile, Work, WrittenFile

_REPOSITORY = re.compile(r"(?P<repo>[\w.-]{1,96}/[\w.-]{1,96})(@(?P<revision>[^\s@?#]{1,255}))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HOW_TO_GET_IN = (
    "Set HF_TOKEN to a token that may read it (in a cluster: put it into a Secret, and name that as the version's "
    "sourceSecret), and accept the model's terms on its page if it is gated."
)


@dataclass(frozen=True)
class HubSource:
    """A repository at a revision that may move."""

    repo: str
    revision: str

    @classmethod
    def parse(cls, uri: str) -> "HubSource":
        """Read `hf://org/name` or `hf://org/name@revision`.

        Raises:
            InvalidUri: it is neither.
        """
        match = _REPOSITORY.fullmatch(uri.removeprefix("hf://"))
        if match is None or any(part in (".", "..") for part in match["repo"].split("/")):
            raise InvalidUri(f"{uri!r} is not of the form hf://org/name or hf://org/name@revision.")
        return cls(match["repo"], match["revision"] or "main")

    def resolve(self, work: Work) -> "HubContent":
        """Ask the Hub for the commit, unless the revision is one: then the Hub need not be there at all."""
        if _COMMIT.fullmatch(self.revision):
            return HubContent(self.repo, self.revision)
        hub = _Hub.of(work.environ, work.timeout)
        work.report(Progress("resolve", f"hf://{self.repo}@{self.revision}"))
        return HubContent(self.repo, retrying(work, lambda: hub.describe(self.repo, self.revision)).commit)


@dataclass(frozen=True)
class HubContent:
    """A repository at one commit."""

    repo: str
    commit: str

    @property
    def uri(self) -> str:
        return f"hf://{self.repo}@{self.commit}"

    @property
    def key(self) -> str:
        return self.uri

    def write(self, folder: Path, work: Work) -> tuple[WrittenFile, ...]:
        """Fetch what a model needs of it."""
        hub = _Hub.of(work.environ, work.timeout)
        described = retrying(work, lambda: hub.describe(self.repo, self.commit))
        by_name = {safe_name(sibling.rfilename, self.uri): sibling for sibling in described.siblings}
        files = [_remote_file(by_name[name], self.uri) for name in needed_files(by_name, self.uri)]
        return download(_Store(hub, self.repo, self.commit), files, folder, work, self.uri)


@dataclass(frozen=True)
class _Described:
    commit: str
    siblings: tuple[RepoSibling, ...]


@dataclass(frozen=True)
class _Hub:
    """A server of the Hub's protocol, and how to ask it."""

    endpoint: str
    token: str | None
    timeout: float

    @classmethod
    def of(cls, environ: Mapping[str, str], timeout: float) -> "_Hub":
        # A Secret made from a file often ends with a line break, and the HTTP library would quote it in its error.
        token = environ.get("HF_TOKEN", "").strip()
        if not re.fullmatch(r"[!-~]*", token):
            raise AccessDenied("HF_TOKEN holds characters that no token has. Copy the token again.")
        return cls(environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co", token or None, timeout)

    @property
    def host(self) -> str:
        return urlsplit(self.endpoint).netloc.rpartition("@")[2]

    def describe(self, repo: str, revision: str) -> _Described:
        """The commit and the files of a revision."""
        foreign = f"{self.host} does not answer as a Hub does. Check HF_ENDPOINT."
        try:
            with self.understood(repo, revision):
                info = HfApi(endpoint=self.endpoint, token=self.token or False).model_info(
                    repo, revision=revision, files_metadata=True, timeout=self.timeout
                )
        except (ValueError, KeyError, TypeError) as error:
            raise SourceError(foreign) from error
        if info.sha is None or not _COMMIT.fullmatch(info.sha):
            raise SourceError(foreign)
        return _Described(info.sha, tuple(info.siblings or ()))

    @contextmanager
    def understood(self, repo: str, revision: str) -> Iterator[None]:
        """Turn the library's errors into ours. Theirs quote addresses, which can be signed, so ours quote nothing."""
        try:
            yield
        except GatedRepoError as error:
            raise AccessDenied(f"hf://{repo} is gated{self._refused()}. {_HOW_TO_GET_IN}") from error
        except RevisionNotFoundError as error:
            raise NotFound(
                f"hf://{repo} has no branch, tag or commit {revision!r}. Look them up on {self.host}/{repo}."
            ) from error
        except RepositoryNotFoundError as error:
            raise NotFound(
                f"hf://{repo} is not on {self.host}, or is private{self._refused()}. Check the name. {_HOW_TO_GET_IN}"
            ) from error
        except HfHubHTTPError as error:
            raise self.failed(error.response, f"hf://{repo}@{revision}") from error
        except OfflineModeIsEnabled as error:
            raise Unreachable(
                "HF_HUB_OFFLINE is set, so the Hub can't be asked. Unset it, or use file:// or pvc://."
            ) from error
        except httpx2.TransportError as error:
            raise Transient(f"{self.host} does not answer ({type(error).__name__})") from error

    def _refused(self) -> str:
        return " and does not let this token in" if self.token else ", and there is no token"

    def failed(self, response: httpx2.Response, what: str) -> Exception:
        """What a status means: worth another try, or not."""
        status = response.status_code
        asked = f"{response.url.host} answered {status} for {what}"
        if status >= 500 or status in (408, 429):
            return Transient(asked, _seconds(response.headers.get("retry-after", "")))
        if response.headers.get("x-error-code") == "GatedRepo":
            return AccessDenied(f"{what} is gated{self._refused()}. {_HOW_TO_GET_IN}")
        if status in (401, 403):
            return AccessDenied(f"{asked}{self._refused()}. {_HOW_TO_GET_IN}")
        if status in (404, 410):
            return NotFound(f"{asked}. Check that the repository still has it.")
        return SourceError(f"{asked}. The server may not speak the Hub's protocol: check HF_ENDPOINT.")


@dataclass(frozen=True)
class _Store:
    hub: _Hub
    repo: str
    commit: str

    @contextmanager
    def open(self, file: RemoteFile, start: int) -> Iterator[Body]:
        hub = self.hub
        url = hf_hub_url(self.repo, file.name, revision=self.commit, endpoint=hub.endpoint)
        # Bytes as they are: a compressed body has neither the size nor the ranges of the file.
        headers = {"Accept-Encoding": "identity", "User-Agent": "tandem-serving"}
        if hub.token:
            headers["Authorization"] = f"Bearer {hub.token}"
        if start:
            headers["Range"] = f"bytes={start}-"
        # The session drops the token where a redirect leaves the Hub's host, as for a CDN it must.
        with (
            hub.understood(self.repo, self.commit),
            get_session().stream("GET", url, headers=headers, timeout=hub.timeout, follow_redirects=True) as response,
        ):
            if response.status_code not in (200, 206):
                raise hub.failed(response, f"hf://{self.repo}@{self.commit} ({file.name})")
            begins = start if response.status_code == 206 else 0
            if response.status_code == 206 and not _is_range(response, start, file.size):
                raise Transient(f"{response.url.host} answered with another range of {file.name} than was asked for")
            # As they come: pieces of a fixed size would lose what is in the last one when the line is cut.
            yield Body(begins, response.iter_raw())


def _is_range(response: httpx2.Response, start: int, size: int) -> bool:
    return response.headers.get("content-range", "").replace(" ", "") in (
        f"bytes{start}-{size - 1}/{size}",
        f"bytes{start}-{size - 1}/*",
    )


def _remote_file(sibling: RepoSibling, uri: str) -> RemoteFile:
    """LFS files have their SHA-256, the others Git's own checksum of their content."""
    if sibling.size is None:
        raise NotAModel(f"The server does not tell the size of {sibling.rfilename} in {uri}. Use another HF_ENDPOINT.")
    if sibling.lfs is not None:
        return RemoteFile(sibling.rfilename, sibling.size, {"sha256": sibling.lfs.sha256})
    digests = {"git-sha1": sibling.blob_id} if sibling.blob_id else {}
    return RemoteFile(sibling.rfilename, sibling.size, digests)


def _seconds(retry_after: str) -> float:
    with contextlib.suppress(ValueError):
        return max(0.0, float(retry_after))
    return 0.0
