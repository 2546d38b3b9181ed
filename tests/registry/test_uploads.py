"""Uploads: streamed, carried on after breaks, checked, and in nobody's way."""

import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tandem_registry.app import Surroundings
from tandem_registry.settings import Settings
from tandem_registry.uploads import PART_BYTES

from tests.registry.house import Clock, House, code, listening

DATA = bytes(range(256)) * 512


def begin(house: House, data: bytes = DATA, **more: object) -> str:
    id: str = house.post("repository/uploads", size=len(data), **more)["id"]
    return id


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_an_upload_in_one_go_is_the_file(house: House) -> None:
    answer = house.carry_on(begin(house), 0, DATA)
    assert answer.json()["complete"]
    assert answer.json()["sha256"] == sha256(DATA)
    assert house.client.get(f"/admin/v1/repository/files/{sha256(DATA)}").content == DATA


def test_an_upload_in_pieces_is_the_file(house: House) -> None:
    id = begin(house, sha256=sha256(DATA))
    for start in range(0, len(DATA), 50_000):
        answer = house.carry_on(id, start, DATA[start : start + 50_000])
        assert answer.headers["upload-offset"] == str(min(start + 50_000, len(DATA)))
    assert answer.json()["complete"]
    assert house.client.get(f"/admin/v1/repository/files/{sha256(DATA)}").content == DATA


def test_a_file_of_many_parts_is_the_file(house: House) -> None:
    data = DATA * (2 * PART_BYTES // len(DATA) + 1)
    digest = house.upload(data)
    _, second, *_ = sorted(house.storage.keys("parts"))
    assert sha256(house.client.get(f"/admin/v1/repository/files/{digest}").content) == digest
    edge = int(second.split("/")[-1].split("-")[0])
    over_it = {"Range": f"bytes={edge - 5}-{edge + 4}"}
    piece = house.client.get(f"/admin/v1/repository/files/{digest}", headers=over_it)
    assert piece.content == data[edge - 5 : edge + 5]


def test_an_empty_file_is_a_file(house: House) -> None:
    assert house.upload(b"") == sha256(b"")
    assert house.client.get(f"/admin/v1/repository/files/{sha256(b'')}").content == b""


def test_a_file_that_is_there_is_not_sent_again(house: House) -> None:
    house.upload(DATA)
    again = house.post("repository/uploads", size=len(DATA), sha256=sha256(DATA))
    assert (again["complete"], again["offset"]) == (True, len(DATA))


def test_two_uploads_of_one_file_are_kept_once(house: House) -> None:
    first, second = begin(house), begin(house)
    for id in (first, second):
        assert house.carry_on(id, 0, DATA).json()["complete"]
    assert len(list(house.storage.keys("parts"))) == 1
    assert house.client.get(f"/admin/v1/repository/files/{sha256(DATA)}").content == DATA


def test_a_wrong_checksum_ends_the_upload_and_leaves_nothing(house: House) -> None:
    id = begin(house, sha256="0" * 64)
    assert code(house.carry_on(id, 0, DATA)) == (400, "digest_mismatch")
    assert list(house.storage.keys("parts")) == []
    assert code(house.client.get(f"/admin/v1/repository/uploads/{id}")) == (404, "not_found")
    assert code(house.client.get(f"/admin/v1/repository/files/{sha256(DATA)}")) == (404, "not_found")


def test_a_wrong_checksum_is_found_after_a_break_too(house: House) -> None:
    id = begin(house, sha256=sha256(DATA))
    house.carry_on(id, 0, b"x" * 1000)
    assert code(house.carry_on(id, 1000, DATA[1000:])) == (400, "digest_mismatch")


def test_more_bytes_than_announced_are_refused_and_the_upload_stands(house: House) -> None:
    id = begin(house)
    assert code(house.carry_on(id, 0, DATA + b"x")) == (400, "invalid_request")
    assert house.carry_on(id, house.get(f"repository/uploads/{id}")["offset"], DATA).json()["complete"]


@pytest.mark.parametrize("offset", [1, 10**9])
def test_another_offset_than_the_present_one_is_answered_with_that(house: House, offset: int) -> None:
    answer = house.carry_on(begin(house), offset, DATA[offset:])
    assert code(answer) == (409, "offset_mismatch")
    assert answer.headers["upload-offset"] == "0"


def test_a_file_beyond_the_limit_is_refused_before_it_is_sent(settings: Settings, clock: Clock) -> None:
    with listening(replace(settings, max_file_bytes=1000), Surroundings(clock=clock)) as house:
        answer = house.client.post("/admin/v1/repository/uploads", json={"size": 1001})
        assert code(answer) == (413, "file_too_large")
        house.upload(b"x" * 1000)


def send_and_break(house: House, id: str, data: bytes) -> None:
    """Announces the whole rest, sends some of it, and goes."""
    host, port = house.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 30) as line:
        head = f"PATCH /admin/v1/repository/uploads/{id} HTTP/1.1\r\nHost: x\r\nUpload-Offset: 0\r\n"
        line.sendall(f"{head}Content-Length: {len(DATA)}\r\n\r\n".encode() + data)


