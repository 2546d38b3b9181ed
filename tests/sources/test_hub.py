"""hf:// sources, against a local server of the Hub's protocol."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from tandem_api.inference_service.source import Source
from tandem_engine.sources import Progress, Work, fetch, resolve
from tandem_engine.sources.errors import (
    AccessDenied,
    Corrupt,
    InvalidUri,
    NoSpace,
    NotAModel,
    NotFound,
    SourceError,
    Unreachable,
    UnsafeName,
)

from tests.sources.conftest import MakeWork
from tests.sources.hub_server import SIGNATURE, HubServer

SECRET = "hf_a-token-of-a-user"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".tandem-source.json"
    }


def leftovers(folder: Path) -> list[str]:
    """What a fetch left beside its targets, but for locks."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(".") and path.suffix != ".lock")


def test_a_branch_is_resolved_to_its_commit(hub: HubServer, work: Work, model_files: dict[str, bytes]) -> None:
    commit = hub.push(model_files, "release/1.0")
    assert resolve("hf://org/model@release/1.0", work) == f"hf://org/model@{commit}"


def test_a_pinned_uri_may_stand_in_a_manifest(hub: HubServer, work: Work, model_files: dict[str, bytes]) -> None:
    commit = hub.push(model_files)
    assert Source.parse(resolve("hf://org/model", work)).revision == commit


def test_without_a_revision_main_is_taken(hub: HubServer, work: Work, model_files: dict[str, bytes]) -> None:
    commit = hub.push(model_files)
    assert resolve("hf://org/model", work) == f"hf://org/model@{commit}"


