"""s3:// sources, against a local S3 server."""

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from tandem_api.inference_service.source import Source
from tandem_engine.sources import Work, fetch, resolve
from tandem_engine.sources.errors import AccessDenied, Changed, InvalidUri, NotFound, Unreachable
from tandem_engine.sources.naming import short_hash
from tandem_engine.sources.s3 import digests_of

from tests.loopback import free_port
from tests.sources.test_hub import contents

MD5 = "d41d8cd98f00b204e9800998ecf8427e"


@pytest.fixture(scope="module")
def s3_server() -> Iterator[int]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


class Line:
    """A TCP line to the server, on which answers with the weights can be cut."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts: list[int] = []
        """Bytes after which the next such answers end."""
        self.when_cut: Callable[[], None] = lambda: None
        self.received = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                wants_weights = threading.Event()
                for pump in (self._up, self._down):
                    self._threads.append(threading.Thread(target=pump, args=(client, server, wants_weights)))
                    self._threads[-1].start()

    def _up(self, client: socket.socket, server: socket.socket, wants_weights: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if data.startswith(b"GET /models/team/tiny/model.safetensors"):
                    wants_weights.set()
                server.sendall(data)
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def _down(self, client: socket.socket, server: socket.socket, wants_weights: threading.Event) -> None:
        left: int | None = None
        with suppress(OSError):
            while data := server.recv(65536):
                if left is None and wants_weights.is_set() and self.cuts:
                    left = self.cuts.pop(0)
                if left is not None:
                    data, left = data[:left], max(0, left - len(data))
                self.received += len(data)  # before a client can have it and look
                client.sendall(data)
                if left == 0:
                    self.when_cut()
                    break
        for end in (client, server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)


@pytest.fixture
def line(s3_server: int) -> Iterator[Line]:
    with closing(Line(s3_server)) as line:
        yield line


@pytest.fixture
def bucket(line: Line, s3_server: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket `models`, and an environment that leads to it through the line that can be cut."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key-of-a-user",
        "AWS_SECRET_ACCESS_KEY": "secret-of-a-user",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": line.url,
    }.items():
        monkeypatch.setenv(name, value)
    bucket = boto3.resource("s3", endpoint_url=f"http://127.0.0.1:{s3_server}").create_bucket(Bucket="models")
    yield bucket
    bucket.objects.delete()
    bucket.delete()


Put = Callable[[dict[str, bytes]], None]


@pytest.fixture
def put(bucket: Any) -> Put:
    def put(files: dict[str, bytes]) -> None:
        for name, data in files.items():
            bucket.put_object(Key=f"team/tiny/{name}", Body=data)

    return put


def test_the_objects_below_a_prefix_are_fetched(
    put: Put, bucket: Any, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    put(model_files)
    bucket.put_object(Key="team/tiny-2/config.json", Body=b"of a neighbour")
    bucket.put_object(Key="team/tiny/", Body=b"")
    fetch("s3://models/team/tiny/", tmp_path / "model", work)
    assert contents(tmp_path / "model") == model_files


def test_a_pinned_uri_stays_the_same_while_the_objects_do(
    put: Put, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    put(model_files)
    pinned = resolve("s3://models/team/tiny", work)
    assert pinned.startswith("s3://models/team/tiny?pin=")
    assert resolve("s3://models/team/tiny/", work) == pinned
    assert fetch(pinned, tmp_path / "model", work) == pinned


def test_a_pinned_uri_may_stand_in_a_manifest(put: Put, work: Work, model_files: dict[str, bytes]) -> None:
    put(model_files)
    assert Source.parse(resolve("s3://models/team/tiny", work)).path == "team/tiny"


def test_a_pinned_uri_does_not_fetch_other_objects(
    put: Put, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    put(model_files)
    pinned = resolve("s3://models/team/tiny", work)
    put({"generation_config.json": b"{}"})
    with pytest.raises(Changed, match="Resolve the URI again"):
        fetch(pinned, tmp_path / "model", work)
    assert not (tmp_path / "model").exists()


def test_an_object_that_is_replaced_during_the_download_is_noticed(
    put: Put, line: Line, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    put(model_files)
    line.cuts = [1_000_000]
    line.when_cut = lambda: put({"model.safetensors": model_files["model.safetensors"][::-1]})
    with pytest.raises(Changed, match=r"model\.safetensors was replaced"):
        fetch("s3://models/team/tiny", tmp_path / "model", work)
    assert not (tmp_path / "model").exists()


def test_a_cut_download_is_resumed(
    put: Put, line: Line, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    put(model_files)
    line.cuts = [1_500_000]
    fetch("s3://models/team/tiny", tmp_path / "model", work)
    assert contents(tmp_path / "model") == model_files
    assert line.cuts == []
    assert line.received < len(model_files["model.safetensors"]) * 1.5


@pytest.mark.parametrize("checksum", [{}, {"ChecksumAlgorithm": "SHA256"}, {"ChecksumAlgorithm": "CRC32"}])
def test_a_damaged_part_is_found_out_and_fetched_again(
    checksum: dict[str, str], bucket: Any, work: Work, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    for name, data in model_files.items():
        bucket.put_object(Key=f"team/tiny/{name}", Body=data, **checksum)
    pinned = resolve("s3://models/team/tiny", work)
    partial = tmp_path / f".model.{short_hash(pinned)}.partial"
    partial.mkdir()
    (partial / "model.safetensors.part").write_bytes(b"damaged")
    fetch(pinned, tmp_path / "model", work)
    assert contents(tmp_path / "model") == model_files


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ({}, {"md5": MD5}),
        ({"ServerSideEncryption": "AES256"}, {"md5": MD5}),
        ({"ServerSideEncryption": "aws:kms"}, {}),
        ({"SSECustomerAlgorithm": "AES256"}, {}),
        ({"ChecksumSHA256": "q80=", "ChecksumType": "FULL_OBJECT"}, {"md5": MD5, "sha256": "abcd"}),
        ({"ChecksumSHA256": "q80=-3", "ChecksumType": "COMPOSITE"}, {"md5": MD5}),
        ({"ChecksumCRC32": "q80=", "ChecksumType": "COMPOSITE"}, {"md5": MD5}),
    ],
)
def test_only_checksums_of_the_whole_plain_object_are_used(head: dict[str, str], expected: dict[str, str]) -> None:
    assert digests_of(head, f'"{MD5}"') == expected


def test_the_etag_of_an_upload_in_parts_is_no_checksum() -> None:
    assert digests_of({}, f'"{MD5}-3"') == {}


def test_a_second_fetch_of_a_pinned_source_asks_nobody(
    put: Put, work: Work, line: Line, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    put(model_files)
    pinned = fetch("s3://models/team/tiny", tmp_path / "model", work)
    before = line.received
    fetch(pinned, tmp_path / "model", work)
    assert line.received == before


def test_a_line_that_is_dead_is_given_up(
    bucket: Any, work: Work, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unreachable, match="4 times in a row"):
        resolve("s3://models/team/tiny", work)


def test_a_missing_bucket_is_named(bucket: Any, work: Work) -> None:
    with pytest.raises(NotFound, match="There is no bucket of s3://typo/team"):
        resolve("s3://typo/team", work)


def test_an_empty_prefix_is_named(bucket: Any, work: Work) -> None:
    with pytest.raises(NotFound, match="nothing below s3://models/team/typo"):
        resolve("s3://models/team/typo", work)


def test_missing_credentials_say_what_to_set(
    bucket: Any, work: Work, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(AccessDenied, match="Set AWS_ACCESS_KEY_ID"):
        resolve("s3://models/team/tiny", work)


def test_keys_in_a_uri_are_refused_and_not_repeated(work: Work) -> None:
    with pytest.raises(InvalidUri, match="s3://bucket/prefix") as caught:
        resolve("s3://AKIAKEY:hush@models/team", work)
    assert "hush" not in str(caught.value)
