"""Running the platform on behalf of a person: progress while it starts, its table when it serves, and its end."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from random import SystemRandom
from typing import TypeVar

import click
from tandem_operator.planning import ServicePlan

from tandem_cli.failing import Failed
from tandem_cli.interrupts import Interrupts, heard
from tandem_cli.platform import Platform, PlatformError, PlatformSettings, run_platform
from tandem_cli.progress import shown
from tandem_cli.tables import platform_table

Use = Callable[[Platform], Coroutine[None, None, None]]
T = TypeVar("T")


async def serve(plans: Sequence[ServicePlan], settings: PlatformSettings, use: Use) -> bool:
    """Runs the platform, prints its table, and has it used; it ends with `use`, or when the user says so.

    Returns:
        Whether `use` came to its own end: False where the user ended it.

    Raises:
        Failed: something can't start.
    """
    with heard() as interrupts:
        try:
            return await _serve(plans, settings, use, interrupts)
        except PlatformError as error:
            raise Failed.of(error) from None


async def _serve(plans: Sequence[ServicePlan], settings: PlatformSettings, use: Use, interrupts: Interrupts) -> bool:
    async with run_platform(plans, settings, random=SystemRandom(), created=int(time.time())) as platform:
        interrupts.on_second(platform.kill)
        try:
            async with shown(platform, time.monotonic):
                ready = await _unless_asked(platform.until_ready(), interrupts)
                if ready is None:
                    platform.kill()
                    return False
        except PlatformError:
            platform.kill()  # nothing is to be drained, and an engine that loads does not hear SIGTERM for long
            raise
        click.echo(platform_table(ready.result(), platform.url, connectors_of(plans)))
        if await _unless_asked(platform.during(use(platform)), interrupts):
            return True
        click.echo(f"Ending: open streams have {settings.grace:g} s, Ctrl-C again ends them now.", err=True)
        return False


async def _unless_asked(work: Coroutine[None, None, T], interrupts: Interrupts) -> asyncio.Task[T] | None:
    """Does the work, which is returned when it is done, and leaves it when the user asks for an end: None."""
    working, asking = asyncio.create_task(work), asyncio.create_task(interrupts.wait())
    try:
        await asyncio.wait({working, asking}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
            return working
        return None
    finally:
        working.cancel()
        asking.cancel()
        await asyncio.gather(working, asking, return_exceptions=True)


def connectors_of(plans: Sequence[ServicePlan]) -> dict[tuple[str, str], str]:
    """How the KV of each disaggregated service moves, by namespace and name."""
    return {
        (plan.service.metadata.namespace, plan.service.metadata.name): plan.service.spec.kv_transfer.connector
        for plan in plans
        if any(revision.disaggregated for revision in plan.revisions)
    }
