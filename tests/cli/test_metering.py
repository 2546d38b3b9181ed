"""What people see of bytes that move."""

import os
import pty
import sys

import pytest
from tandem_cli.metering import metered

from tests.cli.terminal import read_until


def test_a_terminal_shows_a_bar_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")  # Else it is as wide as the terminal of whoever runs the tests.
    reader, terminal = pty.openpty()
    with os.fdopen(reader, "rb", buffering=0) as shown, os.fdopen(terminal, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        with metered() as meter:
            meter.begin("model.safetensors", 2_000)
            meter.at(500)
        stderr.flush()
        read_until(shown, b"0.5/2.0 kB")
        monkeypatch.undo()


def test_a_log_has_a_line_for_each_file_and_for_each_quarter_of_a_long_one(capsys: pytest.CaptureFixture[str]) -> None:
    with metered() as meter:
        meter.begin("config.json", 600)
        meter.at(600)
        meter.begin("model.safetensors", 400_000_000)
        for megabyte in range(0, 401, 16):
            meter.at(megabyte * 1_000_000)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" ")[0].rstrip(":") for line in lines] == ["config.json", *["model.safetensors"] * 4]
    assert lines[-1].endswith("304.0 MB of 400.0 MB")
