"""What the operator asks a router for, and nothing else of one."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tandem_api.status import RouterStatus, ServiceStatus, VersionStatus, WorkerStatus

Json = dict[str, Any]


class FakeRouter:
    """Answers with the status that it was told to. `with` it as long as it is to answer."""

    def __init__(self, name: str, host: str, port: int) -> None:
        self.name = name
        self._status = RouterStatus(router=name, release="test", ready=True, services=())
        router = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = router._status.model_dump_json(by_alias=True).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def says(
        self, resource: dict[str, Any], pods: list[dict[str, Any]], *, connected: bool = True, waiting: int = 0
    ) -> None:
        """From now on: it acts on this state of a service, and has (or lacks) sessions to these pods.

        `waiting` is the number of requests that wait in each of them.
        """
        meta, status = resource["metadata"], resource.get("status", {})
        versions = tuple(
            VersionStatus(
                name=version["name"],
                weight=version.get("weight", 0),
                effective_weight=version.get("weight", 0),
                ttft_p95_seconds=None,
                requests=0,
                errors=0,
                transferred=0,
                recomputed={},
                whole={},
                revisions=tuple(one["name"] for one in version.get("revisions", ()) if one.get("traffic", True)),
                workers=tuple(
                    _worker(pod, connected, waiting) for pod in pods if _label(pod, "version") == version["name"]
                ),
            )
            for version in status.get("versions", ())
        )
        service = ServiceStatus(
            name=meta["name"],
            namespace=meta["namespace"],
            model=resource["spec"].get("model") or meta["name"],
            observed=meta["resourceVersion"],
            queued=0,
            versions=versions,
        )
        self._status = self._status.model_copy(update={"services": (service,)})


def _worker(pod: Json, connected: bool, waiting: int) -> WorkerStatus:
    return WorkerStatus(
        name=pod["metadata"]["name"],
        role="prefill" if _label(pod, "role") == "prefill" else "decode",
        revision=_label(pod, "revision"),
        address="10.77.1.1:9000",
        connected=connected,
        ready=connected,
        draining=False,
        open_calls=0,
        running=0,
        waiting=waiting,
        kv_use=0.0,
        leases=0,
        staged_bytes=0,
    )


def _label(pod: Json, name: str) -> str:
    return str(json.loads(json.dumps(pod["metadata"]["labels"]))[f"tandem.dev/{name}"])
