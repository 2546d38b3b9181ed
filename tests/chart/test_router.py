"""The routers: how they are started, ended, exposed and kept."""

import base64

from tests.chart.rendering import Chart, Objects
from tests.chart.values import EVERYTHING


def _spec(rendered: Objects) -> dict[str, object]:
    found: dict[str, object] = rendered.one("Deployment", "tandem-router")["spec"]
    return found


def test_a_rolling_update_takes_no_router_away_before_another_is_ready(defaults: Objects) -> None:
    assert _spec(defaults)["strategy"] == {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert defaults.container("tandem-router")["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}


def test_an_ending_router_has_time_for_its_lame_duck_and_its_streams(chart: Chart) -> None:
    rendered = chart.render({"router": {"gracePeriodSeconds": 300, "lameDuckSeconds": 15}})
    pod = rendered.one("Deployment", "tandem-router")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > 315
    assert {"--grace=300", "--lame-duck=15"} <= set(pod["containers"][0]["args"])


def test_it_takes_services_from_the_cluster(defaults: Objects) -> None:
    container = defaults.container("tandem-router")
    assert container["command"] == ["python", "-m", "tandem_router"]
    assert {"--kubernetes", "--host=0.0.0.0", "--port=8080"} <= set(container["args"])
    assert not any(arg.startswith(("--namespace", "--tls")) for arg in container["args"])


def test_namespaces_are_named_one_by_one(chart: Chart) -> None:
    args = chart.render({"namespaces": ["a", "b"]}).container("tandem-router")["args"]
    assert [arg for arg in args if arg.startswith("--namespace")] == ["--namespace=a", "--namespace=b"]


def test_options_become_arguments(chart: Chart) -> None:
    container = chart.render(EVERYTHING).container("tandem-router")
    assert {"--tls=/etc/tandem-tls", "--server-timing", "--max-unsent-bytes=4096"} <= set(container["args"])
    assert {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4317"} in container["env"]


def test_a_large_number_is_written_out(chart: Chart) -> None:
    args = chart.render({"router": {"maxBodyBytes": 1073741824}}).container("tandem-router")["args"]
    assert "--max-body-bytes=1073741824" in args


def test_the_autoscaler_owns_the_replicas(chart: Chart, defaults: Objects) -> None:
    assert _spec(defaults)["replicas"] == 2
    scaled = chart.render({"router": {"autoscaling": {"enabled": True, "maxReplicas": 7}}})
    assert "replicas" not in _spec(scaled)
    autoscaler = scaled.one("HorizontalPodAutoscaler", "tandem-router")["spec"]
    assert autoscaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "tandem-router"}
    assert (autoscaler["minReplicas"], autoscaler["maxReplicas"]) == (2, 7)


def test_evictions_leave_routers_running(chart: Chart, defaults: Objects) -> None:
    budget = defaults.one("PodDisruptionBudget", "tandem-router")["spec"]
    assert budget["maxUnavailable"] == 1
    off = chart.render({"router": {"podDisruptionBudget": {"enabled": False}}})
    assert off.of("PodDisruptionBudget") == []


def test_routers_are_spread_over_nodes_unless_told_otherwise(chart: Chart, defaults: Objects) -> None:
    (spread,) = defaults.pods["Deployment/tandem-router"]["spec"]["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway"
    own = [{"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]
    told = chart.render({"router": {"topologySpreadConstraints": own}})
    assert told.pods["Deployment/tandem-router"]["spec"]["topologySpreadConstraints"] == own


def test_where_it_runs_can_be_said(chart: Chart) -> None:
    pod = chart.render(EVERYTHING).pods["Deployment/tandem-router"]
    assert pod["spec"]["tolerations"] == [{"key": "spot", "operator": "Exists"}]
    assert pod["spec"]["nodeSelector"] == {"pool": "cpu"}
    assert pod["spec"]["priorityClassName"] == "high"
    assert pod["metadata"]["labels"]["mesh"] == "off"
    assert pod["metadata"]["annotations"] == {"note": "x"}


def test_a_load_balancer_is_told_whom_to_let_in(chart: Chart) -> None:
    service = {"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.0/24"], "annotations": {"a": "b"}}
    made = chart.render({"router": {"service": service}}).one("Service", "tandem-router")
    assert made["spec"]["type"] == "LoadBalancer"
    assert made["spec"]["loadBalancerSourceRanges"] == ["192.0.2.0/24"]
    assert made["metadata"]["annotations"] == {"a": "b"}


def test_an_ingress_leads_every_host_to_the_routers(chart: Chart) -> None:
    spec = chart.render(EVERYTHING).one("Ingress", "tandem-router")["spec"]
    assert spec["ingressClassName"] == "nginx"
    assert spec["tls"] == [{"secretName": "llm", "hosts": ["llm.example"]}]
    (rule,) = spec["rules"]
    assert rule["host"] == "llm.example"
    assert rule["http"]["paths"][0]["backend"]["service"] == {"name": "tandem-router", "port": {"name": "http"}}


def test_a_route_leads_a_gateway_to_the_routers_without_a_deadline(chart: Chart) -> None:
    spec = chart.render(EVERYTHING).one("HTTPRoute", "tandem-router")["spec"]
    assert spec["parentRefs"] == [{"name": "public"}]
    (rule,) = spec["rules"]
    assert rule["backendRefs"] == [{"name": "tandem-router", "port": 80}]
    assert rule["timeouts"] == {"request": "0s"}


def test_the_key_of_response_ids_is_random_and_long(chart: Chart) -> None:
    each = [chart.render({"router": {"replicas": count}}) for count in (3, 4)]
    keys = [one.one("Secret", "tandem-router-ids")["data"]["id-key"] for one in each]
    assert [len(base64.b64decode(key, validate=True)) for key in keys] == [32, 32]
    assert keys[0] != keys[1]


def test_a_key_of_ones_own_is_mounted_and_none_is_made(chart: Chart) -> None:
    auth = {"apiKeySecret": "key", "serviceKeySecret": "service"}
    rendered = chart.render({"router": {"idKey": {"existingSecret": "mine"}}, "auth": auth})
    assert rendered.of("Secret") == []
    volumes = rendered.pods["Deployment/tandem-router"]["spec"]["volumes"]
    assert {"name": "ids", "secret": {"secretName": "mine"}} in volumes
