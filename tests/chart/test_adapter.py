"""The external metrics adapter, for clusters that have none."""

import base64

import pytest

from tests.chart.rendering import Chart, Objects


@pytest.fixture(scope="module")
def adapter(chart: Chart) -> Objects:
    return chart.render({"metricsAdapter": {"enabled": True}})


def test_it_is_off_unless_asked_for(defaults: Objects) -> None:
    assert not any("adapter" in name or name.startswith("APIService") for name in defaults.names)


def test_the_api_leads_to_its_service_and_trusts_its_authority(adapter: Objects) -> None:
    spec = adapter.one("APIService", "v1beta1.external.metrics.k8s.io")["spec"]
    assert spec["service"] == {"name": "tandem-adapter", "namespace": "tandem-system", "port": 443}
    assert "insecureSkipTLSVerify" not in spec
    secret = adapter.one("Secret", "tandem-adapter-tls")
    assert secret["type"] == "kubernetes.io/tls"
    assert spec["caBundle"] == secret["data"]["ca.crt"]


def test_its_certificate_is_for_the_services_name(adapter: Objects) -> None:
    from cryptography import x509

    data = adapter.one("Secret", "tandem-adapter-tls")["data"]
    authority, pair = (x509.load_pem_x509_certificate(base64.b64decode(data[key])) for key in ("ca.crt", "tls.crt"))
    names = pair.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    assert names == ["tandem-adapter.tandem-system.svc"]
    pair.verify_directly_issued_by(authority)


def test_it_runs_from_the_operators_image_with_the_operators_settings(adapter: Objects) -> None:
    container = adapter.container("tandem-adapter")
    assert container["image"] == adapter.container("tandem-operator")["image"]
    assert container["command"] == ["python", "-m", "tandem_operator.adapter"]
    assert container["args"] == ["--settings", "/etc/tandem/settings.yaml", "--tls", "/etc/tandem-adapter-tls"]


def test_a_certificate_of_ones_own_has_to_be_there_with_its_authority(chart: Chart) -> None:
    says = chart.refusal({"metricsAdapter": {"enabled": True, "existingSecret": "mine"}})
    assert "the Secret mine has no ca.crt in namespace tandem-system" in says
