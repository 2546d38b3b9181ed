"""The registry as a process: how it starts, and what a kill in the middle leaves."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import URL

from tests.loopback import free_port
from tests.registry.house import code

PROGRAM = [sys.executable, "-m", "tandem_registry"]
DATA = os.urandom(1 << 20) * 40


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM")}
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=120, check=False, env=kept)


class Process:
    """A registry, with a way to kill it."""

    def __init__(self, *arguments: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen([*PROGRAM, *arguments, "--port", str(port)], stderr=subprocess.PIPE, text=True)
        try:
            self._wait()
        except BaseException:
            self.kill()
            raise

    def _wait(self) -> None:
        pause = threading.Event()
        for _ in range(900):
            try:
                if httpx.get(f"{self.url}/readyz", timeout=60).status_code == 200:
                    return
            except httpx.TransportError:
                assert self._process.poll() is None, self._process.communicate()[1]
            pause.wait(0.1)
        raise AssertionError("the registry never got ready")

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=60)

    def end(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=60)
        return self._process.returncode


Start = Callable[[], Process]


@pytest.fixture
def start(database: URL, tmp_path: Path) -> Iterator[Start]:
    """Starts a registry, each time on the same database and storage."""
    started: list[Process] = []
    text = database.render_as_string(hide_password=False)

    def begin() -> Process:
        storage = f"file://{tmp_path}/storage"
        started.append(Process("--database", text, "--storage", storage, "--allow-no-auth"))
        return started[-1]

    yield begin
    for process in started:
        process.kill()


@contextmanager
def half_an_upload(process: Process, id: str, offset: int) -> Iterator[None]:
    """Sends half of what is left, and holds the line."""
    rest = DATA[offset:]
    host, port = process.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 60) as line:
        head = f"PATCH /admin/v1/repository/uploads/{id} HTTP/1.1\r\nHost: x\r\nUpload-Offset: {offset}\r\n"
        line.sendall(f"{head}Content-Length: {len(rest)}\r\n\r\n".encode() + rest[: len(rest) // 2])
        yield


def test_a_killed_registry_leaves_an_upload_that_goes_on(start: Start, tmp_path: Path) -> None:
    process = start()
    sha256 = hashlib.sha256(DATA).hexdigest()
    given = {"size": len(DATA), "sha256": sha256}
    id = httpx.post(f"{process.url}/admin/v1/repository/uploads", json=given, timeout=60).json()["id"]
    pause = threading.Event()
    with half_an_upload(process, id, 0):
        for _ in range(600):
            if httpx.get(f"{process.url}/admin/v1/repository/uploads/{id}", timeout=60).json()["offset"]:
                break
            pause.wait(0.1)
        process.kill()
    # What a write that was cut short would leave.
    (tmp_path / "storage" / "parts" / id / "000000016777216-torn").write_bytes(b"torn")

    process = start()
    begun = httpx.post(f"{process.url}/admin/v1/repository/uploads", json=given, timeout=60)
    assert (begun.status_code, begun.json()["id"]) == (200, id)
    offset = begun.json()["offset"]
    assert 0 < offset < len(DATA)
    assert code(httpx.get(f"{process.url}/admin/v1/repository/files/{sha256}", timeout=60)) == (404, "not_found")
    finished = httpx.patch(
        f"{process.url}/admin/v1/repository/uploads/{id}",
        content=DATA[offset:],
        headers={"Upload-Offset": str(offset)},
        timeout=120,
    )
    assert finished.json()["complete"], finished.text
    assert httpx.get(f"{process.url}/admin/v1/repository/files/{sha256}", timeout=120).content == DATA
    assert process.end() == 0


def test_a_registry_sweeps_when_it_starts(start: Start, tmp_path: Path) -> None:
    torn = tmp_path / "storage" / "parts" / "of-nobody" / "000-torn"
    torn.parent.mkdir(parents=True)
    torn.write_bytes(b"torn")
    process = start()
    pause = threading.Event()
    for _ in range(600):
        if not torn.exists():
            break
        pause.wait(0.1)
    assert not torn.exists()
    assert process.end() == 0


def test_what_was_answered_outlives_a_kill(start: Start) -> None:
    process = start()
    assert httpx.post(f"{process.url}/admin/v1/registry/models", json={"name": "llama"}, timeout=60).is_success
    process.kill()
    process = start()
    assert httpx.get(f"{process.url}/admin/v1/registry/models/llama", timeout=60).is_success


def test_without_keys_it_does_not_start(tmp_path: Path) -> None:
    result = run("--database", f"sqlite:///{tmp_path}/r.db", "--storage", f"file://{tmp_path}/s")
    assert result.returncode == 2
    assert "--allow-no-auth" in result.stderr


def test_on_a_database_that_is_not_migrated_it_does_not_start(tmp_path: Path) -> None:
    result = run("--database", f"sqlite:///{tmp_path}/r.db", "--storage", f"file://{tmp_path}/s", "--allow-no-auth")
    assert result.returncode == 1
    assert "tandem_registry migrate" in result.stderr


@pytest.mark.parametrize("storage", ["nowhere", "s4://bucket", "file://", "s3://key:hush@bucket"])
def test_a_storage_that_is_none_is_refused(tmp_path: Path, storage: str) -> None:
    database = f"sqlite:///{tmp_path}/r.db"
    result = run("--database", database, "--storage", storage, "--allow-no-auth", "--migrate")
    assert result.returncode == 2
    assert "must be file:///folder" in result.stderr
    assert "hush" not in result.stderr


def test_a_short_key_is_no_key(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("\n")
    common = ("--database", f"sqlite:///{tmp_path}/r.db", "--storage", f"file://{tmp_path}/s", "--migrate")
    result = run(*common, "--static-key-file", str(key))
    assert result.returncode == 2
    assert "at least 16 characters" in result.stderr


def test_migrate_makes_the_tables_and_ends(tmp_path: Path) -> None:
    for _ in range(2):
        result = run("migrate", "--database", f"sqlite:///{tmp_path}/r.db")
        assert (result.returncode, result.stderr) == (0, "")
