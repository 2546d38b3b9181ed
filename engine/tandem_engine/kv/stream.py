"""The answer of a server-streaming gRPC call as a file, read from the socket straight to where its bytes belong.

grpcio's client reads with threads of its own into buffers of its own, and copies them twice before a caller sees them:
two thirds of what it costs to fetch (`bench/README.md`). A fetch is one call on one connection, of which a client needs
little of HTTP/2. The holder is a server of grpcio's, and sees a gRPC client like any other.
"""

import contextlib
import io
import socket
from collections.abc import Callable
from typing import Final

import grpc
import hpack
from tandem_proto.channels import Tls
from tandem_proto.http2 import frames
from tandem_proto.http2.calls import STREAM, CallFailed, request_headers, status, with_prefix
from tandem_proto.http2.frames import ProtocolError
from typing_extensions import Buffer

from tandem_engine.kv.encrypted import Encrypted, Transport

CONNECT_SECONDS: Final = 5.0
SILENCE_SECONDS: Final = 15.0
"""A peer from which nothing comes for so long has vanished."""

_WINDOW: Final = 2**30
"""Bytes that the peer may send ahead of us. We always read, and the kernel's buffers are the bound."""
_LARGEST_FRAME: Final = 4 * 2**20
_READ_AHEAD: Final = 4096
"""Bytes that are read with what stands before data, and copied from there."""


class Stream:
    """One call on a connection of its own. A context manager: leaving closes the connection, which cancels the call.

    Args:
        address: host:port.
        tls: Mutual TLS, or None for plain.
        timeout: Seconds for all of it.
        clock: Seconds, monotone.

    Raises:
        OSError: No connection, or TLS refused it.
    """

    def __init__(self, address: str, tls: Tls | None, timeout: float, clock: Callable[[], float]) -> None:
        self._address = address
        self._encrypted = tls is not None
        self._deadline = clock() + timeout
        self._clock = clock
        host, _, port = address.rpartition(":")
        seconds = max(0.001, min(timeout, CONNECT_SECONDS))
        self._socket = socket.create_connection((host.strip("[]"), int(port)), seconds)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._wire: Transport = self._socket
            if tls is not None:
                self._wire = Encrypted(self._socket, tls.context(), tls.server_name)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def cancel(self) -> None:
        """Ends what reads, from any thread."""
        with contextlib.suppress(OSError):  # the peer has closed it
            self._socket.shutdown(socket.SHUT_RDWR)

    def ask(self, method: str, request: bytes) -> io.BufferedIOBase:
        """Sends the one request. What is read is the answer's messages, each after its prefix; it ends with the call.

        Args:
            method: /package.Service/Method.
            request: A few hundred bytes at most.

        Returns:
            A reader that raises, beside what a socket raises (TimeoutError when the time is over), CallFailed where the
            peer ends the call with an error, and ProtocolError or hpack.HPACKError where it does not speak HTTP/2.
        """
        seconds = max(0.0, self._deadline - self._clock())
        headers = request_headers(method, self._address, encrypted=self._encrypted)
        headers.append(("grpc-timeout", f"{min(round(seconds * 1000), 99_999_999)}m"))
        settings = {
            frames.ENABLE_PUSH: 0,
            frames.INITIAL_WINDOW_SIZE: _WINDOW,
            frames.MAX_FRAME_SIZE: _LARGEST_FRAME,
        }
        self._wire.sendall(
            frames.PREFACE
            + frames.settings(settings)
            + frames.window_update(0, _WINDOW - frames.DEFAULT_WINDOW)
            + frames.encode(frames.HEADERS, frames.END_HEADERS, STREAM, hpack.Encoder().encode(headers))
            + frames.encode(frames.DATA, frames.END_STREAM, STREAM, with_prefix(request))
        )
        arriving = io.BufferedReader(_Arriving(self._wire, self._deadline, self._clock), _READ_AHEAD)
        return io.BufferedReader(_Answer(arriving, self._wire.sendall), _READ_AHEAD)


