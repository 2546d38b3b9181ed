"""Artifacts: whole or not there, of ids with slashes, never changed, kept while versions have them."""

import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_api.registry import ArtifactFile, artifact_digest
from tandem_registry.app import Surroundings
from tandem_registry.database import Database
from tandem_registry.ranges import Range, parse_range
from tandem_registry.settings import Settings
from tandem_registry.sweeping import Sweeper, Swept

from tests.registry.house import Clock, House, code, listening


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(house: House, id: str, form: str, **files: str) -> tuple[int, str]:
    listed = [{"name": name.replace("__", "."), "sha256": digest} for name, digest in files.items()]
    answer = house.client.put(f"/admin/v1/repository/models/{id}", json={"format": form, "files": listed})
    return (answer.status_code, "") if answer.is_success else code(answer)


def test_an_artifact_with_slashes_is_stored_shown_and_listed(house: House) -> None:
    made = house.artifact("acme/llama/8b")
    assert house.get("repository/models/acme/llama/8b") == made
    assert [artifact["id"] for artifact in house.get("repository/models")["data"]] == ["acme/llama/8b"]
    assert [(file["name"], file["size"]) for file in made["files"]] == [("config.json", 2), ("model.safetensors", 7)]
    assert made["size"] == 9
    assert made["digest"] == artifact_digest(ArtifactFile(**file) for file in made["files"])


def test_an_empty_repository_lists_nothing(house: House) -> None:
    assert house.get("repository/models") == {"object": "list", "data": [], "next_cursor": None}


def test_a_gguf_file_is_an_artifact(house: House) -> None:
    assert put(house, "tiny", "gguf", tiny__gguf=house.upload(b"GGUF...")) == (201, "")


@pytest.mark.parametrize(("form", "name"), [("gguf", "model.safetensors"), ("safetensors", "model.safetensors")])
def test_files_that_are_no_model_are_refused(house: House, form: str, name: str) -> None:
    assert put(house, "tiny", form, **{name: house.upload(b"x")}) == (400, "invalid_request")


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../b", "a//b", ".", "a\\b", "a\x00"])
def test_a_file_name_that_leads_elsewhere_is_refused(house: House, name: str) -> None:
    digest = house.upload(b"x")
    files = [{"name": "x.gguf", "sha256": digest}, {"name": name, "sha256": digest}]
    answer = house.client.put("/admin/v1/repository/models/tiny", json={"format": "gguf", "files": files})
    assert code(answer) == (400, "invalid_request")


@pytest.mark.parametrize("id", ["%2e%2e", "%2e%2e%2fx", "a/%2e%2e/b", "a//b", "-a", "a%00b", "a/"])
def test_an_id_that_leads_elsewhere_is_refused(house: House, id: str) -> None:
    answer = house.client.put(f"/admin/v1/repository/models/{id}", json={"format": "gguf", "files": []})
    assert answer.status_code in (400, 404)
    assert house.get("repository/models")["data"] == []


def test_an_artifact_appears_when_all_its_files_are_there(house: House) -> None:
    config = house.upload(b"{}")
    files = {"config__json": config, "model__safetensors": sha256(b"weights")}
    assert put(house, "acme/llama", "safetensors", **files) == (409, "files_missing")
    assert code(house.client.get("/admin/v1/repository/models/acme/llama")) == (404, "not_found")
    house.upload(b"weights")
    assert put(house, "acme/llama", "safetensors", **files) == (201, "")


def test_the_same_artifact_may_be_put_again_and_another_not(house: House) -> None:
    house.artifact("acme/llama")
    files = {"config__json": sha256(b"{}"), "model__safetensors": sha256(b"weights")}
    assert put(house, "acme/llama", "safetensors", **files) == (200, "")
    files["model__safetensors"] = house.upload(b"others")
    assert put(house, "acme/llama", "safetensors", **files) == (409, "already_exists")


def test_an_expected_digest_is_compared(house: House) -> None:
    files = [{"name": "x.gguf", "sha256": house.upload(b"x")}]
    body = {"format": "gguf", "files": files, "digest": "sha256:" + "0" * 64}
    assert code(house.client.put("/admin/v1/repository/models/tiny", json=body)) == (400, "digest_mismatch")


def test_an_artifact_of_a_version_stays(house: House) -> None:
    house.artifact("acme/llama")
    house.post("registry/models", name="llama")
    house.post("registry/models/llama/versions", name="v1", artifact="acme/llama")
    answer = house.delete("repository/models/acme/llama")
    assert code(answer) == (409, "artifact_referenced")
    assert "llama/v1" in answer.json()["error"]["message"]
    house.delete("registry/models/llama/versions/v1")
    assert house.delete("repository/models/acme/llama").json() == {
        "id": "acme/llama",
        "object": "model",
        "deleted": True,
    }
    assert code(house.delete("repository/models/acme/llama")) == (404, "not_found")


