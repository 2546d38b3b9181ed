"""Which images run."""

import yaml

from tests.chart.rendering import CHART, Chart, Objects

APP_VERSION = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
DIGEST = "sha256:" + "0" * 64


def _images(rendered: Objects) -> dict[str, str]:
    return {name: pod["spec"]["containers"][0]["image"] for name, pod in rendered.pods.items()}


def test_images_are_of_the_charts_own_release(defaults: Objects) -> None:
    assert _images(defaults) == {
        "Deployment/tandem-operator": f"ghcr.io/tandem-serving/tandem-operator:{APP_VERSION}",
        "Deployment/tandem-router": f"ghcr.io/tandem-serving/tandem-router:{APP_VERSION}",
        "Job/tandem-test": f"ghcr.io/tandem-serving/tandem-router:{APP_VERSION}",
    }
    assert defaults.settings["images"] == {
        "vllm": f"ghcr.io/tandem-serving/tandem-worker-vllm:{APP_VERSION}",
        "virtual": f"ghcr.io/tandem-serving/tandem-worker-virtual:{APP_VERSION}",
        "pullPolicy": "IfNotPresent",
    }


def test_the_chart_is_of_the_packages_version() -> None:
    import tomllib

    project = tomllib.loads((CHART.parents[1] / "pyproject.toml").read_text())
    assert project["project"]["version"] == APP_VERSION


def test_registry_and_tag_hold_for_all_images(chart: Chart) -> None:
    rendered = chart.render({"image": {"registry": "mirror.example/llm/", "tag": "1.2.3"}})
    for image in (*_images(rendered).values(), rendered.settings["images"]["vllm"]):
        assert image.startswith("mirror.example/llm/tandem-")
        assert image.endswith(":1.2.3")


def test_an_image_of_its_own_goes_before_the_common_tag_and_a_digest_before_both(chart: Chart) -> None:
    rendered = chart.render(
        {
            "image": {"tag": "1.2.3"},
            "router": {"image": {"tag": "4.5.6"}},
            "worker": {"images": {"vllm": {"tag": "7", "digest": DIGEST}}},
        }
    )
    assert _images(rendered)["Deployment/tandem-router"].endswith("tandem-router:4.5.6")
    assert rendered.settings["images"]["vllm"] == f"ghcr.io/tandem-serving/tandem-worker-vllm@{DIGEST}"


def test_the_pull_policy_is_everyones(chart: Chart) -> None:
    rendered = chart.render({"image": {"pullPolicy": "Always"}})
    assert {p["spec"]["containers"][0]["imagePullPolicy"] for p in rendered.pods.values()} == {"Always"}
    assert rendered.settings["images"]["pullPolicy"] == "Always"