def test_a_fetched_folder_holds_the_files_of_the_commit(
    hub: HubServer, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.push(model_files)
    fetch("hf://org/model", tmp_path / "model", work)
    assert contents(tmp_path / "model") == model_files
    assert leftovers(tmp_path) == []


def test_the_manifest_says_what_was_fetched(
    hub: HubServer, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    commit = hub.push(model_files)
    fetch("hf://org/model@main", tmp_path / "model", work)
    manifest = json.loads((tmp_path / "model" / ".tandem-source.json").read_text())
    assert manifest["source"] == "hf://org/model@main"
    assert manifest["resolved"] == f"hf://org/model@{commit}"
    assert manifest["files"] == [
        {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in sorted(model_files.items())
    ]


def test_a_push_after_resolving_changes_nothing(
    hub: HubServer, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.push(model_files)
    pinned = resolve("hf://org/model", work)
    hub.push(model_files | {"generation_config.json": b'{"pushed": "later"}'})
    fetch(pinned, tmp_path / "model", work)
    assert contents(tmp_path / "model") == model_files


def test_a_moved_branch_replaces_the_folder(
    hub: HubServer, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.push(model_files)
    fetch("hf://org/model", tmp_path / "model", work)
    moved = model_files | {"generation_config.json": b"{}"}
    hub.push(moved)
    fetch("hf://org/model", tmp_path / "model", work)
    assert contents(tmp_path / "model") == moved
    assert leftovers(tmp_path) == []


def test_only_one_form_of_the_weights_is_fetched(
    hub: HubServer, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    others = (
        "pytorch_model.bin",
        "consolidated.safetensors",
        "model.gguf",
        "original/consolidated.00.pth",
        "onnx/model.onnx",
        "onnx/config.json",
        "checkpoint-500/model.safetensors",
        "README.md",
        ".gitattributes",
    )
    hub.push(model_files | dict.fromkeys(others, b"other") | {"1_Pooling/config.json": b"{}"})
    fetch("hf://org/model", tmp_path / "model", work)
    assert contents(tmp_path / "model") == model_files | {"1_Pooling/config.json": b"{}"}


def test_without_safetensors_the_pickled_weights_are_fetched(
    hub: HubServer, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    files = {name: data for name, data in model_files.items() if name != "model.safetensors"}
    hub.push(files | {"pytorch_model.bin": b"weights"})
    fetch("hf://org/model", tmp_path / "model", work)
    assert (tmp_path / "model" / "pytorch_model.bin").read_bytes() == b"weights"


def test_a_repository_without_loadable_weights_is_refused(hub: HubServer, work: Work, tmp_path: Path) -> None:
    hub.push({"config.json": b"{}", "model.Q4.gguf": b"GGUF"})
    with pytest.raises(NotAModel, match=r"only as \.gguf.*file:///"):
        fetch("hf://org/model", tmp_path / "model", work)


def test_a_second_fetch_of_a_pinned_source_asks_nobody(
    hub: HubServer, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    pinned = f"hf://org/model@{hub.push(model_files)}"
    fetch(pinned, tmp_path / "model", work)
    hub.asked.clear()
    fetch(pinned, tmp_path / "model", work)
    assert hub.asked == []


def test_a_cut_download_is_resumed_where_it_ended(
    hub: HubServer, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.push(model_files)
    hub.faults.cuts["model.safetensors"] = [1_000_000]
    fetch("hf://org/model", tmp_path / "model", work)
    assert contents(tmp_path / "model") == model_files
    assert [asked.range for asked in hub.bodies("model.safetensors")] == ["", "bytes=1000000-"]
    assert hub.served["model.safetensors"] == len(model_files["model.safetensors"])


def test_a_line_that_is_cut_often_still_gets_there(
    hub: HubServer, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.push(model_files)
    hub.faults.cuts["model.safetensors"] = [100_000] * 12  # three times as many as tries without progress
    fetch("hf://org/model", tmp_path / "model", work)
    assert contents(tmp_path / "model") == model_files


def test_a_line_that_brings_nothing_is_given_up(
    hub: HubServer, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.push(model_files)
    hub.faults.cuts["model.safetensors"] = [0] * 100
    with pytest.raises(Unreachable, match="4 times in a row"):
        fetch("hf://org/model", tmp_path / "model", work)
    assert len(hub.bodies("model.safetensors")) == 4
    assert not (tmp_path / "model").exists()


def test_a_server_that_ignores_ranges_sends_the_file_again(
    hub: HubServer, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.push(model_files)
    hub.faults.ignores_ranges = True
    hub.faults.cuts["model.safetensors"] = [700_000]
    fetch("hf://org/model", tmp_path / "model", work)
    assert contents(tmp_path / "model") == model_files
    assert len(hub.bodies("model.safetensors")) == 2


def test_errors_of_the_server_are_waited_out(
    hub: HubServer, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.push(model_files)
    hub.faults.statuses = {"": [503], "model.safetensors": [500, 502, 429], "config.json": [504]}
    fetch("hf://org/model", tmp_path / "model", work)
    assert contents(tmp_path / "model") == model_files


def test_a_missing_file_is_not_asked_for_twice(
    hub: HubServer, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.push(model_files)
    hub.faults.statuses["config.json"] = [404]
    with pytest.raises(NotFound, match=r"404.*config\.json"):
        fetch("hf://org/model", tmp_path / "model", work)
    assert len(hub.bodies("config.json")) == 1


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_bytes_with_a_wrong_checksum_never_become_a_model(
    name: str, hub: HubServer, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.push(model_files)
    hub.faults.flips[name] = 100
    with pytest.raises(Corrupt, match=f"{name} is not what its source lists"):
        fetch("hf://org/model", tmp_path / "model", work)
    assert not (tmp_path / "model").exists()


def test_one_wrong_answer_is_fetched_again(
    hub: HubServer, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.push(model_files)
    hub.faults.flips["model.safetensors"] = 1
    fetch("hf://org/model", tmp_path / "model", work)
    assert contents(tmp_path / "model") == model_files


def test_what_an_interrupted_fetch_left_is_checked_and_not_trusted(
    hub: HubServer, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.push(model_files)
    hub.faults.statuses["model.safetensors"] = [404]
    with pytest.raises(NotFound):
        fetch("hf://org/model", tmp_path / "model", work)
    (partial,) = tmp_path.glob(".model.*.partial")
    (partial / "config.json").write_bytes(b"X" * len(model_files["config.json"]))
    (partial / "model.safetensors.part").write_bytes(b"Y" * 1000)
    fetch("hf://org/model", tmp_path / "model", work)
    assert contents(tmp_path / "model") == model_files


def test_a_gated_repository_without_a_token_says_what_to_set(
    hub: HubServer, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.push(model_files)
    hub.token, hub.gated = SECRET, True
    with pytest.raises(AccessDenied, match=r"gated, and there is no token\. Set HF_TOKEN .*Secret"):
        fetch("hf://org/model", tmp_path / "model", work)


def test_a_token_that_is_not_let_in_is_not_shown(
    hub: HubServer, make_work: MakeWork, model_files: dict[str, bytes], tmp_path: Path, reports: list[Progress]
) -> None:
    hub.push(model_files)
    hub.token, hub.gated = SECRET, True
    with pytest.raises(AccessDenied, match="does not let this token in") as caught:
        fetch("hf://org/model", tmp_path / "model", make_work(HF_TOKEN="hf_wrong-one"))
    assert "hf_wrong-one" not in f"{caught.value!r} {caught.value.__cause__!r} {reports}"


def test_the_token_opens_a_gated_repository_and_stays_with_the_hub(
    hub: HubServer, make_work: MakeWork, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.push(model_files)
    hub.token, hub.gated = SECRET, True
    fetch("hf://org/model", tmp_path / "model", make_work(HF_TOKEN=f"{SECRET}\n"))  # as in a Secret made from a file
    assert contents(tmp_path / "model") == model_files
    assert {asked.authorization for asked in hub.asked if asked.at == "cdn"} == {""}
    assert {asked.authorization for asked in hub.asked if asked.at == "hub"} == {f"Bearer {SECRET}"}


def test_a_token_with_a_line_break_inside_is_refused_unseen(make_work: MakeWork, tmp_path: Path) -> None:
    with pytest.raises(AccessDenied) as caught:
        fetch("hf://org/model", tmp_path / "model", make_work(HF_TOKEN="hf_one\nhf_two"))
    assert "hf_" not in str(caught.value)


def test_a_private_repository_looks_like_a_missing_one(
    hub: HubServer, work: Work, model_files: dict[str, bytes]
) -> None:
    hub.push(model_files)
    hub.token = SECRET
    with pytest.raises(NotFound, match=r"is private, and there is no token.*HF_TOKEN"):
        resolve("hf://org/model", work)


def test_a_missing_repository_is_named(hub: HubServer, work: Work) -> None:
    with pytest.raises(NotFound, match=r"hf://org/typo is not on 127\.0\.0\.1"):
        resolve("hf://org/typo", work)


def test_a_missing_revision_is_named(hub: HubServer, work: Work, model_files: dict[str, bytes]) -> None:
    hub.push(model_files)
    with pytest.raises(NotFound, match="no branch, tag or commit 'v9'"):
        resolve("hf://org/model@v9", work)


def test_signed_addresses_are_not_shown(
    hub: HubServer, work: Work, model_files: dict[str, bytes], tmp_path: Path, reports: list[Progress]
) -> None:
    hub.push(model_files)
    hub.faults.cuts["model.safetensors"] = [0] * 100
    with pytest.raises(SourceError) as caught:
        fetch("hf://org/model", tmp_path / "model", work)
    assert SIGNATURE not in f"{caught.value!r} {reports}"


@pytest.mark.parametrize("name", ["../evil.json", "/etc/evil.json", "a/../../evil.json", ".tandem-source.json"])
def test_names_that_would_leave_the_folder_are_refused(
    name: str, hub: HubServer, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.push(model_files | {name: b"{}"})
    with pytest.raises(UnsafeName):
        fetch("hf://org/model", tmp_path / "model", work)
    assert not list(tmp_path.rglob("evil.json"))


def test_a_full_disk_is_noticed_before_anything_is_fetched(
    hub: HubServer, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.push(model_files)
    hub.sizes["model.safetensors"] = 10**18
    with pytest.raises(NoSpace, match=r"1,000,000,00\d\.\d GB"):
        fetch("hf://org/model", tmp_path / "model", work)
    assert hub.bodies("config.json") == []


def test_progress_ends_with_all_bytes(
    hub: HubServer, work: Work, model_files: dict[str, bytes], tmp_path: Path, reports: list[Progress]
) -> None:
    hub.push(model_files)
    hub.faults.cuts["model.safetensors"] = [50_000]
    hub.faults.flips["tokenizer.json"] = 1
    fetch("hf://org/model", tmp_path / "model", work)
    total = sum(map(len, model_files.values()))
    downloads = [report for report in reports if report.step == "download"]
    assert {report.total for report in downloads} == {total}
    assert downloads[-1].done == total == max(report.done for report in downloads)


@pytest.mark.parametrize("uri", ["hf://org", "hf://org/name@", "hf://org/name/more", "hf://../name", "hf://org/a b"])
def test_a_malformed_uri_is_refused(uri: str, work: Work) -> None:
    with pytest.raises(InvalidUri, match="hf://org/name"):
        resolve(uri, work)


def test_a_server_that_is_not_a_hub_is_named(make_work: MakeWork, hub: HubServer) -> None:
    hub.faults.statuses[""] = [200]
    with pytest.raises(SourceError, match="Check HF_ENDPOINT"):
        resolve("hf://org/model", make_work())


class Fetch:
    """The command, as an init container runs it."""

    def __init__(self, hub: HubServer, *arguments: str | Path, **environ: str) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TANDEM_", "AWS_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tandem_engine.sources", "fetch", "--source", "hf://org/model", *arguments],
            env=kept | {"HF_ENDPOINT": hub.endpoint, "KUBERNETES_SERVICE_HOST": "10.0.0.1"} | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


def test_the_command_prints_the_pinned_uri_and_reports_in_json(
    hub: HubServer, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    commit = hub.push(model_files)
    status, out, err = Fetch(hub, "--to", tmp_path / "model").end()
    assert (status, out) == (0, f"hf://org/model@{commit}\n")
    lines = [json.loads(line) for line in err.splitlines()]
    assert [lines[0]["step"], lines[-1]["step"]] == ["resolve", "done"]
    assert contents(tmp_path / "model") == model_files


def test_the_command_says_what_to_do_and_fails(hub: HubServer, model_files: dict[str, bytes], tmp_path: Path) -> None:
    hub.push(model_files)
    hub.token, hub.gated = SECRET, True
    status, out, err = Fetch(hub, "--to", tmp_path / "model", "--progress", "text", HF_TOKEN="hf_wrong").end()
    assert (status, out) == (1, "")
    assert "AccessDenied" in err
    assert "Set HF_TOKEN" in err
    assert "hf_wrong" not in err
    assert "Traceback" not in err


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_fetch_leaves_nothing_that_looks_complete_and_is_carried_on(
    by: signal.Signals, hub: HubServer, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.push(model_files)
    hub.faults.stall = threading.Event()
    killed = Fetch(hub, "--to", tmp_path / "model")
    assert hub.half_way.wait(60)
    killed.process.send_signal(by)
    if by == signal.SIGTERM:
        hub.faults.stall.set()
    assert killed.end()[0] in (-signal.SIGKILL, 143)
    assert not (tmp_path / "model").exists()
    hub.faults.stall.set()
    fetch("hf://org/model", tmp_path / "model", work)
    assert contents(tmp_path / "model") == model_files
    assert leftovers(tmp_path) == []


def test_two_processes_with_one_cache_fetch_once(
    hub: HubServer, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.push(model_files)
    stall = hub.faults.stall = threading.Event()
    first = Fetch(hub, "--to", tmp_path / "one", "--cache", tmp_path / "cache")
    assert hub.half_way.wait(60)

    def go_on_when_waiting(progress: Progress) -> None:
        if progress.step == "wait":
            stall.set()

    fetch("hf://org/model", tmp_path / "two", replace(work, report=go_on_when_waiting), cache=tmp_path / "cache")
    assert stall.is_set()  # The second did wait for the first.
    assert first.end()[0] == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == model_files
    assert (tmp_path / "one").readlink() == (tmp_path / "two").readlink()
    assert len(hub.bodies("model.safetensors")) == 1