@pytest.mark.parametrize(
    ("header", "status", "content"),
    [
        ("bytes=2-4", 206, b"igh"),
        ("bytes=5-", 206, b"ts"),
        ("bytes=-2", 206, b"ts"),
        ("bytes=0-999", 206, b"weights"),
        ("bytes=7-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=4-2", 200, b"weights"),
        ("bytes=0-1,3-4", 200, b"weights"),
        ("lines=1-2", 200, b"weights"),
    ],
)
def test_ranges_are_those_of_http(house: House, header: str, status: int, content: bytes | None) -> None:
    path = f"/admin/v1/repository/files/{house.upload(b'weights')}"
    answer = house.client.get(path, headers={"Range": header})
    assert (answer.status_code, answer.content if content else None) == (status, content)
    if status == 206:
        assert answer.headers["content-range"].endswith("/7")


def test_a_range_of_another_state_is_the_whole_file(house: House) -> None:
    digest = house.upload(b"weights")
    path = f"/admin/v1/repository/files/{digest}"
    same = house.client.get(path, headers={"Range": "bytes=1-2", "If-Range": f'"{digest}"'})
    other = house.client.get(path, headers={"Range": "bytes=1-2", "If-Range": '"x"'})
    assert (same.content, other.content) == (b"ei", b"weights")


def test_head_tells_the_size(house: House) -> None:
    answer = house.client.head(f"/admin/v1/repository/files/{house.upload(b'weights')}")
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "7", b"")


@given(size=st.integers(0, 20), first=st.integers(0, 25), last=st.integers(0, 25))
def test_a_range_lies_in_the_file(size: int, first: int, last: int) -> None:
    data = bytes(range(size))
    for header, expected in (
        (f"bytes={first}-{last}", data[first : last + 1] if first <= last else data),
        (f"bytes={first}-", data[first:]),
        (f"bytes=-{last}", data[-last:] if last else b""),
    ):
        found = parse_range(header, size)
        if found is None:
            assert expected == b""
        else:
            assert 0 <= found.start <= found.end <= size
            assert data[found.start : found.end] == expected


def test_without_a_range_it_is_the_whole_file() -> None:
    assert parse_range(None, 5) == Range(0, 5, partial=False)


def swept(house: House, clock: Clock) -> Swept:
    database = Database(house.settings.database)
    try:
        return Sweeper(database, house.storage, clock, keep=timedelta(hours=24)).sweep()
    finally:
        database.close()


def test_what_nothing_needs_goes_after_a_while(house: House, clock: Clock) -> None:
    house.artifact("acme/llama")
    lone = house.upload(b"of no artifact")
    unfinished = house.post("repository/uploads", size=10)["id"]
    house.carry_on(unfinished, 0, b"12345")
    clock.forward(hours=23)
    assert swept(house, clock) == Swept(0, 0, 0)
    clock.forward(hours=2)
    assert swept(house, clock) == Swept(uploads=1, files=1, objects=0)
    assert code(house.client.get(f"/admin/v1/repository/files/{lone}")) == (404, "not_found")
    assert code(house.client.get(f"/admin/v1/repository/uploads/{unfinished}")) == (404, "not_found")
    assert house.client.get(f"/admin/v1/repository/files/{sha256(b'weights')}").content == b"weights"
    assert len(list(house.storage.keys("parts"))) == 2


def test_files_of_a_deleted_artifact_outlive_it_for_downloads_that_run(house: House, clock: Clock) -> None:
    house.artifact("acme/llama")
    clock.forward(hours=100)
    house.delete("repository/models/acme/llama")
    assert swept(house, clock).files == 0
    clock.forward(hours=25)
    assert swept(house, clock).files == 2
    assert list(house.storage.keys("parts")) == []


def test_objects_that_no_upload_knows_go_and_those_of_open_uploads_stay(house: House, clock: Clock) -> None:
    unfinished = house.post("repository/uploads", size=10)["id"]
    house.storage.write(f"parts/{unfinished}/000-being-written", b"12345")
    house.storage.write("parts/of-no-upload/000-x", b"12345")
    assert swept(house, clock).objects == 1
    assert list(house.storage.keys("parts")) == [f"parts/{unfinished}/000-being-written"]


def test_a_file_that_is_announced_again_is_kept_for_it(house: House, clock: Clock) -> None:
    digest = house.upload(b"weights")
    clock.forward(hours=25)
    assert house.post("repository/uploads", size=7, sha256=digest)["complete"]
    swept(house, clock)
    assert house.client.get(f"/admin/v1/repository/files/{digest}").content == b"weights"


def test_a_storage_that_lost_a_file_is_a_503(settings: Settings, clock: Clock) -> None:
    with listening(replace(settings), Surroundings(clock=clock)) as house:
        digest = house.upload(b"weights")
        for key in list(house.storage.keys("parts")):
            house.storage.delete(key)
        assert code(house.client.get(f"/admin/v1/repository/files/{digest}")) == (503, "storage_unavailable")