class _Arriving(io.RawIOBase):
    """What arrives until a deadline."""

    def __init__(self, wire: Transport, deadline: float, clock: Callable[[], float]) -> None:
        self._wire = wire
        self._deadline = deadline
        self._clock = clock

    def readable(self) -> bool:
        return True

    def readinto(self, into: Buffer) -> int:
        left = self._deadline - self._clock()
        if left <= 0:
            raise TimeoutError("the time is over")
        self._wire.settimeout(min(left, SILENCE_SECONDS))
        try:
            return self._wire.recv_into(into)
        except TimeoutError:
            if left <= SILENCE_SECONDS:
                raise
            raise ConnectionError(f"the peer has been silent for {SILENCE_SECONDS:g} s") from None


class _Answer(io.RawIOBase):
    """The payload of the call's DATA frames, out of all that a peer sends."""

    def __init__(self, arriving: io.BufferedIOBase, send: Callable[[bytes], object]) -> None:
        self._arriving = arriving
        self._send = send
        self._decoder = hpack.Decoder()
        self._status: dict[str, str] = {}
        self._left = 0
        """Data of the frame that is being read."""
        self._padding = 0
        """After it."""
        self._uncredited = 0
        """Bytes received for which the peer's window has not been opened again."""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, into: Buffer) -> int:
        while not self._left and not self._ended:
            self._next_frame()
        if self._ended:
            return 0
        got = self._arriving.readinto(memoryview(into)[: self._left])
        if not got:
            raise ConnectionError("the peer closed the connection")
        self._left -= got
        return got

    def _next_frame(self) -> None:
        self._exactly(self._padding)
        self._padding = 0
        size, kind, flags = frames.head_of(self._exactly(frames.HEAD), _LARGEST_FRAME)
        if kind == frames.DATA:
            self._data(size, flags)
            return
        payload = self._exactly(size)
        if kind == frames.HEADERS:
            self._headers(payload, flags)
        elif kind == frames.SETTINGS and not flags & frames.ACK:
            self._send(frames.encode(frames.SETTINGS, frames.ACK, 0))
        elif kind == frames.PING and not flags & frames.ACK:
            self._send(frames.encode(frames.PING, frames.ACK, 0, payload))
        elif kind == frames.RST_STREAM:
            raise CallFailed(grpc.StatusCode.UNAVAILABLE, f"the peer reset the call ({int.from_bytes(payload, 'big')})")
        elif kind == frames.GOAWAY and int.from_bytes(payload[:4], "big") & 0x7FFF_FFFF < STREAM:
            raise CallFailed(grpc.StatusCode.UNAVAILABLE, "the peer takes no calls")
        # A later GOAWAY lets a call that runs end. Other frames are none that a client has to understand.

    def _data(self, size: int, flags: int) -> None:
        if flags & frames.END_STREAM:
            raise ProtocolError("the call ended without a status")
        self._uncredited += size
        if self._uncredited > _WINDOW // 2:
            credit = frames.window_update(0, self._uncredited) + frames.window_update(STREAM, self._uncredited)
            self._send(credit)
            self._uncredited = 0
        if flags & frames.PADDED:
            self._padding = self._exactly(1)[0]
            size -= 1 + self._padding
            if size < 0:
                raise ProtocolError("a frame's padding is longer than the frame")
        self._left = size

    def _headers(self, payload: bytes, flags: int) -> None:
        block = frames.bare(frames.HEADERS, flags, payload)
        last = flags & frames.END_STREAM
        while not flags & frames.END_HEADERS:
            size, _, flags = frames.head_of(self._exactly(frames.HEAD), _LARGEST_FRAME)
            block += self._exactly(size)
            if len(block) > _LARGEST_FRAME:
                raise ProtocolError("headers without an end")
        self._status |= {str(name): str(value) for name, value in self._decoder.decode(block)}
        if last:
            code, details = status(self._status)
            if code is not grpc.StatusCode.OK:
                raise CallFailed(code, details)
            self._ended = True
        elif self._status.get(":status", "200") != "200":
            raise CallFailed(grpc.StatusCode.UNAVAILABLE, f"HTTP status {self._status[':status']}: no gRPC server")

    def _exactly(self, size: int) -> bytes:
        got = self._arriving.read(size)
        if len(got) < size:
            raise ConnectionError("the peer closed the connection")
        return got
