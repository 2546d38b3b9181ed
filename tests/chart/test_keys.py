"""Keys and limits: the Secrets that hold keys, who gets them, and what routers are told."""

import base64
from typing import Any

from tests.chart.rendering import Chart, Objects

KEY_MOUNT = "/etc/tandem-api-key"
SERVICE_MOUNT = "/etc/tandem-service-key"


def mounts(objects: Objects, component: str) -> set[str]:
    return {mount["mountPath"] for mount in objects.container(f"tandem-{component}")["volumeMounts"]}


def args(objects: Objects) -> set[str]:
    return set(objects.container("tandem-router")["args"])


def test_a_key_is_made_where_none_is_given_and_the_routers_ask_for_it(defaults: Objects) -> None:
    keys = [
        base64.b64decode(defaults.one("Secret", f"tandem-{name}")["data"][name]).decode()
        for name in ("api-key", "service-key")
    ]
    assert keys[0] != keys[1]
    assert all(key.startswith("tandem_") and len(key) > 40 for key in keys)
    assert {f"--api-key-file={KEY_MOUNT}/api-key", f"--service-key-file={SERVICE_MOUNT}/service-key"} <= args(defaults)
    assert "--allow-no-auth" not in args(defaults)
    assert {KEY_MOUNT, SERVICE_MOUNT} <= mounts(defaults, "router")


def test_the_operator_knows_the_service_key_alone(defaults: Objects) -> None:
    assert SERVICE_MOUNT in mounts(defaults, "operator")
    assert KEY_MOUNT not in mounts(defaults, "operator")
    settings = defaults.one("ConfigMap", "tandem-settings")["data"]["settings.yaml"]
    assert f"serviceKeyFile: {SERVICE_MOUNT}/service-key" in settings


def test_helm_test_shows_the_key_and_notes_say_how_to_read_it(chart: Chart, defaults: Objects) -> None:
    (container,) = defaults.one("Job", "tandem-test")["spec"]["template"]["spec"]["containers"]
    reference = {"secretKeyRef": {"name": "tandem-api-key", "key": "api-key"}}
    assert {"name": "TANDEM_API_KEY", "valueFrom": reference} in container["env"]
    notes = chart.notes()
    assert "get secret tandem-api-key -o jsonpath='{.data.api-key}'" in notes
    assert '-H "Authorization: Bearer $TANDEM_API_KEY"' in notes


def test_without_authentication_no_key_is_made_and_notes_say_so(chart: Chart) -> None:
    values = {"auth": {"required": False}}
    rendered = chart.render(values)
    assert "--allow-no-auth" in args(rendered)
    assert "Secret/tandem-api-key" not in rendered.names
    assert KEY_MOUNT not in mounts(rendered, "router")
    assert "whoever reaches the routers may do everything" in chart.notes(values)


def test_limits_become_arguments_and_redis_a_way_out(chart: Chart) -> None:
    values: dict[str, Any] = {
        "auth": {"virtualOpen": True},
        "keys": {"store": False, "maxStale": "90m"},
        "limits": {
            "key": {"requestsPerMinute": 1_000_000, "tokensPerMinute": 20},
            "address": {"requestsPerMinute": 30},
            "trustedProxies": ["10.0.0.0/8", "fd00::/8"],
            "redis": {"urlSecret": "shared-counts", "port": 6380},
        },
    }
    rendered = chart.render(values)
    assert {
        *("--virtual-open", "--no-key-store", "--keys-max-stale=90m"),
        *("--key-requests-per-minute=1000000", "--key-tokens-per-minute=20", "--address-requests-per-minute=30"),
        *("--trusted-proxy=10.0.0.0/8", "--trusted-proxy=fd00::/8"),
    } <= args(rendered)
    url = {"secretKeyRef": {"name": "shared-counts", "key": "url"}}
    env = rendered.container("tandem-router")["env"]
    assert {"name": "TANDEM_ROUTER_REDIS_URL", "valueFrom": url} in env
    egress = rendered.one("NetworkPolicy", "tandem-router")["spec"]["egress"]
    assert {"ports": [{"protocol": "TCP", "port": 6380}]} in egress


def test_no_limit_is_told_where_none_is_set(defaults: Objects) -> None:
    assert not any("per-minute" in arg or "trusted" in arg for arg in args(defaults))
