"""Keeps a prompt's lease while the call that wants its KV waits for its turn.

A lease lasts as long as a transfer may take to begin on a worker that has room. A full one may begin it much later: it
says so to the holder, or the KV would be dropped and computed again, just where there is no time for it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from tandem_proto.tandem.v1 import kv_pb2

from tandem_engine.errors import KvGone
from tandem_engine.kv.client import KvClient

RENEW_SECONDS: Final = 5.0
"""How long a holder may take to answer."""


@asynccontextmanager
async def renewing(client: KvClient, handle: kv_pb2.KvHandle | None) -> AsyncIterator[Callable[[], None]]:
    """Renews a handle's lease each third of its time while entered. What it yields ends that before: the KV is here.

    The first of the holder's ranks is told; it is the holder's to tell the others. Without a handle, or with one
    that names no holder or no time, nothing is done.
    """
    if handle is None or not (handle.addresses and handle.ttl_ms):
        yield lambda: None
        return
    task = asyncio.create_task(_renew(client, handle), name="kv lease renewal")
    try:
        yield lambda: _cancel(task)
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _renew(client: KvClient, handle: kv_pb2.KvHandle) -> None:
    while True:
        await asyncio.sleep(handle.ttl_ms / 3000)
        try:
            with suppress(ConnectionError):  # a holder that is held up is asked again
                await asyncio.to_thread(client.renew, handle.addresses[0], handle.lease, timeout=RENEW_SECONDS)
        except KvGone:
            return  # the fetch will find out, and say why


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
