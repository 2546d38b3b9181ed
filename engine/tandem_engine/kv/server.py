"""Serves staged KV to decode workers: `tandem.v1.KvTransfer` of one tensor-parallel rank.

A synchronous gRPC server with a few threads, so that it runs beside asyncio as well as inside an engine's own process.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, NoReturn

import grpc
from tandem_proto.channels import Tls, listen
from tandem_proto.protocol import CHANNEL_OPTIONS
from tandem_proto.tandem.v1 import kv_pb2

from tandem_engine.errors import KvGone, Overloaded
from tandem_engine.kv import pieces
from tandem_engine.kv.allocator import keep_freed_memory
from tandem_engine.kv.staging import StagedKv, Staging

SERVICE: Final = "tandem.v1.KvTransfer"
PIECE_BYTES: Final = 2**20
"""Data of one message."""

logger = logging.getLogger(__name__)


class KvServer:
    """A context manager: entering binds and serves, leaving ends open fetches and frees the port.

    Entering also sets how this process's malloc treats freed memory: see `allocator`.

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
        self._stop = threading.Event()
        self._sent = 0
        self._count = threading.Lock()
        # One thread more than fetches may run, so that renewals and refusals don't wait behind them.
        self._pool = ThreadPoolExecutor(staging.limits.max_fetches + 2, thread_name_prefix="kv-server")
        self._housekeeper = threading.Thread(target=self._keep_house, name="kv-expiry", daemon=True)
        self._server: grpc.Server | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """Known once entered."""
        return self._port

    @property
    def bytes_sent(self) -> int:
        """KV bytes handed to gRPC since the start."""
        return self._sent

    def __enter__(self) -> "KvServer":
        """Binds and serves.

        Raises:
            RuntimeError: the address can't be bound.
        """
        keep_freed_memory()
        server = grpc.server(self._pool, options=[*CHANNEL_OPTIONS, *pieces.STREAM_OPTIONS, ("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((self._handlers(),))
        self._port = listen(server, self._address, self._tls)
        server.start()
        self._server = server
        self._housekeeper.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._server is not None:
            self._server.stop(grace=None).wait(5)
        self._pool.shutdown(wait=False)
        if self._housekeeper.is_alive():
            self._housekeeper.join(5)

    def _handlers(self) -> grpc.GenericRpcHandler:
        fetch: grpc.RpcMethodHandler[kv_pb2.FetchRequest, bytes] = grpc.unary_stream_rpc_method_handler(
            self._fetch, kv_pb2.FetchRequest.FromString, None
        )
        renew = grpc.unary_unary_rpc_method_handler(
            self._renew, kv_pb2.RenewRequest.FromString, kv_pb2.RenewResponse.SerializeToString
        )
        release = grpc.unary_unary_rpc_method_handler(
            self._release, kv_pb2.ReleaseRequest.FromString, kv_pb2.ReleaseResponse.SerializeToString
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"Fetch": fetch, "Renew": renew, "Release": release})

    def _fetch(self, request: kv_pb2.FetchRequest, context: grpc.ServicerContext) -> Iterator[bytes]:
        # A reader that stalls must not hold KV for ever: a fetch may take as long as a lease at most.
        watchdog = threading.Timer(self._staging.limits.ttl, context.cancel)
        watchdog.daemon = True
        watchdog.start()
        try:
            with self._staging.reading(request.lease) as kv:
                if kv.content_hash != request.content_hash:
                    _abort(context, grpc.StatusCode.FAILED_PRECONDITION, "the lease is of other content")
                for message, size in _messages(kv, request):
                    yield message if self._tamper is None else self._tamper(message)
                    with self._count:
                        self._sent += size
        except KvGone as error:
            _abort(context, grpc.StatusCode.NOT_FOUND, error.message)
        except Overloaded as error:
            _abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, error.message)
        except ValueError as error:
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        finally:
            watchdog.cancel()

    def _renew(self, request: kv_pb2.RenewRequest, context: grpc.ServicerContext) -> kv_pb2.RenewResponse:
        try:
            ttl = self._staging.renew(request.lease, request.ttl_ms / 1000, request.next_lease)
        except KvGone as error:
            _abort(context, grpc.StatusCode.NOT_FOUND, error.message)
        except ValueError as error:
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return kv_pb2.RenewResponse(ttl_ms=round(ttl * 1000))

    def _release(self, request: kv_pb2.ReleaseRequest, context: grpc.ServicerContext) -> kv_pb2.ReleaseResponse:
        return kv_pb2.ReleaseResponse(released=self._staging.release(request.lease))

    def _keep_house(self) -> None:
        pause = min(1.0, self._staging.limits.ttl / 4)
        while not self._stop.wait(pause):
            if expired := self._staging.expire():
                logger.info("dropped the KV of %d leases that expired", expired)


def _messages(kv: StagedKv, request: kv_pb2.FetchRequest) -> Iterator[tuple[bytes, int]]:
    """All layers' wanted bytes in pieces, each with its number of data bytes; the very last one says so."""
    for layer in range(len(kv.layers)):
        wanted = kv.cut(layer, request.first_block, request.head_start, request.head_count)
        for offset in range(0, max(1, len(wanted)), PIECE_BYTES):
            data = wanted[offset : offset + PIECE_BYTES]
            last = layer == len(kv.layers) - 1 and offset + PIECE_BYTES >= len(wanted)
            yield pieces.encode(layer, offset, data, last=last), len(data)


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, message: str) -> NoReturn:
    context.abort(code, message)
    raise AssertionError("abort raises")
