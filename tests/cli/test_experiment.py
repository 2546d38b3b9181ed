"""`tandem experiment` against a kubectl that answers from files."""

import json
import pty
import subprocess
from pathlib import Path
from signal import SIGINT

import pytest
from click.testing import CliRunner, Result
from tandem_api.experiments import ArmCounts, ExperimentReport, MetricReport, ShareReport
from tandem_api.inference_service.experiment import ExperimentSpec
from tandem_cli.main import main
from tandem_operator.planning.experiments.progress import Progress
from tandem_operator.planning.experiments.record import Record, dump, judge, state

from tests.cli.command import PROGRAM, environment
from tests.cli.terminal import read_until

SPEC = ExperimentSpec.model_validate(
    {"champion": "v1", "challenger": "v2", "weight": 10, "decide": [{"metric": "errorRate"}]}
)
COUNTS = ArmCounts(champion={0.0: 1782, 1.0: 18}, challenger={0.0: 160, 1.0: 40})
LEDGER = (
    ExperimentReport(
        id="e1",
        incarnation="router-0 ab",
        shares=(
            ShareReport(
                weight=10, champion=1800, challenger=200, metrics=(MetricReport(name="errorRate", single=COUNTS),)
            ),
        ),
    ),
)
ENDED = Progress("RolledBack", "HarmShown", 0, 1000.0, "errorRate")
RECORD = Record(
    id="e1",
    spec=SPEC,
    revisions=("a", "b"),
    ledger=LEDGER,
    state=state("e1", SPEC, ENDED, LEDGER, judge(SPEC, LEDGER), 1000.0, ""),
)


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder: `KIND.json` is what kubectl finds, `asked` what it was called with."""
    program = tmp_path / "kubectl"
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$*" >> {tmp_path}/asked\n'
        f'for kind in configmap inferenceservice; do case " $* " in *" get $kind "*) '
        f"exec cat {tmp_path}/$kind.json;; esac; done\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def put(folder: Path, record: Record) -> None:
    """Replaces what kubectl finds, which may be asked meanwhile."""
    experiment = record.state.model_dump(mode="json", by_alias=True)
    found = {
        "inferenceservice": {"status": {"experiment": experiment}},
        "configmap": {"data": {"record.json": dump(record)}},
    }
    for kind, content in found.items():
        beside = folder / f"{kind}.next"
        beside.write_text(json.dumps(content))
        beside.replace(folder / f"{kind}.json")


def call(*args: str) -> Result:
    return CliRunner().invoke(main, ["experiment", *args], prog_name="tandem")


def test_it_shows_what_is_known_and_what_decided(kubectl: Path) -> None:
    put(kubectl, RECORD)
    result = call("llama")
    assert result.exit_code == 0
    assert "RolledBack (HarmShown): v2 has 0 % of the traffic" in result.output
    assert "20.00 %" in result.output
    assert "v1 1,800 requests, v2 200" in result.output


def test_watched_it_goes_on_showing_what_is_known(kubectl: Path) -> None:
    running = Progress("Running", "Undecided", 0, 1000.0)
    known = state("e1", SPEC, running, LEDGER, judge(SPEC, LEDGER), 1000.0, "")
    put(kubectl, RECORD.model_copy(update={"state": known}))
    reader, terminal = pty.openpty()
    with open(reader, "rb", buffering=0) as shown, open(terminal, "wb") as output:
        watching = subprocess.Popen(
            [*PROGRAM, "experiment", "llama", "--watch"], stdout=output, stderr=output, env=environment(TERM="xterm")
        )
        try:
            read_until(shown, b"Running")
            put(kubectl, RECORD)
            read_until(shown, b"RolledBack")
        finally:
            watching.send_signal(SIGINT)
            watching.wait(60)


def test_a_replay_comes_to_the_same_decision(kubectl: Path) -> None:
    put(kubectl, RECORD)
    result = call("replay", "llama", "-n", "prod")
    assert result.exit_code == 0
    assert "The same decision" in result.output
    assert (kubectl / "asked").read_text() == "-n prod get configmap llama-experiment -o json\n"


def test_a_replay_of_changed_counts_fails(kubectl: Path) -> None:
    put(kubectl, RECORD.model_copy(update={"ledger": ()}))
    result = call("replay", "llama")
    assert result.exit_code != 0
    assert "the record says RolledBack (HarmShown), its counts give Running" in result.output


def test_commands_are_annotations(kubectl: Path) -> None:
    assert call("abort", "llama").exit_code == 0
    asked = (kubectl / "asked").read_text()
    assert asked.startswith("annotate --overwrite inferenceservice llama tandem.dev/experiment=abort 2")


def test_a_service_without_an_experiment_is_said(kubectl: Path) -> None:
    (kubectl / "inferenceservice.json").write_text("{}")
    result = call("llama")
    assert result.exit_code != 0
    assert "llama has no experiment" in result.output


def test_an_unknown_word_is_refused(kubectl: Path) -> None:
    assert "expected NAME" in call("win", "llama").output
