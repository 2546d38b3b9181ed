"""`tandem up` and the commands that speak to it, on virtual engines, end to end."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import openai
import psutil
import pytest

from tests.cli.command import PROGRAM, Up, environment, tandem, tandem_up

TWO_MODELS = """
apiVersion: tandem.dev/v1alpha1
kind: InferenceService
metadata: {name: alpha}
spec:
  versions:
    - {name: v1, weight: 90, engine: {type: virtual}}
    - {name: v2, weight: 10, engine: {type: virtual}}
  prefill: {replicas: 1, resources: {limits: {nvidia.com/gpu: 1}}}
  decode: {replicas: 2, resources: {limits: {nvidia.com/gpu: 2}}}
---
apiVersion: tandem.dev/v1alpha1
kind: InferenceService
metadata: {name: beta}
spec:
  model: beta-model
  versions: [{name: v1, engine: {type: virtual}}]
  decode: {replicas: 1}
"""
SLOW = """
apiVersion: tandem.dev/v1alpha1
kind: InferenceService
metadata: {name: slow}
spec:
  versions: [{name: v1, engine: {type: virtual, virtual: {decodeStepTime: %s}}}]
  prefill: {replicas: 1}
  decode: {replicas: 1}
"""
_SECONDS = 120


def manifest(folder: Path, text: str) -> Path:
    file = folder / "manifest.yaml"
    file.write_text(text)
    return file


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def processes_in(folder: Path) -> list[psutil.Process]:
    """Those that have the folder's path in their command line: workers, keepers, janitors."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(folder) in part for part in process.info["cmdline"] or ())
    ]


