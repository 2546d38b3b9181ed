"""What vLLM finds in its environment: a folder for sockets that a path to one fits into."""

import os
import tempfile
from pathlib import Path

import pytest
from tandem_engine.vllm.environment import LONGEST_FOLDER, SOCKETS, sockets_folder


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder for temporary files with a name of over a hundred characters."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_long_tmpdir_is_not_used_for_sockets(temporary: Path) -> None:
    environ: dict[str, str] = {}
    with sockets_folder(environ):
        folder = Path(environ[SOCKETS])
        assert len(str(folder)) <= LONGEST_FOLDER
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "socket").touch()
    assert environ == {}
    assert not folder.exists()


def test_a_short_tmpdir_is_used_for_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        environ: dict[str, str] = {}
        with sockets_folder(environ):
            assert Path(environ[SOCKETS]).parent == Path(short)
        assert os.listdir(short) == []


def test_a_folder_that_a_person_named_is_used_as_it_is(tmp_path: Path) -> None:
    environ = {SOCKETS: str(tmp_path)}
    with sockets_folder(environ):
        assert environ == {SOCKETS: str(tmp_path)}
    assert environ == {SOCKETS: str(tmp_path)}
    assert tmp_path.exists()
