"""Monitors, dashboard and alerts: they are rendered, and ask for metrics that exist."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
import yaml
from prometheus_client import generate_latest
from tandem_api.inference_service import EngineSpec, KvTransferSpec
from tandem_api.worker import WorkerConfig
from tandem_operator.metrics import Metrics

from tests.chart.rendering import CHART, Chart, Objects
from tests.chart.values import EVERYTHING
from tests.loopback import free_host

DASHBOARD = json.loads((CHART / "files" / "dashboard.json").read_text())
ALERTS = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
EXPRESSIONS = [
    *((f"{panel['title']} {target['refId']}", target["expr"]) for panel in PANELS for target in panel["targets"]),
    *((rule["alert"], rule["expr"]) for rule in RULES),
]


def _selectors(node: Any) -> Iterator[promql_parser.VectorSelector]:
    """Every selector of series in an expression."""
    match node:
        case promql_parser.VectorSelector():
            yield node
        case promql_parser.MatrixSelector():
            yield node.vector_selector
        case promql_parser.BinaryExpr():
            yield from _selectors(node.lhs)
            yield from _selectors(node.rhs)
        case promql_parser.Call():
            for argument in node.args:
                yield from _selectors(argument)
        case promql_parser.AggregateExpr() | promql_parser.ParenExpr() | promql_parser.UnaryExpr():
            yield from _selectors(node.expr)
        case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            return
        case _:
            raise AssertionError(f"{type(node).__name__} is not looked into")


def _parsed(expression: str) -> Any:
    return promql_parser.parse(expression.replace("$__rate_interval", "5m"))


def _series(text: str) -> set[str]:
    """Names of the series that an exposition tells of, those without samples included."""
    found = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        found |= {name, *(f"{name}_{part}" for part in ("bucket", "sum", "count") if kind == "histogram")}
    return found


@contextmanager
def _running(*command: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-m", *command], stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


def _metrics(process: subprocess.Popen[str], host: str, port: int, among: str = "") -> str:
    """What a program tells, once it listens and this is among it."""
    while process.poll() is None:
        with suppress(httpx.TransportError):
            told = httpx.get(f"http://{host}:{port}/metrics", timeout=60, trust_env=False).text
            if among in told:
                return told
        time.sleep(0.05)
    raise AssertionError(f"it ended with {process.returncode}: {process.communicate()[1]}")


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Of a router, a registry, a virtual worker and the operator, as they run."""
    folder: Path = tmp_path_factory.mktemp("series")
    config = WorkerConfig(
        role="decode",
        service="default/demo",
        model="demo",
        version="v1",
        revision="r",
        engine=EngineSpec(type="virtual"),
        kv_transfer=KvTransferSpec(),
    )
    (folder / "worker.json").write_text(config.model_dump_json())
    (folder / "topology.json").write_text('{"services": []}')
    (folder / "key").write_text("service-key-of-this-test\n")
    host = free_host()
    at, service_key = f"--host={host}", f"--service-key-file={folder / 'key'}"
    kept = f"--database=sqlite:///{folder}/registry.db", f"--storage=file://{folder}/artifacts"
    topology = f"--topology={folder / 'topology.json'}", f"--registry-url=http://{host}:8090"
    with (
        _running("tandem_decode", f"--config={folder / 'worker.json'}", at) as worker,
        _running("tandem_registry", "--migrate", "--allow-no-auth", *kept, at) as registry,
        _running("tandem_router", *topology, service_key, at) as router,
    ):
        told = [
            _metrics(worker, host, config.ports.metrics),
            _metrics(registry, host, 8090),
            _metrics(router, host, 8080, among="tandem_router_keys_age_seconds"),
            generate_latest(Metrics().registry).decode(),
        ]
    return set().union(*map(_series, told))


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS, ids=[name for name, _ in EXPRESSIONS])
def test_an_expression_asks_for_metrics_that_exist(series: set[str], name: str, expression: str) -> None:
    names = {selector.name for selector in _selectors(_parsed(expression))}
    assert names
    assert names - series == set()


