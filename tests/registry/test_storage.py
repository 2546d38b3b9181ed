"""Storage in a folder and on a real S3 server: the same behaviour."""

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from tandem_registry.app import Surroundings
from tandem_registry.settings import Settings
from tandem_registry.storage import Storage, StorageFailed, open_storage
from tandem_registry.uploads import PART_BYTES

from tests.loopback import free_port
from tests.registry.house import Clock, code, listening


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a prefix in an empty bucket."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key-of-a-user",
        "AWS_SECRET_ACCESS_KEY": "secret-of-a-user",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3_server,
    }.items():
        monkeypatch.setenv(name, value)
    bucket = boto3.resource("s3").create_bucket(Bucket="artifacts")
    yield "s3://artifacts/of/tandem"
    bucket.objects.delete()
    bucket.delete()


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return f"file://{tmp_path}/storage"
    s3: str = request.getfixturevalue("s3")
    return s3


@pytest.fixture
def storage(url: str) -> Storage:
    return open_storage(url, os.environ)


def test_an_object_is_read_as_it_was_written(storage: Storage) -> None:
    data = os.urandom(3 << 20)
    storage.write("parts/a/0", data)
    assert b"".join(storage.read("parts/a/0", 0, len(data))) == data
    assert b"".join(storage.read("parts/a/0", 1_000_000, 2_500_000)) == data[1_000_000:2_500_000]


def test_all_objects_of_a_prefix_are_listed(storage: Storage) -> None:
    for key in ("parts/a/0", "parts/a/1", "parts/b/0", "other/c"):
        storage.write(key, b"x")
    assert sorted(storage.keys("parts")) == ["parts/a/0", "parts/a/1", "parts/b/0"]
    assert list(storage.keys("nothing")) == []


def test_a_deleted_object_is_gone_and_may_be_deleted_again(storage: Storage) -> None:
    storage.write("parts/a/0", b"x")
    for _ in range(2):
        storage.delete("parts/a/0")
    assert list(storage.keys("parts")) == []
    with pytest.raises(StorageFailed):
        list(storage.read("parts/a/0", 0, 1))


def test_an_object_that_is_too_short_is_an_error(storage: Storage) -> None:
    storage.write("parts/a/0", b"12345")
    with pytest.raises(StorageFailed):
        list(storage.read("parts/a/0", 0, 6))


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_artifacts_are_kept_and_read_on_any_storage(settings: Settings, clock: Clock, url: str) -> None:
    data = os.urandom(1 << 20) * (PART_BYTES // (1 << 20) + 2)
    with listening(replace(settings, storage=url), Surroundings(clock=clock)) as house:
        digest = house.artifact("acme/llama", data)["files"][1]["sha256"]
        path = f"/admin/v1/repository/files/{digest}"
        assert house.client.get(path).content == data
        piece = house.client.get(path, headers={"Range": f"bytes={PART_BYTES - 9}-{PART_BYTES + 200_000}"})
        assert piece.content == data[PART_BYTES - 9 : PART_BYTES + 200_001]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_storage_that_is_away_is_a_503_and_the_upload_goes_on_later(
    settings: Settings, clock: Clock, tmp_path: Path
) -> None:
    with listening(replace(settings, storage=f"file://{tmp_path}/later/storage"), Surroundings(clock=clock)) as house:
        (tmp_path / "later").write_text("in the way")
        id = house.post("repository/uploads", size=5)["id"]
        assert code(house.carry_on(id, 0, b"12345")) == (503, "storage_unavailable")
        (tmp_path / "later").unlink()
        assert house.carry_on(id, 0, b"12345").json()["complete"]


def test_an_object_store_that_does_not_answer_is_given_up(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    storage = open_storage(s3, os.environ)
    with pytest.raises(StorageFailed) as caught:
        storage.write("parts/a/0", b"x")
    assert "secret" not in str(caught.value)
