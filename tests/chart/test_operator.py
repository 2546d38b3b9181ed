"""The operator's Deployment and settings."""

from tests.chart.rendering import Chart, Objects
from tests.chart.values import EVERYTHING


def test_there_is_never_a_second_operator(defaults: Objects) -> None:
    spec = defaults.one("Deployment", "tandem-operator")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_it_reads_its_settings_from_the_mounted_file(defaults: Objects) -> None:
    container = defaults.container("tandem-operator")
    assert container["command"] == ["python", "-m", "tandem_operator"]
    assert container["args"] == ["--settings", "/etc/tandem/settings.yaml"]
    assert {"name": "settings", "mountPath": "/etc/tandem", "readOnly": True} in container["volumeMounts"]


def test_changed_settings_restart_it_and_unchanged_ones_do_not(chart: Chart, defaults: Objects) -> None:
    def checksum(rendered: Objects) -> str:
        annotations = rendered.one("Deployment", "tandem-operator")["spec"]["template"]["metadata"]["annotations"]
        found: str = annotations["checksum/settings"]
        return found

    assert checksum(chart.render({"router": {"replicas": 5}})) == checksum(defaults)
    assert checksum(chart.render({"rehearse": True})) != checksum(defaults)


def test_the_settings_say_where_the_routers_are(defaults: Objects) -> None:
    router = defaults.settings["router"]
    assert router["namespace"] == "tandem-system"
    assert router["url"] == "http://tandem-router.tandem-system.svc"
    labels = defaults.one("Deployment", "tandem-router")["spec"]["template"]["metadata"]["labels"]
    assert router["selector"].items() <= labels.items()
    (port,) = defaults.container("tandem-router")["ports"]
    assert router["port"] == port["containerPort"]


def test_the_url_names_a_port_that_is_not_https_own(chart: Chart) -> None:
    assert chart.render({"router": {"service": {"port": 8000}}}).settings["router"]["url"].endswith(".svc:8000")


def test_a_rehearsal_is_one_setting(chart: Chart, defaults: Objects) -> None:
    rehearsal = chart.render({"rehearse": True}).settings
    assert rehearsal["rehearse"] is True
    assert rehearsal == defaults.settings | {"rehearse": True}


def test_what_workers_get_stands_in_the_settings(chart: Chart) -> None:
    settings = chart.render(EVERYTHING).settings
    assert settings["tlsSecret"] == "tandem-tls"
    assert settings["workerEnv"] == {
        "HF_ENDPOINT": "https://hub.example",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317",
    }
    assert settings["imagePullSecrets"] == [{"name": "acme"}]


def test_a_workers_own_variable_goes_before_the_common_one(chart: Chart) -> None:
    own = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://other:4317"}
    assert chart.render(EVERYTHING | {"worker": {"env": own}}).settings["workerEnv"] == own


def test_without_options_nothing_is_said_of_them(defaults: Objects) -> None:
    settings = defaults.settings
    assert settings["tlsSecret"] is None
    assert settings["workerEnv"] == {}
    assert settings["namespaces"] == []


def test_where_it_runs_can_be_said(chart: Chart) -> None:
    pod = chart.render(EVERYTHING).one("Deployment", "tandem-operator")["spec"]["template"]
    assert pod["spec"]["affinity"] == {"nodeAffinity": {}}
    assert pod["metadata"]["annotations"]["note"] == "y"
    assert {"name": "C", "value": "d"} in pod["spec"]["containers"][0]["env"]
