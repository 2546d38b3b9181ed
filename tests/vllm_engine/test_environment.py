"""What vLLM finds in its environment: a folder for sockets that a path to one fits into."""

import os
import tempfile
from pathlib import Path

import pytest
from tandem_engine.vllm.environment import LONGEST_FOLDER, SOCKETS, prepare, sockets_folder


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


def test_engines_on_loopback_bind_no_port_that_a_connection_may_get() -> None:
    environ: dict[str, str] = {}
    prepare(1, "127.0.0.1", environ)
    first_of_connections = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert 1024 <= int(environ["VLLM_PORT"]) < first_of_connections - 10


@pytest.mark.parametrize(("host", "given", "port"), [("127.0.0.1", "7", "7"), ("10.0.0.1", None, None)])
def test_a_port_of_ones_own_stays_and_a_pod_has_all_ports(host: str, given: str | None, port: str | None) -> None:
    environ = {} if given is None else {"VLLM_PORT": given}
    prepare(1, host, environ)
    assert environ.get("VLLM_PORT") == port
