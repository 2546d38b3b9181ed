"""One client's connection to a holder: gRPC calls answered in one thread, data sent from where it lies.

grpcio's server takes each message as bytes of its own, copies them, and passes every message between two threads: more
than half of what it costs to serve a fetch (`bench/README.md`). Here a message is a few pieces of memory, which the
kernel gathers. Calls of one connection are answered one after the other, the short ones between the messages of a long
one; a client that wants several answers at once has several connections, as `KvClient` does.
"""

import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import grpc
import hpack
from tandem_proto.http2 import frames
from tandem_proto.http2.calls import PREFIX, CallFailed, message_size, timeout_of, trailers
from tandem_proto.http2.frames import Frame, ProtocolError

from tandem_engine.kv.encrypted import Transport

Message = Sequence[bytes | memoryview]
"""One after the other they are a message's bytes."""

IDLE_SECONDS: Final = 30.0
"""A client from which nothing comes for so long, between calls, has vanished; Tandem's own send pings before."""

_LARGEST_REQUEST: Final = 64 * 2**10
_LARGEST_FRAME: Final = frames.DEFAULT_FRAME_SIZE
_MOST_CALLS: Final = 100

logger = logging.getLogger(__name__)


class Method(NamedTuple):
    """`answer` gives the messages for a request, and may raise CallFailed; it is closed when nobody wants more."""

    answer: Callable[[bytes], Generator[Message, None, None]]
    short: bool
    """It takes no time, and gives one small message: it may be answered while another call is."""


@dataclass(slots=True)
class _Call:
    path: str
    deadline: float
    window: int
    request: bytearray = field(default_factory=bytearray)


