"""The node as a program, in a cluster's network and with mounts of its own.

`python -m tests.cluster.node --kubeconfig FILE --folder DIR --certificate FILE --key FILE --node NAME=JSON`, the JSON
being its extended resources. Logs go to stderr, containers' logs to DIR/logs/NAMESPACE/POD/CONTAINER.log.
"""

import argparse
import asyncio
import datetime
import json
import logging
import os
import random
import signal
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import uvloop
from tandem_cli.runner import Backoff, scratch_folder

from tests.cluster.network import Network
from tests.cluster.node.api import connected
from tests.cluster.node.logs import serving_logs
from tests.cluster.node.node import Node
from tests.cluster.node.pod import Machine
from tests.cluster.node.services import Services
from tests.cluster.node.wires import Wires

_BACKOFF = Backoff(first=0.5, limit=8, reset=10)
"""A kubelet's is 10 s to 300 s: nobody would wait for a test of it."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.cluster.node")
    for name in ("kubeconfig", "folder", "certificate", "key"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--node", action="append", required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    uvloop.run(_until_told(arguments))


async def _until_told(arguments: argparse.Namespace) -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    serving = asyncio.create_task(_serve(arguments, told))
    with suppress(asyncio.CancelledError):
        await serving


async def _serve(arguments: argparse.Namespace, told: asyncio.Event) -> None:
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(connected(arguments.kubeconfig))
        scratch = await stack.enter_async_context(scratch_folder(parent=arguments.folder))
        network = Network(os.open("/proc/self/ns/net", os.O_RDONLY))
        services = Services(api, arguments.folder / "names", random.Random())
        path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"])
        machine = Machine(
            api=api,
            wires=Wires(network),
            services=services,
            scratch=scratch,
            logs=arguments.folder / "logs",
            environment={
                "PATH": path,
                "PYTHONUNBUFFERED": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
                "KUBERNETES_SERVICE_HOST": "10.96.0.1",
                "KUBERNETES_SERVICE_PORT": "443",
                "KUBERNETES_SERVICE_PORT_HTTPS": "443",
            },
            backoff=_BACKOFF,
            now=lambda: datetime.datetime.now(datetime.UTC),
        )
        nodes = []
        for given in arguments.node:
            name, _, resources = given.partition("=")
            nodes.append(Node(name, json.loads(resources or "{}"), machine))

        def runs(namespace: str, pod: str) -> bool:
            return any(node.runs(namespace, pod) for node in nodes)

        port = await stack.enter_async_context(serving_logs(machine.logs, arguments.certificate, arguments.key, runs))
        async with asyncio.TaskGroup() as group:
            group.create_task(services.run())
            for node in nodes:
                group.create_task(node.run(port))
            await told.wait()
            for node in nodes:
                node.hurry()
            raise asyncio.CancelledError


if __name__ == "__main__":
    main()