def workers(up: Up, *roles: str) -> list[psutil.Process]:
    """Its workers' own processes."""
    found = []
    for one in psutil.Process(up.process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if one.cmdline()[1:3] in [["-m", f"tandem_{role}"] for role in roles]:
                found.append(one)
    return found


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("up")
    with tandem_up(folder, "-f", manifest(folder, TWO_MODELS), "--gpus", "0,1,2,3,4,5,6,7,8,GPU-9") as running:
        yield running


def test_the_table_has_every_version_with_its_workers(up: Up) -> None:
    assert up.table.splitlines() == [
        f"tandem  router  {up.url}",
        "        alpha   v1 90 %  prefill 1/1  decode 2/2   kv grpc",
        "        alpha   v2 10 %  prefill 1/1  decode 2/2   kv grpc",
        "        beta    v1       decode 1/1                aggregated",
    ]


def test_every_worker_sees_the_gpus_that_it_was_dealt_and_no_others(up: Up) -> None:
    environs = [worker.environ() for worker in workers(up, "prefill", "decode")]
    assert {environ["POD_NAME"]: environ["CUDA_VISIBLE_DEVICES"] for environ in environs} == {
        "alpha-v1-prefill-0": "0",
        "alpha-v1-decode-0": "1,2",
        "alpha-v1-decode-1": "3,4",
        "alpha-v2-prefill-0": "5",
        "alpha-v2-decode-0": "6,7",
        "alpha-v2-decode-1": "8,GPU-9",
        "beta-v1-decode-0": "",
    }


def test_models_lists_the_names_that_clients_use(up: Up) -> None:
    assert tandem("models", "--url", up.url).stdout.split() == ["alpha", "beta-model"]
    listed = json.loads(tandem("models", "-o", "json", TANDEM_URL=up.url).stdout)
    assert [model["id"] for model in listed["data"]] == ["alpha", "beta-model"]


def test_the_base_url_of_openais_clients_is_taken_too(up: Up) -> None:
    assert tandem("models", "--url", f"{up.url}/v1").stdout.split() == ["alpha", "beta-model"]
    assert tandem("status", "--url", f"{up.url}/v1/").stdout.startswith("SERVICE")


def test_chat_prints_the_answer_alone_and_its_account_beside_it(up: Up) -> None:
    result = tandem("chat", "Why?", "--max-tokens", "7", "--seed", "1", TANDEM_URL=up.url)
    assert (result.returncode, len(result.stdout.split())) == (0, 7)
    assert " · KV " in result.stderr
    assert " over grpc from prefill-0 in " in result.stderr
    assert result.stderr.rstrip().endswith("· 7 tokens")


def test_chat_of_a_model_without_prefill_says_that_nothing_moved(up: Up) -> None:
    result = tandem("chat", "Why?", "--model", "beta-model", "--max-tokens", "3", TANDEM_URL=up.url)
    assert result.returncode == 0
    assert "prompt run whole on decode" in result.stderr


def test_chat_reads_a_question_from_standard_input(up: Up) -> None:
    asked = tandem("chat", "-", "--seed", "1", stdin="Why?", TANDEM_URL=up.url)
    assert asked.stdout == tandem("chat", "Why?", "--seed", "1", TANDEM_URL=up.url).stdout


def test_chat_prints_the_whole_response_for_scripts(up: Up) -> None:
    args = ("--system", "Be brief.", "--max-tokens", "5", "--temperature", "0", "-o", "json")
    body = json.loads(tandem("chat", "Why?", *args, TANDEM_URL=up.url).stdout)
    assert body["object"] == "chat.completion"
    assert body["usage"]["completion_tokens"] == 5


def test_chat_with_an_unknown_model_says_how_to_find_others(up: Up) -> None:
    result = tandem("chat", "Why?", "--model", "gpt-9", TANDEM_URL=up.url)
    assert result.returncode == 1
    assert "gpt-9" in result.stderr
    assert "What to do: `tandem models` lists what is served" in result.stderr


def test_status_has_a_row_for_each_version(up: Up) -> None:
    def shown() -> list[list[str]]:
        lines = tandem("status", TANDEM_URL=up.url).stdout.splitlines()
        assert lines[0].split("  ")[0] == "SERVICE"
        return [line.split()[:7] for line in lines[1:]]

    expected = [
        ["alpha", "v1", "90", "1/1", "2/2", "0", "0"],
        ["alpha", "v2", "10", "1/1", "2/2", "0", "0"],
        ["beta", "v1", "100", "-", "1/1", "0", "0"],
    ]
    eventually(lambda: shown() == expected)  # a worker says a moment later that a request has ended


def test_status_has_a_row_for_each_worker(up: Up) -> None:
    lines = tandem("status", "--workers", TANDEM_URL=up.url).stdout.splitlines()
    assert lines[0].split()[:5] == ["WORKER", "ROLE", "STATE", "REVISION", "ADDRESS"]
    names = [line.split()[0] for line in lines[1:]]
    assert sorted(names) == sorted(
        [f"alpha-{version}-{worker}" for version in ("v1", "v2") for worker in ("prefill-0", "decode-0", "decode-1")]
        + ["beta-v1-decode-0"]
    )
    assert {line.split()[2] for line in lines[1:]} == {"ready"}


def test_status_for_scripts_is_the_routers_own(up: Up) -> None:
    status = json.loads(tandem("status", "-o", "json", TANDEM_URL=up.url).stdout)
    assert [service["name"] for service in status["services"]] == ["alpha", "beta"]


def test_the_openai_client_is_served(up: Up) -> None:
    client = openai.OpenAI(base_url=f"{up.url}/v1", api_key="local")
    messages = [{"role": "user", "content": "Hi"}]
    answer = client.chat.completions.create(model="alpha", messages=messages, max_tokens=4)  # type: ignore[call-overload]
    assert answer.usage.completion_tokens == 4


def test_a_registry_runs_beside_the_workers_and_is_reached_by_the_router(tmp_path: Path) -> None:
    """What is registered stays in the state folder; the platform's end takes the process with it."""
    state = tmp_path / "state"
    with tandem_up(tmp_path, "--engine", "virtual", "--state-dir", state) as up:
        # Nobody waited for it to serve.
        eventually(lambda: tandem("registry", "list", "--url", up.url).returncode == 0)
        made = tandem("registry", "register", "llama", "v1", "--source", "hf://org/llama@main", "--url", up.url)
        assert made.returncode == 0, made.stderr
        assert up.interrupt() == 0
    eventually(lambda: not processes_in(state))
    with tandem_up(tmp_path, "--engine", "virtual", "--state-dir", state) as up:
        eventually(lambda: "llama" in tandem("registry", "list", "--url", up.url).stdout)


def test_the_registry_asks_for_the_key_that_the_router_asks_for(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("tandem_a-key-for-router-and-registry")
    with tandem_up(tmp_path, "--engine", "virtual", "--api-key-file", key) as up:
        eventually(lambda: tandem("registry", "list", "--url", up.url, "--key-file", key).returncode == 0)
        assert "key" in tandem("registry", "list", "--url", up.url).stderr


def test_ctrl_c_ends_everything_with_exit_code_0(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    with tandem_up(tmp_path, "--engine", "virtual", TMPDIR=str(tmp_path / "tmp")) as up:
        assert processes_in(tmp_path / "tmp")
        assert up.interrupt() == 0
    assert not processes_in(tmp_path / "tmp")
    assert not list((tmp_path / "tmp").iterdir())


def test_ctrl_c_lets_open_streams_finish(tmp_path: Path) -> None:
    file = manifest(tmp_path, SLOW % "100ms")
    with tandem_up(tmp_path, "-f", file) as up:
        client = openai.OpenAI(base_url=f"{up.url}/v1", api_key="local", max_retries=0)
        stream = client.completions.create(model="slow", prompt="x", max_tokens=20, stream=True)
        pieces = [next(iter(stream))]
        up.process.send_signal(signal.SIGINT)
        pieces += list(stream)
        assert pieces[-1].choices[0].finish_reason == "length"
        assert up.process.wait(_SECONDS) == 0


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    file = manifest(tmp_path, SLOW % "5s")
    with tandem_up(tmp_path, "-f", file, "--grace", "1000") as up:
        client = openai.OpenAI(base_url=f"{up.url}/v1", api_key="local", max_retries=0)
        client.completions.create(model="slow", prompt="x", max_tokens=1000, stream=True)
        status = json.loads(tandem("status", "-o", "json", TANDEM_URL=up.url).stdout)
        assert any(worker["openCalls"] for worker in status["services"][0]["versions"][0]["workers"])
        up.process.send_signal(signal.SIGINT)
        eventually(lambda: "Ctrl-C again ends them now" in up.errors.read_text())
        with pytest.raises(subprocess.TimeoutExpired):
            up.process.wait(1)
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(_SECONDS) == 0


def test_nothing_stays_when_up_itself_is_killed(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    with tandem_up(tmp_path, "--engine", "virtual", TMPDIR=str(tmp_path / "tmp")) as up:
        up.process.kill()
        up.process.wait()
        eventually(lambda: not processes_in(tmp_path / "tmp"))
        eventually(lambda: not list((tmp_path / "tmp").iterdir()))


def test_a_worker_that_dies_is_started_again_and_said(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    with tandem_up(tmp_path, "--engine", "virtual", TMPDIR=str(tmp_path / "tmp")) as up:
        (victim,) = workers(up, "decode")
        victim.kill()
        eventually(
            lambda: "smollm2-v1-decode-0: exited with status 137, starting it again (1)" in up.errors.read_text()
        )

        def answers() -> bool:
            return tandem("chat", "Why?", "--max-tokens", "2", TANDEM_URL=up.url).returncode == 0

        eventually(answers)


def test_a_state_folder_keeps_logs_and_topology(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with tandem_up(tmp_path, "--engine", "virtual", "--state-dir", state) as up:
        assert up.interrupt() == 0
    assert (state / "topology.json").exists()
    logs = {str(log.relative_to(state / "logs")) for log in (state / "logs").rglob("*.log")}
    workers = {"smollm2-v1-prefill-0/worker.log", "smollm2-v1-decode-0/worker.log"}
    assert logs == {"router/router.log", "registry/registry.log", *workers}


def test_no_torch_is_needed_for_virtual_engines(tmp_path: Path) -> None:
    for name in ("torch", "vllm", "transformers"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not installed here')")
    with tandem_up(tmp_path, "--engine", "virtual", PYTHONPATH=str(tmp_path)) as up:
        assert tandem("chat", "Why?", "--max-tokens", "2", TANDEM_URL=up.url).returncode == 0


def test_a_model_that_can_t_be_fetched_ends_up_with_its_last_lines(tmp_path: Path) -> None:
    text = SLOW % "1s"
    text = text.replace("{type: virtual, virtual: {decodeStepTime: 1s}}", "{type: vllm}")
    text = text.replace("{name: v1,", f"{{name: v1, source: 'file://{tmp_path}/none',")
    result = tandem("up", "--port", "0", "-f", manifest(tmp_path, text), TMPDIR=str(tmp_path))
    assert result.returncode == 1
    assert "can't start: fetch-model exited with status 1" in result.stderr
    assert f"{tmp_path}/none" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("tandem-*"))


def test_ctrl_c_while_starting_ends_with_exit_code_0(tmp_path: Path) -> None:
    errors = tmp_path / "stderr"
    with errors.open("w") as stderr:
        command = [*PROGRAM, "up", "--engine", "virtual", "--port", "0"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, env=environment(TMPDIR=str(tmp_path))
        )
    eventually(lambda: "starting" in errors.read_text())
    process.send_signal(signal.SIGINT)
    assert process.wait(_SECONDS) == 0
    assert process.stdout is not None
    process.stdout.close()
    assert not list(tmp_path.glob("tandem-*"))


def test_the_demo_answers_tells_what_moved_and_leaves_nothing(tmp_path: Path) -> None:
    result = tandem("demo", "--engine", "virtual", "--port", "0", TMPDIR=str(tmp_path))
    assert result.returncode == 0, result.stderr
    table, service, question, *_, account = result.stdout.splitlines()
    assert table.startswith("tandem  router   http://127.0.0.1:")
    assert service == "        smollm2  v1  prefill 1/1  decode 1/1   kv grpc"
    assert question == "> What is the capital of France?"
    assert account.startswith("prefill ")
    assert " over grpc from prefill-0 in " in account
    assert not list(tmp_path.iterdir())


def test_a_demo_whose_kv_does_not_move_fails(tmp_path: Path) -> None:
    aggregated = manifest(tmp_path, TWO_MODELS.split("---")[1])
    program = (
        "import sys, tandem_cli.planning, pathlib; "
        f"tandem_cli.planning.DEMO = pathlib.Path({str(aggregated)!r}); "
        "from tandem_cli.main import main; main(['demo', '--engine', 'virtual', '--port', '0'])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=_SECONDS,
        check=False,
    )
    assert result.returncode == 1
    assert "KV did not move from the prefill to the decode worker: whole" in result.stderr
