"""The images' recipe passes a linter, and keeps to the rules of the house."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.docker.dockerfile import DOCKERFILE, ROOT, environment, installs, lineage, stages

STAGES = stages(DOCKERFILE.read_text())
TARGETS = ("router", "operator", "registry", "worker-virtual", "worker-vllm", "worker-vllm-cpu")


def hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("hadolint")
    return subprocess.run([program, "--failure-threshold", "style", path], capture_output=True, text=True, timeout=60)


def test_the_linter_has_nothing_to_say() -> None:
    answer = hadolint(DOCKERFILE)
    assert (answer.returncode, answer.stdout) == (0, "")


def test_the_linter_sees_what_is_wrong(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python\nRUN apt-get install curl\n")
    answer = hadolint(bad)
    assert answer.returncode != 0
    assert "DL3006" in answer.stdout


def test_nothing_in_the_recipe_silences_the_linter() -> None:
    assert "hadolint ignore" not in DOCKERFILE.read_text()


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_nobody_without_an_entrypoint_or_health_check(target: str) -> None:
    line = lineage(STAGES, target)
    assert line[-1].all("USER") == ["65532:65532"]
    assert not any(stage.all(word) for stage in line for word in ("ENTRYPOINT", "HEALTHCHECK"))


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_holds_no_build_tools_of_packages(target: str) -> None:
    line = lineage(STAGES, target)
    assert STAGES["build"] not in line
    assert line[-1].all("COPY") == [f"--from=build-{target} /opt/tandem /opt/tandem"]


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_is_labelled(target: str) -> None:
    labels = " ".join(rest for stage in lineage(STAGES, target) for rest in stage.all("LABEL"))
    for label in ("source", "licenses", "vendor", "title", "description"):
        assert f"org.opencontainers.image.{label}=" in labels
    assert f"title=tandem-{target} " in labels


def test_the_only_base_is_pinned() -> None:
    bases = {stage.parent for stage in STAGES.values()} - STAGES.keys()
    assert len(bases) == 1
    (base,) = bases
    assert base.partition(":")[2].count(".") == 2


@pytest.mark.parametrize("target", TARGETS)
def test_packages_are_locked(target: str) -> None:
    line = lineage(STAGES, f"build-{target}")
    lock = ROOT / environment(line)["UV_CONSTRAINT"]
    assert all("==" in package for package in lock.read_text().split("\n") if package)
    packages, ours = installs(line[-1])
    assert packages[-4:-1] == ["--requirement", "pyproject.toml", "--extra"]
    assert ours == ["--no-deps", "."]


def test_uv_is_the_makefiles() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (version,) = [line.split()[-1] for line in makefile.splitlines() if line.startswith("UV_VERSION")]
    assert f"uv=={version}" in DOCKERFILE.read_text()


def test_every_room_of_the_wheel_goes_into_the_build() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    rooms = {package.partition("/")[0] for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    sent = {line[1:].strip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert rooms <= sent
    assert "tests" not in sent


def test_the_chart_names_these_images() -> None:
    values = yaml.safe_load((ROOT / "charts" / "tandem" / "values.yaml").read_text())
    named = {
        values["router"]["image"]["repository"],
        values["operator"]["image"]["repository"],
        values["registry"]["image"]["repository"],
        *(image["repository"] for image in values["worker"]["images"].values()),
    }
    assert named <= {f"tandem-{target}" for target in TARGETS}