def wait_for_offset(house: House, id: str, offset: int) -> None:
    pause = threading.Event()
    for _ in range(600):
        if house.get(f"repository/uploads/{id}")["offset"] == offset:
            return
        pause.wait(0.1)
    raise AssertionError(f"the upload never came to {offset}")


def test_what_came_before_a_break_is_kept_and_carried_on(house: House) -> None:
    id = begin(house, sha256=sha256(DATA))
    send_and_break(house, id, DATA[:70_000])
    wait_for_offset(house, id, 70_000)
    assert house.carry_on(id, 70_000, DATA[70_000:]).json()["complete"]
    assert house.client.get(f"/admin/v1/repository/files/{sha256(DATA)}").content == DATA


def test_whoever_begins_the_same_upload_again_goes_on_with_it(house: House) -> None:
    id = begin(house, sha256=sha256(DATA))
    house.carry_on(id, 0, DATA[:1000])
    again = house.post("repository/uploads", size=len(DATA), sha256=sha256(DATA))
    assert (again["id"], again["offset"]) == (id, 1000)


def test_an_answer_that_was_lost_can_be_asked_for_again(house: House) -> None:
    id = begin(house)
    house.carry_on(id, 0, DATA)
    assert house.get(f"repository/uploads/{id}")["complete"]
    assert house.carry_on(id, len(DATA), b"").json()["complete"]


def test_two_who_write_one_upload_do_not_mix_their_bytes(house: House) -> None:
    id = begin(house)
    started, go_on = threading.Event(), threading.Event()

    def slow() -> Iterator[bytes]:
        yield b"y" * 1000
        started.set()
        go_on.wait(60)
        yield b"y" * (len(DATA) - 1000)

    answers: list[tuple[int, str]] = []
    thread = threading.Thread(target=lambda: answers.append(code(house.carry_on(id, 0, slow()))))
    thread.start()
    started.wait(60)
    assert house.carry_on(id, 0, DATA).json()["sha256"] == sha256(DATA)
    go_on.set()
    thread.join(60)
    assert answers == [(409, "offset_mismatch")]
    assert house.client.get(f"/admin/v1/repository/files/{sha256(DATA)}").content == DATA
    assert len(list(house.storage.keys("parts"))) == 1


def test_nobody_waits_for_an_upload(house: House) -> None:
    house.artifact("acme/llama")
    id = begin(house)
    started, go_on = threading.Event(), threading.Event()

    def slow() -> Iterator[bytes]:
        yield DATA[:1000]
        started.set()
        go_on.wait(60)
        yield DATA[1000:]

    thread = threading.Thread(target=lambda: house.carry_on(id, 0, slow()))
    thread.start()
    started.wait(60)
    try:
        assert house.get("repository/models/acme/llama")["id"] == "acme/llama"
        assert house.client.get(f"/admin/v1/repository/files/{sha256(b'weights')}").content == b"weights"
        house.artifact("acme/other", b"other weights")
    finally:
        go_on.set()
        thread.join(60)
    assert house.get(f"repository/uploads/{id}")["complete"]


def test_an_upload_can_be_thrown_away(house: House) -> None:
    id = begin(house)
    house.carry_on(id, 0, DATA[:1000])
    assert house.delete(f"repository/uploads/{id}").is_success
    assert list(house.storage.keys("parts")) == []
    assert code(house.carry_on(id, 1000, DATA[1000:])) == (404, "not_found")
