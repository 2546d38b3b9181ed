"""The program that `helm test` runs, against an API server and a router of the test's own."""

import importlib.util
import json
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import httpx
import pytest
from tandem_api.manifest import load

from tests.chart.rendering import CHART, Chart

ONE = "/apis/tandem.dev/v1alpha1/namespaces/ns/inferenceservices/smoke"
DELTA = 'data: {"choices": [{"delta": {"content": "Because."}}]}\n\n'


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("helm_test", CHART / "files" / "helm_test.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Server:
    """An API server that keeps one resource, which is Ready after so many looks, and a router beside it."""

    def __init__(self, ready_after: int = 2, stream: str = f"{DELTA}data: [DONE]\n\n", status: int = 200) -> None:
        self.there: dict[str, Any] | None = None
        self.looks = 0
        self._ready_after, self._stream, self._status = ready_after, stream, status

    def api(self, request: httpx.Request) -> httpx.Response:
        match request.method:
            case "POST":
                self.there = json.loads(request.content)
                return httpx.Response(201, json=self.there)
            case "DELETE":
                code = 200 if self.there else 404
                self.there = None
                return httpx.Response(code, json={})
        assert request.url.path == ONE
        self.looks += 1
        status = "True" if self.looks >= self._ready_after else "False"
        return httpx.Response(200, json={"status": {"conditions": [{"type": "Ready", "status": status}]}})

    def router(self, request: httpx.Request) -> httpx.Response:
        assert self.there, "asked before it was there"
        assert json.loads(request.content)["model"] == "smoke"
        return httpx.Response(self._status, text=self._stream)


def clock() -> Iterator[float]:
    yield from (float(second) for second in range(10_000))


def run(program: ModuleType, server: Server) -> str:
    seconds = clock()
    with (
        httpx.Client(transport=httpx.MockTransport(server.api), base_url="http://api") as api,
        httpx.Client(transport=httpx.MockTransport(server.router), base_url="http://router") as router,
    ):
        said: str = program.run(api, router, "smoke", "ns", 100.0, lambda: next(seconds), lambda _: None)
        return said


def test_it_applies_waits_asks_and_leaves_nothing(program: ModuleType) -> None:
    server = Server(ready_after=3)
    assert run(program, server) == "Because."
    assert server.looks == 3
    assert server.there is None


def test_its_service_is_a_valid_one(program: ModuleType) -> None:
    (service,) = load(json.dumps(program.service("smoke")))
    assert service.spec.prefill


@pytest.mark.parametrize(
    ("server", "says"),
    [
        (Server(ready_after=10**6), "did not become Ready"),
        (Server(stream=DELTA), "cut"),
        (Server(stream="data: [DONE]\n\n"), "cut"),
        (Server(stream='data: {"error": {"message": "worker lost"}}\n\ndata: [DONE]\n\n'), "worker lost"),
        (Server(status=503, stream="no worker"), "HTTP 503: no worker"),
    ],
    ids=["never ready", "no end", "no text", "error event", "refused"],
)
def test_it_fails_with_the_reason_and_leaves_nothing(program: ModuleType, server: Server, says: str) -> None:
    with pytest.raises(program.Failed, match=says):
        run(program, server)
    assert server.there is None


def test_the_release_runs_this_very_program(chart: Chart) -> None:
    rendered = chart.render()
    assert (
        rendered.one("ConfigMap", "tandem-test")["data"]["helm_test.py"] == (CHART / "files/helm_test.py").read_text()
    )
    job = rendered.one("Job", "tandem-test")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert job["spec"]["backoffLimit"] == 0
    assert "--router=http://tandem-router.tandem-system.svc" in job["spec"]["template"]["spec"]["containers"][0]["args"]
