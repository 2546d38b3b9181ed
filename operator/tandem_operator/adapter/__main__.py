"""`python -m tandem_operator.adapter --settings FILE --tls DIR`: external metrics from what the routers say."""

import argparse
import asyncio
import json
import logging
import signal
import ssl
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx
from aiohttp import web

from tandem_operator import logs
from tandem_operator.adapter.server import app, load_pair, tls
from tandem_operator.cluster import Cluster, Kind, connect
from tandem_operator.metrics import Metrics
from tandem_operator.routers import RouterPoller
from tandem_operator.settings import OperatorSettings, load
from tandem_operator.store import Key

RELOAD_SECONDS: Final = 60.0

_CONFIG: Final = Kind("", "v1", "ConfigMap", "configmaps")
_log = logging.getLogger(__name__)


def main() -> None:
    """Runs until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tandem_operator.adapter", description=__doc__)
    parser.add_argument("--settings", type=Path, required=True, help="YAML, the operator's")
    parser.add_argument("--tls", type=Path, required=True, help="a folder with tls.crt and tls.key")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")  # noqa: S104 - a pod's own
    parser.add_argument("--port", type=int, default=6443)
    arguments = parser.parse_args()
    settings = load(arguments.settings)
    logs.configure(settings.log_level)
    asyncio.run(_run(settings, arguments.tls, arguments.host, arguments.port))


async def _run(settings: OperatorSettings, folder: Path, host: str, port: int) -> None:
    metrics, stop = Metrics(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    def concerned(_: Iterable[Key] | None) -> None:
        """Nobody waits here: values are looked up when they are asked for."""

    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(connect(time.monotonic, metrics.request))
        to_routers = await stack.enter_async_context(
            httpx.AsyncClient(headers=settings.router.headers(), trust_env=False)
        )
        routers = RouterPoller(cluster, to_routers, settings.router, metrics, concerned, time.time)
        authority, proxies = await _front_proxies(cluster)
        context = tls(folder, authority)
        server = web.AppRunner(
            app(
                lambda: [view.status for view in routers.views() if view.answered and view.status],
                lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                proxies,
            ),
            access_log=None,
            shutdown_timeout=5,
        )
        await server.setup()
        stack.push_async_callback(server.cleanup)
        await web.TCPSite(server, host, port, ssl_context=context).start()
        _log.info("started", extra={"port": port})
        async with asyncio.TaskGroup() as group:
            helping = [group.create_task(routers.run()), group.create_task(_reload(context, folder))]
            await stop.wait()
            for task in helping:
                task.cancel()
    _log.info("stopped")


async def _front_proxies(cluster: Cluster) -> tuple[str, list[str]]:
    """By what the API server makes itself known to aggregated ones: an authority (PEM), and common names."""
    config = await cluster.get(_CONFIG, "kube-system", "extension-apiserver-authentication")
    data = config.get("data") or {}
    authority = data.get("requestheader-client-ca-file")
    if not authority:
        raise SystemExit("the API server has no aggregation layer: start it with --requestheader-client-ca-file")
    return str(authority), json.loads(data.get("requestheader-allowed-names") or "[]")


async def _reload(context: ssl.SSLContext, folder: Path) -> None:
    """Follows a certificate that is renewed."""
    while True:
        await asyncio.sleep(RELOAD_SECONDS)
        try:
            load_pair(context, folder)
        except (OSError, ssl.SSLError) as error:
            _log.warning("can't take the renewed certificate", extra={"why": str(error)})


if __name__ == "__main__":
    main()
