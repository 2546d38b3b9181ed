"""What goes wrong on a platform that serves, told as it happens."""

import asyncio

import click

from tandem_cli.platform import Platform

_LOOK = 0.5
"""Seconds between two looks at the pods."""


async def tell_troubles(platform: Platform) -> None:
    """Writes a line for each container that ends and is started again, for ever."""
    restarts: dict[tuple[str, str], int] = {}
    while True:
        for pod in platform.pods.values():
            for container in pod.state.containers:
                if container.restarts > restarts.get((pod.name, container.name), 0):
                    restarts[pod.name, container.name] = container.restarts
                    why = f" ({container.message})" if container.message else ""
                    status = f"exited with status {container.exit_code}{why}"
                    click.echo(f"{pod.name}: {status}, starting it again ({container.restarts})", err=True)
        await asyncio.sleep(_LOOK)
