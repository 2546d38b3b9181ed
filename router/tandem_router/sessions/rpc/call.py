"""The call: what it sends waits for the peer's window, what it receives goes to a function as soon as it is whole."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final, NamedTuple, cast

import grpc
import hpack
from tandem_proto.channels import Tls
from tandem_proto.http2 import frames
from tandem_proto.http2.calls import PREFIX, STREAM, message_size, request_headers, status, with_prefix
from tandem_proto.http2.frames import Frame, ProtocolError

_WINDOW: Final = 2**24
"""Bytes that a worker may send ahead of us. The loop always reads: this only has to be more than is under way."""
_LARGEST_FRAME: Final = 2**20
_BEAT_SECONDS: Final = 5.0
_QUIET_BEATS: Final = 3
"""A peer that is silent for so long, although it was asked after the first, has vanished."""


class Ended(NamedTuple):
    """How the call ended. `details` is for people."""

    code: grpc.StatusCode
    details: str


@contextlib.asynccontextmanager
async def open_call(
    address: str,
    tls: Tls | None,
    method: str,
    hear: Callable[[bytes], None],
    *,
    sent: Callable[[], None],
    largest: int,
) -> AsyncIterator["Call"]:
    """Connects and begins a call. Left, the call is cancelled unless it has ended, and the connection is closed.

    Args:
        address: host:port.
        tls: As for every channel.
        method: /package.Service/Method.
        hear: Gets each message, in the turn of the loop in which it arrives. What it raises ends the call.
        sent: Called when a message that had to wait for the peer has gone.
        largest: Bytes that a message may have.

    Raises:
        OSError: No connection, or TLS refused it.
    """
    host, _, port = address.rpartition(":")
    call = Call(request_headers(method, address, encrypted=tls is not None), hear, sent, largest)
    await asyncio.get_running_loop().create_connection(
        lambda: call,
        host.strip("[]"),
        int(port),
        ssl=None if tls is None else tls.context(),
        server_hostname=None if tls is None else tls.server_name,
    )
    try:
        yield call
    finally:
        call.cancel()


class Call(asyncio.Protocol):
    """One call on one connection."""

    def __init__(
        self, request: list[tuple[str, str]], hear: Callable[[bytes], None], sent: Callable[[], None], largest: int
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._request = request
        self._hear = hear
        self._sent = sent
        self._largest = largest
        self._transport: asyncio.Transport
        self._reader = frames.Reader(_LARGEST_FRAME)
        self._decoder = hpack.Decoder()
        self._block = b""
        """Of headers that come in several frames."""
        self._block_flags = 0
        self._status: dict[str, str] = {}
        self._partial = bytearray()
        """Of a message that has not come as a whole."""
        self._uncredited = 0
        """Bytes received for which the peer's window has not been opened again."""
        self._stream_window = self._connection_window = self._initial_window = frames.DEFAULT_WINDOW
        self._frame_size = frames.DEFAULT_FRAME_SIZE
        self._unsent = memoryview(b"")
        """Of the message that is being sent."""
        self._paused = False
        self._quiet_beats = 0
        self._beat: asyncio.TimerHandle
        self._end: asyncio.Future[Ended] = self._loop.create_future()

    # ---- for whoever opened it

    @property
    def idle(self) -> bool:
        """Nothing waits to be sent: there may be another message."""
        return not self._unsent

    def send(self, message: bytes) -> None:
        """Sends a message, as fast as the peer takes it; `sent` is called where that is not at once.

        To be called when `idle`. Of a call that has ended nothing is sent.
        """
        if not self._end.done():
            self._unsent = memoryview(with_prefix(message))
            self._push()

    def done_writing(self) -> None:
        """Nothing more comes from this side."""
        if not self._end.done():
            self._transport.write(frames.encode(frames.DATA, frames.END_STREAM, STREAM))

    async def ended(self) -> Ended:
        """Waits until the peer ends the call, or the connection does."""
        return await asyncio.shield(self._end)

    def cancel(self, why: str = "cancelled by this side") -> None:
        """Ends the call; a second time does nothing. `why` becomes its details."""
        if not self._end.done():
            self._transport.write(frames.encode(frames.RST_STREAM, 0, STREAM, frames.CANCEL.to_bytes(4, "big")))
            self._finish(grpc.StatusCode.CANCELLED, why)
        self._transport.close()

    # ---- what the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)
        settings = {
            frames.ENABLE_PUSH: 0,
            frames.INITIAL_WINDOW_SIZE: _WINDOW,
            frames.MAX_FRAME_SIZE: _LARGEST_FRAME,
        }
        headers = hpack.Encoder().encode(self._request)
        self._transport.write(
            frames.PREFACE
            + frames.settings(settings)
            + frames.window_update(0, _WINDOW - frames.DEFAULT_WINDOW)
            + frames.encode(frames.HEADERS, frames.END_HEADERS, STREAM, headers)
        )
        self._beat = self._loop.call_later(_BEAT_SECONDS, self._on_beat)

    def data_received(self, data: bytes) -> None:
        self._quiet_beats = 0
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
        except (ProtocolError, hpack.HPACKError) as error:
            self._break(f"the peer broke the protocol: {error}")
        except Exception as error:
            # Only `hear` is left: a message that its owner can't use.
            self._break(f"a message could not be read: {error}")

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._beat.cancel()
        self._finish(grpc.StatusCode.UNAVAILABLE, str(exc) if exc else "the connection was closed")

    # ---- frames

    def _take(self, frame: Frame) -> None:
        kind, flags, stream, payload = frame
        if kind == frames.DATA:
            self._data(payload)
            if flags & frames.END_STREAM:
                self._finish(grpc.StatusCode.INTERNAL, "the peer ended the call without a status")
        elif kind == frames.HEADERS:
            self._block, self._block_flags = payload, flags
            self._headers(flags)
        elif kind == frames.CONTINUATION:
            self._block += payload
            if len(self._block) > _LARGEST_FRAME:
                raise ProtocolError("headers without an end")
            self._headers(flags)
        elif kind == frames.SETTINGS:
            if not flags & frames.ACK:
                self._settings(payload)
        elif kind == frames.PING:
            if not flags & frames.ACK:
                self._transport.write(frames.encode(frames.PING, frames.ACK, 0, payload))
        elif kind == frames.WINDOW_UPDATE:
            self._credit(stream, int.from_bytes(payload, "big") & 0x7FFF_FFFF)
        elif kind == frames.RST_STREAM:
            self._finish(grpc.StatusCode.UNAVAILABLE, f"the peer reset the call ({int.from_bytes(payload, 'big')})")
        elif kind == frames.GOAWAY and int.from_bytes(payload[:4], "big") & 0x7FFF_FFFF < STREAM:
            self._finish(grpc.StatusCode.UNAVAILABLE, "the peer takes no calls")
        # A later GOAWAY lets calls that run end. Other frames are none that a client has to understand.

    def _data(self, payload: bytes) -> None:
        self._uncredited += len(payload)
        if self._uncredited > _WINDOW // 2:
            self._transport.write(
                frames.window_update(0, self._uncredited) + frames.window_update(STREAM, self._uncredited)
            )
            self._uncredited = 0
        if not self._partial and len(payload) >= PREFIX:
            size = message_size(payload, self._largest)
            if len(payload) == PREFIX + size:
                # As nearly all messages come.
                self._hear(payload[PREFIX:])
                return
        partial = self._partial
        partial += payload
        while len(partial) >= PREFIX:
            end = PREFIX + message_size(partial, self._largest)
            if len(partial) < end:
                return
            message = bytes(partial[PREFIX:end])
            del partial[:end]
            self._hear(message)

    def _headers(self, flags: int) -> None:
        if not flags & frames.END_HEADERS:
            return
        block, self._block = self._block, b""
        self._status |= {str(name): str(value) for name, value in self._decoder.decode(block)}
        if self._block_flags & frames.END_STREAM:
            self._finish(*status(self._status))
        elif self._status.get(":status", "200") != "200":
            self._finish(grpc.StatusCode.UNAVAILABLE, f"HTTP status {self._status[':status']}: no gRPC server")

    def _settings(self, payload: bytes) -> None:
        for key, value in frames.settings_of(payload):
            if key == frames.INITIAL_WINDOW_SIZE:
                self._stream_window += value - self._initial_window
                self._initial_window = value
            elif key == frames.MAX_FRAME_SIZE:
                self._frame_size = value
        self._transport.write(frames.encode(frames.SETTINGS, frames.ACK, 0))
        self._go_on()

    # ---- what is sent

    def _credit(self, stream: int, size: int) -> None:
        if stream:
            self._stream_window += size
        else:
            self._connection_window += size
        self._go_on()

    def _go_on(self) -> None:
        """The peer may take more of what waits for it."""
        if self._unsent:
            self._push()
            if not self._unsent:
                self._sent()

    def _push(self) -> None:
        rest = self._unsent
        while rest and not self._paused:
            size = min(len(rest), self._frame_size, self._stream_window, self._connection_window)
            if size <= 0:
                break
            self._stream_window -= size
            self._connection_window -= size
            self._transport.write(frames.encode(frames.DATA, 0, STREAM, bytes(rest[:size])))
            rest = rest[size:]
        self._unsent = rest

    # ---- the end

    def _on_beat(self) -> None:
        """Asks a silent peer whether it is still there."""
        self._quiet_beats += 1
        if self._quiet_beats > _QUIET_BEATS:
            self._break(f"the peer has been silent for {_QUIET_BEATS * _BEAT_SECONDS:g} s")
            return
        if self._quiet_beats > 1:
            self._transport.write(frames.encode(frames.PING, 0, 0, bytes(8)))
        self._beat = self._loop.call_later(_BEAT_SECONDS, self._on_beat)

    def _break(self, why: str) -> None:
        self._finish(grpc.StatusCode.UNAVAILABLE, why)
        self._transport.abort()

    def _finish(self, code: grpc.StatusCode, details: str) -> None:
        if not self._end.done():
            self._end.set_result(Ended(code, details))
            self._unsent = memoryview(b"")
