"""The part of a kubelet's HTTP API that `kubectl logs` asks for through the API server."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from aiohttp import web

from tests.cluster.network import CLUSTER_ADDRESS

_POLL_SECONDS = 0.2
_PIECE = 64 * 1024


@asynccontextmanager
async def serving_logs(
    logs: Path, certificate: Path, key: Path, runs: Callable[[str, str], bool]
) -> AsyncIterator[int]:
    """Serves the files NAMESPACE/POD/CONTAINER.log over TLS; yields the port.

    Args:
        logs: the folder.
        certificate: of the server.
        key: of the certificate.
        runs: whether a pod of a namespace still runs: as long as it does, a follower waits for more.
    """
    app = web.Application()

    async def container_log(request: web.Request) -> web.StreamResponse:
        namespace, pod, container = (request.match_info[name] for name in ("namespace", "pod", "container"))
        path = logs / namespace / pod / f"{container}.log"
        if not path.is_file():
            return web.Response(status=404, text=f"container {container} of {namespace}/{pod} has no log\n")
        answer = web.StreamResponse(headers={"content-type": "text/plain"})
        with suppress(ConnectionError), path.open("rb") as file:
            await answer.prepare(request)
            tail = request.query.get("tailLines")
            if tail is not None:
                lines = file.read().splitlines(keepends=True)
                await answer.write(b"".join(lines[-int(tail) :] if int(tail) else []))
            while True:
                ended = request.query.get("follow") != "true" or not runs(namespace, pod)
                while data := file.read(_PIECE):
                    await answer.write(data)
                if ended:
                    break
                await asyncio.sleep(_POLL_SECONDS)
        return answer

    app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", container_log)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await server.setup()
    try:
        site = web.TCPSite(server, CLUSTER_ADDRESS, 0, ssl_context=context)
        await site.start()
        yield server.addresses[0][1]
    finally:
        await server.cleanup()
