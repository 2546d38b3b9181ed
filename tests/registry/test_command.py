"""`tandem registry` and `tandem keys`, on a registry that listens."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tandem_cli.main import main

from tests.registry.house import House
from tests.sources.hub_server import HubServer, hub_server

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

Call = Callable[..., Result]


@pytest.fixture
def call(house: House, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("TANDEM_URL", house.url)
    monkeypatch.delenv("TANDEM_API_KEY", raising=False)
    return lambda *arguments: CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with hub_server() as server:
        yield server


def test_an_imported_model_is_registered_active_and_listed(call: Call, house: House, tiny_model: Path) -> None:
    result = call("registry", "import", tiny_model, "tiny", "v1", "--activate", "--reason", "first")
    assert (result.exit_code, result.stdout) == (0, "tiny/v1 is registered and active: registry://tiny/v1\n"), result
    artifact = house.get("repository/models/tiny/v1")
    assert {file["name"]: file["size"] for file in artifact["files"]} == {
        path.name: path.stat().st_size for path in tiny_model.iterdir()
    }
    table = call("registry", "list", "tiny").stdout.splitlines()
    assert re.match(r"VERSION +ACTIVE +ALIASES +FORMAT +CONTENT", table[0])
    assert re.match(r"v1 +yes +- +safetensors +artifact tiny/v1", table[1])


def test_files_that_are_there_are_not_sent_again(call: Call, house: House, tiny_model: Path) -> None:
    call("registry", "import", tiny_model, "tiny", "v1")
    before = sorted(house.storage.keys("parts"))
    assert call("registry", "import", tiny_model, "tiny", "v2").exit_code == 0
    assert sorted(house.storage.keys("parts")) == before


def test_an_import_goes_on_where_one_before_it_stopped(call: Call, house: House, tiny_model: Path) -> None:
    weights = (tiny_model / "model.safetensors").read_bytes()
    given = {"size": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}
    id = house.post("repository/uploads", **given)["id"]
    house.carry_on(id, 0, weights[:1_000_000])
    assert call("registry", "import", tiny_model, "tiny", "v1").exit_code == 0
    parts = [key for key in house.storage.keys("parts") if key.startswith(f"parts/{id}/")]
    assert [int(key.split("/")[2].split("-")[0]) for key in sorted(parts)] == [0, 1_000_000]


def test_a_source_is_fetched_on_the_way(call: Call, tiny_model: Path) -> None:
    result = call("registry", "import", tiny_model.as_uri(), "tiny", "v1", "-o", "json")
    assert json.loads(result.stdout)["labels"] == {"imported-from": tiny_model.as_uri()[:128]}, result


def test_a_commit_of_the_hub_is_imported(
    call: Call, house: House, hub: HubServer, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {path.name: path.read_bytes() for path in tiny_model.iterdir()}
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    result = call("registry", "import", f"hf://org/model@{hub.push(files)}", "tiny", "v1")
    assert result.exit_code == 0, result
    stored = {file["name"]: file["sha256"] for file in house.get("repository/models/tiny/v1")["files"]}
    assert stored == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def test_a_gguf_file_is_imported_as_it_is(call: Call, house: House, tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF and so on")
    assert call("registry", "import", tmp_path / "tiny.gguf", "tiny", "v1").exit_code == 0
    artifact = house.get("repository/models/tiny/v1")
    assert (artifact["format"], [file["name"] for file in artifact["files"]]) == ("gguf", ["tiny.gguf"])


def test_a_folder_without_weights_is_refused(call: Call, tmp_path: Path) -> None:
    result = call("registry", "import", tmp_path, "tiny", "v1")
    assert result.exit_code == 1
    assert "holds no weights" in result.stderr


def test_versions_go_back_and_forth(call: Call, house: House) -> None:
    for version in ("v1", "v2"):
        result = call(
            "registry", "register", "llama", version, "--source", f"hf://org/{version}", "--metric", "mmlu=0.5"
        )
        assert result.stdout == f"llama/{version} is registered\n"
        call("registry", "activate", "llama", version, "--reason", f"try {version}")
    assert call("registry", "rollback", "llama").stdout == "llama/v1 is active (before: v2)\n"
    history = call("registry", "history", "llama").stdout
    assert [line.split()[0] for line in history.splitlines()] == ["#", "3", "2", "1"]
    assert "try v2" in history
    shown = json.loads(call("registry", "show", "llama/v1", "-o", "json").stdout)
    assert (shown["active"], shown["metrics"]) == (True, {"mmlu": 0.5})


def test_what_must_stay_says_what_to_do_first(call: Call) -> None:
    call("registry", "register", "llama", "v1", "--source", "hf://org/x", "--activate")
    result = call("registry", "delete", "llama/v1")
    assert result.exit_code == 1
    assert "is active" in result.stderr
    assert "What to do: `tandem registry activate NAME VERSION`" in result.stderr


def test_an_alias_is_set_and_deleted(call: Call, house: House) -> None:
    call("registry", "register", "llama", "v1", "--source", "hf://org/x")
    assert "champion=v1" in call("registry", "alias", "llama", "champion", "v1").stdout
    assert call("registry", "alias", "llama", "champion", "--delete").exit_code == 0
    assert call("registry", "delete", "llama/v1").stdout == "llama/v1 is deleted\n"
    assert call("registry", "delete", "llama").stdout == "llama is deleted\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("registry", "register", "llama", "v1"),
        ("registry", "register", "llama", "v1", "--source", "nowhere"),
        ("registry", "register", "llama", "v1", "--source", "hf://a/b", "--metric", "x"),
        ("registry", "alias", "llama", "champion"),
        ("registry", "delete"),
        ("keys", "create", "a"),
        ("keys", "create", "a", "--scope", "inference", "--expires-in", "soon"),
        ("keys", "expire", "a"),
    ],
)
def test_arguments_that_mean_nothing_are_usage_errors(call: Call, arguments: tuple[str, ...]) -> None:
    assert call(*arguments).exit_code == 2


def test_a_key_is_issued_for_a_pipe_listed_and_ended(call: Call) -> None:
    issued = call("keys", "create", "team", "--scope", "inference", "--tokens-per-minute", "9000")
    assert re.fullmatch("tandem_[0-9a-f]{64}\n", issued.stdout)
    assert "can't be shown again" in issued.stderr
    assert call("keys", "rotate", "team").stdout != issued.stdout
    listed = call("keys", "list").stdout
    assert re.search(r"team +inference +valid +never +- +9,000", listed)
    assert issued.stdout.strip() not in listed
    assert call("keys", "revoke", "team").stdout == "team is revoked\n"
    assert "No keys" in call("keys", "list").stdout


def test_nobody_at_the_address_says_what_to_do(call: Call) -> None:
    result = call("registry", "list", "--url", "http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "--url, TANDEM_URL" in result.stderr
