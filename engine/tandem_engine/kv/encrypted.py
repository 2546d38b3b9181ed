"""TLS over a blocking socket, many records at a time.

`ssl.SSLSocket` asks the kernel for each record of 16 KiB, twice: on a machine that has other work, two sides that wake
each other so often move a fifth of what they could. Here the kernel gives and takes as much as it has.
"""

import socket
import ssl
from collections.abc import Iterable
from typing import Final, Protocol, cast

from typing_extensions import Buffer

_READ_BYTES: Final = 512 * 2**10
_WRITE_BYTES: Final = 2**20


class Transport(Protocol):
    """What calls need of a socket, and what it has of TLS as well."""

    def settimeout(self, seconds: float, /) -> None: ...

    def recv(self, size: int, /) -> bytes: ...

    def recv_into(self, into: Buffer, /) -> int: ...

    def sendall(self, data: Buffer, /) -> None: ...

    def sendmsg(self, pieces: Iterable[Buffer], /) -> int: ...


class Encrypted:
    """A `Transport`. Used by one thread at a time; the socket stays its owner's to close.

    Args:
        plain: Connected, with the timeout that the handshake may take.
        context: Of this side.
        server_hostname: To be proven by the server; None on the server's own side.

    Raises:
        OSError: TLS refused the peer, the peer us, or the connection ended. ssl.SSLError is one.
    """

    def __init__(self, plain: socket.socket, context: ssl.SSLContext, server_hostname: str | None = None) -> None:
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_hostname is None, server_hostname=server_hostname
        )
        self._arriving = memoryview(bytearray(_READ_BYTES))
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._fill()
            except ssl.SSLError:
                self._flush()  # tells the peer why
                raise
            else:
                break
        self._flush()

    def settimeout(self, seconds: float, /) -> None:
        self._plain.settimeout(seconds)

    def recv(self, size: int, /) -> bytes:
        into = bytearray(size)
        return bytes(into[: self.recv_into(into)])

    def recv_into(self, into: Buffer, /) -> int:
        """As many bytes as are here, at least one; 0 where the peer has ended the connection."""
        view, got = memoryview(into), 0
        while got < len(view):
            try:
                size = cast("int", self._tls.read(len(view) - got, view[got:]))  # so it is with a buffer
            except ssl.SSLWantReadError:
                if got:
                    break
                self._fill()
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                break
            else:
                if not size:
                    break
                got += size
        return got

    def sendall(self, data: Buffer, /) -> None:
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        self._flush()

    def sendmsg(self, pieces: Iterable[Buffer], /) -> int:
        """Sends the first of these bytes, and returns how many."""
        sent = 0
        for piece in pieces:
            view = memoryview(piece)[: _WRITE_BYTES - sent]
            sent += len(view)
            while view:
                view = view[self._tls.write(view) :]
        self._flush()
        return sent

    def _fill(self) -> None:
        """Waits for what comes next."""
        self._flush()
        if size := self._plain.recv_into(self._arriving):
            self._incoming.write(self._arriving[:size])
        else:
            self._incoming.write_eof()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._plain.sendall(self._outgoing.read())
