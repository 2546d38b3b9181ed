"""A ClusterIP's port: each connection goes on to one of the targets, byte for byte."""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import cast

Address = tuple[str, int]
_CONNECT_SECONDS = 5


class Relay:
    """Listens on one address. `targets` is who gets the next connections."""

    def __init__(self, choose: random.Random) -> None:
        self.targets: Sequence[Address] = ()
        self._choose = choose
        self._server: asyncio.Server | None = None
        self._connecting: set[asyncio.Task[None]] = set()

    async def listen(self, address: Address) -> None:
        """Raises `OSError`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Side(self._connect), *address)

    def close(self) -> None:
        """Listens no more; connections stay."""
        assert self._server is not None
        self._server.close()

    def _connect(self, client: "_Side") -> None:
        task = asyncio.get_running_loop().create_task(self._bridge(client, self._choose.choice(self.targets)))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _bridge(self, client: "_Side", target: Address) -> None:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, server = await asyncio.get_running_loop().create_connection(lambda: _Side(None), *target)
        except (OSError, TimeoutError):
            client.transport.abort()
            return
        if client.transport.is_closing() or server.transport.is_closing():
            # One has gone before it was joined to the other, which heard nothing of it.
            client.transport.abort()
            server.transport.abort()
            return
        client.join(server)
        server.join(client)


class _Side(asyncio.Protocol):
    """One of two connections that are one. What comes before it is joined to the other waits."""

    transport: asyncio.Transport

    def __init__(self, on_connected: "Callable[[_Side], None] | None") -> None:
        self._on_connected = on_connected
        self._other: _Side | None = None
        self._early = b""
        self._early_end = False

    def join(self, other: "_Side") -> None:
        self._other = other
        if self._early:
            other.transport.write(self._early)
        if self._early_end:
            self.eof_received()
        with suppress(RuntimeError):  # has gone meanwhile
            self.transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self._on_connected is not None:
            self._on_connected(self)

    def data_received(self, data: bytes) -> None:
        if self._other is None:
            self._early += data
            self.transport.pause_reading()
        else:
            self._other.transport.write(data)

    def eof_received(self) -> bool:
        if self._other is None:
            self._early_end = True
        else:
            with suppress(OSError, RuntimeError):
                self._other.transport.write_eof()
        return True  # the other direction goes on

    def pause_writing(self) -> None:
        if self._other is not None:
            self._other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._other is not None:
            self._other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self._other is not None:
            self._other.transport.abort() if error else self._other.transport.close()