class Connection:
    """Serves one socket until its peer goes.

    Args:
        peer: Connected, and through TLS's handshake where there is one.
        methods: By path, /package.Service/Method.
        call_seconds: A call that takes longer is ended.
        clock: Seconds, monotone.
    """

    def __init__(
        self,
        peer: Transport,
        methods: Mapping[str, Method],
        call_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._peer = peer
        self._methods = methods
        self._call_seconds = call_seconds
        self._clock = clock
        self._reader = frames.Reader(_LARGEST_FRAME)
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder()
        self._headers = b""
        """Of headers that come in several frames."""
        self._headers_flags = 0
        self._calls: dict[int, _Call] = {}
        """By stream, those that the client has not ended."""
        self._long: list[int] = []
        """Those whose request is here, in the order to answer them."""
        self._short: list[int] = []
        """Likewise, and to be answered at once."""
        self._window = self._initial_window = frames.DEFAULT_WINDOW
        self._frame_size = frames.DEFAULT_FRAME_SIZE

    def serve(self) -> None:
        """Returns when the peer has gone.

        Raises:
            OSError: It went without a word, or was silent for too long.
            ProtocolError: It does not speak HTTP/2. So hpack.HPACKError.
        """
        begin = b""
        while len(begin) < len(frames.PREFACE):
            begin += self._receive(IDLE_SECONDS)
        if not begin.startswith(frames.PREFACE):
            raise ProtocolError("no HTTP/2")
        self._send(frames.settings({frames.MAX_CONCURRENT_STREAMS: _MOST_CALLS}))
        self._take(begin[len(frames.PREFACE) :])
        while True:
            self._answer_short()
            while self._long:
                self._answer(self._long.pop(0))
            self._hear(IDLE_SECONDS)

    # ---- what the client says

    def _receive(self, seconds: float) -> bytes:
        self._peer.settimeout(seconds)
        got = self._peer.recv(2**16)
        if not got:
            raise ConnectionError("the client closed the connection")
        return got

    def _hear(self, seconds: float) -> None:
        """Takes what comes within some time, at least what is here, and answers what takes none."""
        try:
            self._take(self._receive(seconds))
        except BlockingIOError:
            return
        self._answer_short()

    def _answer_short(self) -> None:
        while self._short:
            self._answer(self._short.pop(0))

    def _take(self, data: bytes) -> None:
        for frame in self._reader.feed(data):
            self._take_frame(frame)

    def _take_frame(self, frame: Frame) -> None:
        kind, flags, stream, payload = frame
        if kind in (frames.HEADERS, frames.CONTINUATION):
            if kind == frames.HEADERS:
                self._headers_flags = flags
            self._headers += payload
            if len(self._headers) > _LARGEST_REQUEST:
                raise ProtocolError("headers without an end")
            if flags & frames.END_HEADERS:
                self._begin(stream)
        elif kind == frames.DATA:
            self._data(stream, payload, ends=bool(flags & frames.END_STREAM))
        elif kind == frames.SETTINGS:
            if not flags & frames.ACK:
                self._settings(payload)
        elif kind == frames.PING:
            if not flags & frames.ACK:
                self._send(frames.encode(frames.PING, frames.ACK, 0, payload))
        elif kind == frames.WINDOW_UPDATE:
            size = int.from_bytes(payload, "big") & 0x7FFF_FFFF
            if not stream:
                self._window += size
            elif call := self._calls.get(stream):
                call.window += size
        elif kind == frames.RST_STREAM:
            self._calls.pop(stream, None)
        # Other frames are none that a server has to understand.

    def _begin(self, stream: int) -> None:
        block, self._headers = self._headers, b""
        headers = {str(name): str(value) for name, value in self._decoder.decode(block)}
        if stream in self._calls or len(self._calls) >= _MOST_CALLS:
            raise ProtocolError("more headers or calls than allowed")
        seconds = min(self._call_seconds, timeout_of(headers.get("grpc-timeout", "")))
        self._calls[stream] = _Call(headers.get(":path", ""), self._clock() + seconds, self._initial_window)
        if self._headers_flags & frames.END_STREAM:
            self._ask(stream)

    def _data(self, stream: int, payload: bytes, *, ends: bool) -> None:
        if payload:
            self._send(frames.window_update(0, len(payload)))
        call = self._calls.get(stream)
        if call is None:
            return
        call.request += payload
        if len(call.request) > _LARGEST_REQUEST:
            raise ProtocolError(f"a request of more than {_LARGEST_REQUEST} bytes")
        if ends:
            self._ask(stream)

    def _ask(self, stream: int) -> None:
        method = self._methods.get(self._calls[stream].path)
        (self._short if method is None or method.short else self._long).append(stream)

    def _settings(self, payload: bytes) -> None:
        for key, value in frames.settings_of(payload):
            if key == frames.INITIAL_WINDOW_SIZE:
                for call in self._calls.values():
                    call.window += value - self._initial_window
                self._initial_window = value
            elif key == frames.MAX_FRAME_SIZE:
                self._frame_size = value
        self._send(frames.encode(frames.SETTINGS, frames.ACK, 0))

    # ---- what it is told

    def _answer(self, stream: int) -> None:
        call = self._calls.get(stream)
        if call is None:
            return  # the client does not want it any more
        self._tell(stream, 0, [(":status", "200"), ("content-type", "application/grpc")])
        try:
            self._messages(stream, call)
        except CallFailed as failed:
            end = trailers(failed.code, failed.details)
        except OSError:
            raise
        except Exception:
            logger.exception("%s failed", call.path)
            end = trailers(grpc.StatusCode.INTERNAL, "the holder failed")
        else:
            end = trailers(grpc.StatusCode.OK)
        if self._calls.pop(stream, None):
            self._tell(stream, frames.END_STREAM, end)

    def _messages(self, stream: int, call: _Call) -> None:
        method = self._methods.get(call.path)
        if method is None:
            raise CallFailed(grpc.StatusCode.UNIMPLEMENTED, "no such method")
        answer = method.answer(self._request(call))
        with closing(answer):
            for message in answer:
                self._message(stream, call, message)
                if not method.short:
                    self._hear(0)
                if stream not in self._calls:
                    return

    def _request(self, call: _Call) -> bytes:
        message = bytes(call.request[PREFIX:])
        try:
            if message_size(call.request[:PREFIX], _LARGEST_REQUEST) == len(message):
                return message
        except ProtocolError as error:
            raise CallFailed(grpc.StatusCode.INTERNAL, str(error)) from error
        raise CallFailed(grpc.StatusCode.INTERNAL, "not one message")

    def _message(self, stream: int, call: _Call, message: Message) -> None:
        """Sends a message in as many frames as the client's window and the size of frames want."""
        size = sum(len(piece) for piece in message)
        pieces = [memoryview(b"\0" + size.to_bytes(4, "big")), *(memoryview(piece) for piece in message)]
        left = PREFIX + size
        while left and self._is_open(stream, call):
            size = min(left, self._frame_size, call.window, self._window)
            call.window -= size
            self._window -= size
            left -= size
            self._send(frames.head(frames.DATA, 0, stream, size), *_cut(pieces, size), until=call.deadline)

    def _is_open(self, stream: int, call: _Call) -> bool:
        """Waits until the client takes more; False where it wants none.

        Raises:
            CallFailed: The call's time is over.
        """
        while stream in self._calls:
            left = call.deadline - self._clock()
            if left <= 0:
                raise CallFailed(grpc.StatusCode.CANCELLED, "the client took too long")
            if min(call.window, self._window) > 0:
                return True
            with suppress(TimeoutError):
                self._hear(left)
        return False

    def _tell(self, stream: int, flags: int, headers: list[tuple[str, str]]) -> None:
        block = self._encoder.encode(headers)
        self._send(frames.encode(frames.HEADERS, flags | frames.END_HEADERS, stream, block))

    def _send(self, *pieces: bytes | memoryview, until: float | None = None) -> None:
        rest = [memoryview(piece) for piece in pieces]
        deadline = self._clock() + IDLE_SECONDS if until is None else until
        while rest:
            self._peer.settimeout(max(1e-3, deadline - self._clock()))
            _cut(rest, self._peer.sendmsg(rest))


def _cut(pieces: list[memoryview], size: int) -> list[memoryview]:
    """Takes `size` bytes off the beginning of `pieces` and returns them."""
    taken = []
    while size:
        piece = pieces[0]
        taken.append(piece[:size])
        if size < len(piece):
            pieces[0] = piece[size:]
            return taken
        size -= len(piece)
        del pieces[0]
    return taken
