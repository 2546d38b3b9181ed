"""What commands print and how they fail, without a router and without a platform."""

import json
import re
import socket
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from tandem_cli.main import COMMANDS, main

from tests.loopback import free_port

GOOD = """
apiVersion: tandem.dev/v1alpha1
kind: InferenceService
metadata: {name: smollm2}
spec:
  versions: [{name: v1, source: bundled://smollm2-135m}]
  prefill: {replicas: 1}
  decode: {replicas: 2}
"""
BAD = GOOD.replace("replicas: 2", "replicas: two")


def call(*args: str | Path, **env: str) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args], env=env, prog_name="tandem")


def manifest(folder: Path, text: str, name: str = "m.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_help_lists_every_command_without_loading_any() -> None:
    result = call("--help")
    assert result.exit_code == 0
    assert all(re.search(rf"^  {name} ", result.output, re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_commands_help_has_an_example(name: str) -> None:
    result = call(name, "--help")
    assert result.exit_code == 0
    assert "Example" in result.output
    assert f"tandem {name}" in result.output


def test_the_version_is_the_packages() -> None:
    assert re.fullmatch(r"tandem \d+\.\d+\.\d+\S*\n", call("--version").output)


def test_an_unknown_command_is_a_usage_error() -> None:
    assert call("serve").exit_code == 2


def test_a_command_that_is_misspelt_is_guessed() -> None:
    result = call("stauts")
    assert (result.exit_code, "Did you mean 'status'?" in result.output) == (2, True)


def test_validate_says_what_is_there(tmp_path: Path) -> None:
    result = call("validate", "-f", manifest(tmp_path, GOOD))
    assert result.output == "default/smollm2: model smollm2, versions v1, prefill 1, decode 2: ok\n"


def test_validate_says_what_is_wrong_and_where_in_every_file(tmp_path: Path) -> None:
    bad, worse = manifest(tmp_path, BAD, "bad.yaml"), manifest(tmp_path, "a: [", "worse.yaml")
    result = call("validate", "-f", bad, "-f", worse)
    assert result.exit_code == 1
    assert f"{bad}:8:22: spec.decode.replicas" in result.output
    assert f"{worse}:" in result.output
    assert "Traceback" not in result.output


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    result = call("plan", "-f", tmp_path / "none.yaml")
    assert (result.exit_code, "none.yaml: No such file or directory" in result.output) == (1, True)


def test_a_manifest_may_come_by_standard_input() -> None:
    result = CliRunner().invoke(main, ["validate", "-f", "-"], input=GOOD)
    assert result.output == "default/smollm2: model smollm2, versions v1, prefill 1, decode 2: ok\n"
    result = CliRunner().invoke(main, ["validate", "-f", "-"], input=BAD)
    assert "standard input:8:22: spec.decode.replicas" in result.output


def test_two_services_of_one_model_name_are_refused(tmp_path: Path) -> None:
    other = GOOD.replace("{name: smollm2}", "{name: other}").replace("spec:", "spec:\n  model: smollm2")
    result = call("validate", "-f", manifest(tmp_path, GOOD), "-f", manifest(tmp_path, other, "o.yaml"))
    assert result.exit_code == 1
    assert "both serve the model 'smollm2'" in result.output


def test_the_same_service_twice_is_refused(tmp_path: Path) -> None:
    file = manifest(tmp_path, GOOD)
    result = call("up", "-f", file, "-f", file, "--engine", "virtual")
    assert (result.exit_code, "default/smollm2 is there twice" in result.output) == (1, True)


@pytest.mark.parametrize("output", ["yaml", "json"])
def test_plan_prints_the_pod_template_of_each_role(tmp_path: Path, output: str) -> None:
    result = call("plan", "-f", manifest(tmp_path, GOOD), "-o", output)
    objects = json.loads(result.output) if output == "json" else list(yaml.safe_load_all(result.output))
    assert [found["kind"] for found in objects] == ["ConfigMap", "PodTemplate"] * 2
    assert objects[3]["metadata"]["annotations"] == {"tandem.dev/replicas": "2"}
    worker = objects[3]["template"]["spec"]["containers"][0]
    assert worker["command"] == ["python", "-m", "tandem_decode"]


def test_plan_of_a_rehearsal_fetches_no_model(tmp_path: Path) -> None:
    file = manifest(tmp_path, GOOD)
    assert "initContainers" in call("plan", "-f", file).output
    assert "initContainers" not in call("plan", "-f", file, "--engine", "virtual").output


def test_crd_prints_the_resource_as_a_cluster_takes_it() -> None:
    crd = yaml.safe_load(call("crd").output)
    assert (crd["kind"], crd["metadata"]["name"]) == ("CustomResourceDefinition", "inferenceservices.tandem.dev")
    assert json.loads(call("crd", "-o", "json").output) == crd


@pytest.mark.parametrize("command", [("chat", "hi"), ("models",), ("status",)])
def test_without_a_router_a_command_says_how_to_start_one(command: tuple[str, ...]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    result = call(*command, TANDEM_URL=url)
    assert result.exit_code == 1
    assert result.output == (
        f"Error: no router at {url}\nWhat to do: start one with `tandem up`, or say where yours is: --url, TANDEM_URL\n"
    )


@pytest.mark.parametrize("url", ["not a url", "ftp://127.0.0.1", "http://"])
def test_a_url_that_is_none_is_said(url: str) -> None:
    result = call("models", "--url", url)
    assert (result.exit_code, "is no URL of a router" in result.output) == (1, True)


def test_up_without_vllm_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tandem_cli.planning.find_spec", lambda name: None)
    result = call("up", "--port", "0")
    assert result.exit_code == 1
    assert "vLLM is not installed" in result.output
    assert "tandem up --engine virtual" in result.output


@pytest.mark.parametrize(
    ("command", "extras"), [(("up", "--engine", "virtual", "--port", "0"), "router,worker"), (("mock",), "router")]
)
def test_without_its_extras_a_command_says_how_to_get_them(
    command: tuple[str, ...], extras: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tandem_cli.extras.find_spec", lambda name: None)
    result = call(*command)
    assert result.exit_code == 1
    assert result.output == (
        f"Error: tandem-serving[{extras}] is not installed in this Python environment\n"
        f"What to do: install it: pip install 'tandem-serving[{extras}]'\n"
    )


def test_up_says_what_is_wrong_with_a_manifest_and_nothing_else(tmp_path: Path) -> None:
    result = call("up", "-f", manifest(tmp_path, BAD), "--engine", "virtual")
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")


def test_up_says_that_a_port_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = call("up", "--engine", "virtual", "--port", str(taken.getsockname()[1]))
    assert result.exit_code == 1
    assert "Address already in use" in result.output
    assert "--port" in result.output


def test_up_says_that_an_address_is_not_this_machines() -> None:
    result = call("up", "--engine", "virtual", "--host", "192.0.2.1", "--allow-no-auth")  # of no machine: RFC 5737
    assert result.exit_code == 1
    assert "can't listen at 192.0.2.1:8080" in result.output
    assert "--host" in result.output


def test_up_says_that_its_state_folder_can_t_be_made() -> None:
    result = call("up", "--engine", "virtual", "--port", "0", "--state-dir", "/proc/none")
    assert result.exit_code == 1
    assert "the folder /proc/none/logs can't be made: No such file or directory" in result.output
    assert "--state-dir" in result.output


@pytest.mark.parametrize("gpus", ["0,0", "a,,b", "-1"])
def test_gpus_that_make_no_sense_are_a_usage_error(gpus: str) -> None:
    result = call("up", "--engine", "virtual", f"--gpus={gpus}")
    assert (result.exit_code, "--gpus" in result.output) == (2, True)