def test_an_unknown_metric_would_be_found(series: set[str]) -> None:
    (selector,) = _selectors(_parsed("rate(tandem_router_requests[5m])"))
    assert selector.name not in series


def test_variables_of_the_dashboard_ask_for_metrics_that_exist(series: set[str]) -> None:
    asked = [v["query"]["query"] for v in DASHBOARD["templating"]["list"] if v["type"] == "query"]
    assert len(asked) == 2
    for query in asked:
        assert re.match(r"label_values\((\w+)", query)[1] in series  # type: ignore[index] - the test fails on None


def test_panels_lie_side_by_side_and_say_their_unit() -> None:
    places = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(x, place["y"]) for x in range(place["x"], place["x"] + place["w"])}
        assert not cells & places, panel["title"]
        places |= cells
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in PANELS)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["alert"].startswith("Tandem")
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert {"summary", "description"} == rule["annotations"].keys()
    assert "for" in rule


@pytest.fixture(scope="module")
def monitored(chart: Chart) -> Objects:
    return chart.render(EVERYTHING)


def test_the_chart_holds_the_dashboard_and_the_alerts_as_they_are(monitored: Objects) -> None:
    config = monitored.one("ConfigMap", "tandem-dashboard")
    assert json.loads(config["data"]["tandem.json"]) == DASHBOARD
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert monitored.one("PrometheusRule", "tandem")["spec"] == ALERTS


def test_monitors_select_pods_and_ports_that_are_there(monitored: Objects) -> None:
    service = monitored.one("ServiceMonitor", "tandem-router")["spec"]
    target = monitored.one("Service", "tandem-router")
    assert service["selector"]["matchLabels"].items() <= target["metadata"]["labels"].items()
    assert service["endpoints"][0]["port"] in [port["name"] for port in target["spec"]["ports"]]
    operator = monitored.one("PodMonitor", "tandem-operator")["spec"]
    pod = monitored.pods["Deployment/tandem-operator"]
    assert operator["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    ports = [port["name"] for port in pod["spec"]["containers"][0]["ports"]]
    assert operator["podMetricsEndpoints"][0]["port"] in ports


def test_workers_are_found_by_the_labels_that_the_plan_gives_them(monitored: Objects) -> None:
    from tandem_api.manifest import load
    from tandem_operator.planning.wanted import plan_service

    (service,) = load(CHART.parents[1] / "deploy" / "samples" / "virtual.yaml")
    pod = plan_service(service).revisions[0].roles[0].pod_template
    spec = monitored.one("PodMonitor", "tandem-worker")["spec"]
    assert spec["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (endpoint,) = spec["podMetricsEndpoints"]
    assert endpoint["port"] in [port["name"] for port in pod["spec"]["containers"][0]["ports"]]
    sources = [label for one in endpoint["relabelings"] for label in one["sourceLabels"]]
    prefix = "__meta_kubernetes_pod_label_"
    told = {re.sub(r"\W", "_", label) for label in pod["metadata"]["labels"]}
    assert {label.removeprefix(prefix) for label in sources if label.startswith(prefix)} <= told


def test_your_prometheus_selects_them_by_your_labels(monitored: Objects) -> None:
    for item in monitored.of("ServiceMonitor", "PodMonitor", "PrometheusRule"):
        assert item["metadata"]["labels"]["release"] == "prometheus"


def test_a_namespaced_installation_scrapes_its_namespaces(chart: Chart) -> None:
    rendered = chart.render({"namespaces": ["a"], "monitoring": {"enabled": True}})
    assert rendered.one("PodMonitor", "tandem-worker")["spec"]["namespaceSelector"] == {"matchNames": ["a"]}


def test_alerts_can_be_left_out(chart: Chart) -> None:
    assert chart.render({"monitoring": {"enabled": True, "rules": False}}).of("PrometheusRule") == []
