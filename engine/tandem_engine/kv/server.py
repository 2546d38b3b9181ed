"""Serves staged KV to decode workers: `tandem.v1.KvTransfer` of one tensor-parallel rank.

Threads and blocking sockets, so that it runs beside asyncio as well as inside an engine's own process: one thread
accepts connections, and each connection has one of its own.
"""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Final, TypeVar

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtobufMessage
from hpack import HPACKError
from tandem_proto.channels import Tls
from tandem_proto.http2.calls import CallFailed
from tandem_proto.http2.frames import ProtocolError
from tandem_proto.tandem.v1 import kv_pb2

from tandem_engine.errors import KvGone, Overloaded
from tandem_engine.kv import pieces
from tandem_engine.kv.connection import IDLE_SECONDS, Connection, Message, Method
from tandem_engine.kv.encrypted import Encrypted
from tandem_engine.kv.staging import StagedKv, Staging

SERVICE: Final = "tandem.v1.KvTransfer"
PIECE_BYTES: Final = 2 * 2**20
"""Data of one message: half of what grpcio lets a message have. Smaller ones cost more, larger ones gain nothing."""
MOST_CONNECTIONS: Final = 256
"""More are closed at once: each has a thread."""
END_SECONDS: Final = 1.0
"""How long open connections have to end when the server does; their sockets are closed by then."""

logger = logging.getLogger(__name__)


class KvServer:
    """A context manager: entering binds and serves, leaving ends open fetches and frees the port.

    Args:
        staging: what is served.
        address: host:port; port 0 takes a free one.
        tls: mutual TLS, or None for plain.
        tamper: changes messages after their checksum was taken; for tests of what a receiver does then.
    """

    def __init__(
        self,
        staging: Staging,
        address: str,
        tls: Tls | None = None,
        *,
        tamper: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._staging = staging
        self._address = address
        self._tls = tls
        self._tamper = tamper
        self._sent = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._closing = contextlib.ExitStack()
        self._open: dict[threading.Thread, socket.socket] = {}
        """Connections by the thread that serves each."""
        self._port = 0

    @property
    def port(self) -> int:
        """Known once entered."""
        return self._port

    @property
    def bytes_sent(self) -> int:
        """KV bytes handed to the kernel since the start."""
        return self._sent

    def __enter__(self) -> "KvServer":
        """Binds and serves.

        Raises:
            RuntimeError: the address can't be bound.
        """
        host, _, port = self._address.rpartition(":")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            if self._tls is not None:
                self._tls.server_context()  # what is wrong with its files is wrong now
            listener = socket.create_server((host.strip("[]"), int(port)), family=family, backlog=128)
        except OSError as error:
            raise RuntimeError(f"KV can't be served at {self._address}: {error}") from error
        self._port = listener.getsockname()[1]
        accepting = threading.Thread(target=self._accept, args=(listener,), name="kv-server", daemon=True)
        self._closing.enter_context(listener)
        self._closing.callback(accepting.join, END_SECONDS)
        self._closing.callback(_shut, listener)  # wakes who waits for the next connection
        accepting.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._stop.set()
        self._closing.close()
        with self._lock:
            connections = dict(self._open)
        for peer in connections.values():
            _shut(peer)
        end = time.monotonic() + END_SECONDS
        for thread in connections:
            thread.join(max(0.0, end - time.monotonic()))

    # ---- connections

    def _accept(self, listener: socket.socket) -> None:
        """Until the server ends. Between connections it keeps house."""
        pause = min(1.0, self._staging.limits.ttl / 4)
        listener.settimeout(pause)
        while not self._stop.is_set():
            if expired := self._staging.expire():
                logger.info("dropped the KV of %d leases that expired", expired)
            try:
                peer, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError as error:
                if not self._stop.wait(pause):
                    logger.warning("a connection was not accepted: %s", error)
                continue
            self._admit(peer)

    def _admit(self, peer: socket.socket) -> None:
        thread = threading.Thread(target=self._serve, args=(peer,), name="kv-connection", daemon=True)
        with self._lock:
            if len(self._open) >= MOST_CONNECTIONS or self._stop.is_set():
                peer.close()
                return
            self._open[thread] = peer
        thread.start()

    def _serve(self, peer: socket.socket) -> None:
        methods = {
            f"/{SERVICE}/Fetch": Method(self._fetch, short=False),
            f"/{SERVICE}/Renew": Method(self._renew, short=True),
            f"/{SERVICE}/Release": Method(self._release, short=True),
        }
        try:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.settimeout(IDLE_SECONDS)
            transport = peer if self._tls is None else Encrypted(peer, self._tls.server_context())
            # A reader that stalls must not hold KV for ever: a fetch may take as long as a lease at most.
            Connection(transport, methods, self._staging.limits.ttl).serve()
        except (OSError, ProtocolError, HPACKError) as error:
            logger.debug("a connection ended: %s", error)
        finally:
            peer.close()
            with self._lock:
                del self._open[threading.current_thread()]

    # ---- methods

    def _fetch(self, asked: bytes) -> Generator[Message, None, None]:
        request = _parse(kv_pb2.FetchRequest, asked)
        try:
            with self._staging.reading(request.lease) as kv:
                if kv.content_hash != request.content_hash:
                    raise CallFailed(grpc.StatusCode.FAILED_PRECONDITION, "the lease is of other content")
                for head, data in _messages(kv, request):
                    yield (head, data) if self._tamper is None else (self._tamper(head + data),)
                    with self._lock:
                        self._sent += len(data)
        except KvGone as error:
            raise CallFailed(grpc.StatusCode.NOT_FOUND, error.message) from error
        except Overloaded as error:
            raise CallFailed(grpc.StatusCode.RESOURCE_EXHAUSTED, error.message) from error
        except ValueError as error:
            raise CallFailed(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error

    def _renew(self, asked: bytes) -> Generator[Message, None, None]:
        request = _parse(kv_pb2.RenewRequest, asked)
        try:
            ttl = self._staging.renew(request.lease, request.ttl_ms / 1000, request.next_lease)
        except KvGone as error:
            raise CallFailed(grpc.StatusCode.NOT_FOUND, error.message) from error
        except ValueError as error:
            raise CallFailed(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
        yield (kv_pb2.RenewResponse(ttl_ms=round(ttl * 1000)).SerializeToString(),)

    def _release(self, asked: bytes) -> Generator[Message, None, None]:
        request = _parse(kv_pb2.ReleaseRequest, asked)
        yield (kv_pb2.ReleaseResponse(released=self._staging.release(request.lease)).SerializeToString(),)


def _shut(what: socket.socket) -> None:
    """Wakes the thread that waits on a socket; its own thread closes it."""
    with contextlib.suppress(OSError):  # its peer was faster
        what.shutdown(socket.SHUT_RDWR)


_Request = TypeVar("_Request", bound=ProtobufMessage)


def _parse(kind: type[_Request], data: bytes) -> _Request:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise CallFailed(grpc.StatusCode.INVALID_ARGUMENT, "not the method's request") from error


def _messages(kv: StagedKv, request: kv_pb2.FetchRequest) -> Iterator[tuple[bytes, memoryview]]:
    """All layers' wanted bytes in pieces; the very last one says so."""
    for layer in range(len(kv.layers)):
        wanted = kv.cut(layer, request.first_block, request.head_start, request.head_count)
        for offset in range(0, max(1, len(wanted)), PIECE_BYTES):
            last = layer == len(kv.layers) - 1 and offset + PIECE_BYTES >= len(wanted)
            yield pieces.encode(layer, offset, wanted[offset : offset + PIECE_BYTES], last=last)
