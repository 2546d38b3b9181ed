"""Where the bytes of artifacts are: a folder or a bucket, by URL, through fsspec.

An object is written once under a key that nobody else has, and never changed. So nothing that a crash or a second
writer leaves behind can be taken for something else: what the database does not name does not exist, and is swept.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

import fsspec
from obstore.exceptions import BaseError
from obstore.fsspec import FsspecStore

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

PIECE: Final = 1 << 20
"""Bytes that are read at once."""
_MUST: Final = "must be file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"


class StorageFailed(Exception):
    """The storage does not answer, or lacks what it was given."""


class BadUrl(ValueError):
    """The URL names no storage that is known; the text says which are."""


class Storage(Protocol):
    """Objects by key. All methods block, may be called from several threads, and raise StorageFailed."""

    def write(self, key: str, data: bytes) -> None:
        """Keeps an object for good: it is there after a crash once this returns."""
        ...

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` to before `end`, in pieces."""
        ...

    def delete(self, key: str) -> None:
        """Removes an object; if there is none, that is well."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """All objects whose key starts with `prefix/`."""
        ...


def open_storage(url: str, environ: Mapping[str, str]) -> Storage:
    """Storage at file:///folder, s3://bucket/prefix, or another URL that fsspec knows.

    Credentials, region and endpoint of object stores come from the environment, as their own tools take them:
    AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME, or the pod's role.

    Raises:
        BadUrl: it is none of them.
    """
    scheme, separator, rest = url.partition("://")
    root = rest.rstrip("/")
    if not separator or not root or urlsplit(url).username is not None:
        raise BadUrl(_MUST)
    if scheme == "file":
        return FsspecStorage(fsspec.filesystem("file"), root, local=True)
    if scheme in ("s3", "gs", "az"):
        # A server in one's own network, such as MinIO, may be without TLS: only if its URL says so.
        plain = environ.get("AWS_ENDPOINT_URL_S3", environ.get("AWS_ENDPOINT_URL", "")).startswith("http://")
        open_store: Callable[..., Any] = FsspecStore  # Its overloads want one scheme each.
        client: ClientConfig = {"allow_http": plain, "timeout": "60s", "connect_timeout": "5s"}
        retries: RetryConfig = {"max_retries": 5, "retry_timeout": timedelta(seconds=30)}
        # fsspec would give out the one that it made for the same arguments, whatever the environment says since.
        made = open_store(scheme, client_options=client, retry_config=retries, skip_instance_cache=True)
        return FsspecStorage(made, root, local=False)
    try:
        return FsspecStorage(fsspec.filesystem(scheme), root, local=False)
    except (ValueError, ImportError):
        raise BadUrl(_MUST) from None


class FsspecStorage:
    """Any file system that fsspec knows."""

    def __init__(self, filesystem: Any, root: str, *, local: bool) -> None:
        self._filesystem = filesystem
        self._root = root
        self._local = local

    def write(self, key: str, data: bytes) -> None:
        path = self._path(key)
        with _understood(key):
            if not self._local:
                self._filesystem.pipe_file(path, data)
                return
            folder = os.path.dirname(path)
            os.makedirs(folder, exist_ok=True)
            with self._filesystem.open(path, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _sync_folder(folder)

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        path = self._path(key)
        while start < end:
            stop = min(end, start + PIECE)
            with _understood(key):
                piece: bytes = self._filesystem.cat_file(path, start=start, end=stop)
            if len(piece) != stop - start:
                raise StorageFailed(f"{key} ends after {start + len(piece)} of {end} bytes")
            yield piece
            start = stop

    def delete(self, key: str) -> None:
        with _understood(key):
            try:
                self._filesystem.rm_file(self._path(key))
            except FileNotFoundError:
                return
            if self._local:
                try:
                    os.rmdir(os.path.dirname(self._path(key)))
                except OSError:
                    return  # It holds more.

    def keys(self, prefix: str) -> Iterator[str]:
        with _understood(prefix):
            self._filesystem.invalidate_cache()
            try:
                found = self._filesystem.find(self._path(prefix))
            except FileNotFoundError:
                return
        for path in found:
            yield path[path.index(self._root) + len(self._root) + 1 :]

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"


@contextmanager
def _understood(key: str) -> Iterator[None]:
    try:
        yield
    except (OSError, BaseError) as error:
        raise StorageFailed(f"{key}: {type(error).__name__}") from error


def _sync_folder(path: str) -> None:
    """A file is there after a crash only if its folder says so."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
