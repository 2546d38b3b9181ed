"""What is active, the history of it, and the way back."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.registry.house import Clock, House, code


def active(house: House) -> str | None:
    version: str | None = house.get("registry/models/llama")["active"]
    return version


def test_one_version_is_active(house: House) -> None:
    house.model("llama", "v1", "v2", active="v1")
    house.model("other", "v1", active="v1")
    house.activate("llama", "v2")
    versions = house.get("registry/models/llama/versions")["data"]
    assert {version["name"]: version["active"] for version in versions} == {"v1": False, "v2": True}
    assert house.get("registry/models/other")["active"] == "v1"


def test_a_version_that_is_not_there_cannot_be_activated(house: House) -> None:
    house.model("llama", "v1", active="v1")
    assert code(house.change("llama", "activate", version="v9")) == (404, "not_found")
    assert active(house) == "v1"


def test_the_history_tells_who_when_and_why(house: House, clock: Clock) -> None:
    house.model("llama", "v1", "v2", active="v1")
    clock.forward(minutes=5)
    house.activate("llama", "v2", reason="better at code", by="ann")
    latest, first = house.get("registry/models/llama/history")["data"]
    assert latest == {
        "object": "model.activation",
        "number": 2,
        "kind": "activate",
        "version": "v2",
        "former": "v1",
        "at": "2026-03-01T12:05:00Z",
        "by": "ann",
        "key": "anonymous",
        "reason": "better at code",
    }
    assert (first["number"], first["former"], first["by"]) == (1, None, "anonymous")


def test_activating_the_active_version_changes_nothing(house: House) -> None:
    house.model("llama", "v1", active="v1")
    assert house.activate("llama", "v1")["number"] == 1
    assert len(house.get("registry/models/llama/history")["data"]) == 1


def test_rollbacks_go_further_and_further_back(house: House) -> None:
    house.model("llama", "v1", "v2", "v3", active="v1")
    house.activate("llama", "v2")
    house.activate("llama", "v3")
    assert [house.ok(house.change("llama", "rollback"))["version"] for _ in range(2)] == ["v2", "v1"]
    assert code(house.change("llama", "rollback")) == (409, "nothing_before")
    assert active(house) == "v1"


def test_a_rollback_after_a_rollback_and_an_activation_leads_to_what_was_active(house: House) -> None:
    house.model("llama", "v1", "v2", "v3", active="v1")
    house.activate("llama", "v2")
    house.change("llama", "rollback")
    house.activate("llama", "v3")
    assert house.ok(house.change("llama", "rollback", reason="slow"))["version"] == "v1"
    kinds = [entry["kind"] for entry in house.get("registry/models/llama/history")["data"]]
    assert kinds == ["rollback", "activate", "rollback", "activate", "activate"]


def test_there_is_no_way_back_to_a_version_that_was_deleted(house: House) -> None:
    house.model("llama", "v1", "v2", active="v1")
    house.activate("llama", "v2")
    house.delete("registry/models/llama/versions/v1")
    assert code(house.change("llama", "rollback")) == (409, "former_version_deleted")
    assert active(house) == "v2"


def test_without_an_active_version_there_is_nothing_to_roll_back(house: House) -> None:
    house.model("llama", "v1")
    assert code(house.change("llama", "rollback")) == (409, "nothing_active")


def side_by_side(*work: object) -> list[httpx.Response]:
    """Calls all at once."""
    barrier = threading.Barrier(len(work))

    def run(call: object) -> httpx.Response:
        barrier.wait(30)
        answer: httpx.Response = call()  # type: ignore[operator]
        return answer

    with ThreadPoolExecutor(len(work)) as pool:
        return list(pool.map(run, work))


def test_activations_side_by_side_leave_one_active_version_and_an_unbroken_history(house: House) -> None:
    versions = [f"v{number}" for number in range(8)]
    house.model("llama", *versions)
    answers = side_by_side(
        *(lambda version=version: house.change("llama", "activate", version=version) for version in versions)
    )
    assert [answer.status_code for answer in answers] == [200] * 8
    history = house.get("registry/models/llama/history")["data"][::-1]
    assert [entry["number"] for entry in history] == list(range(1, 9))
    assert [entry["former"] for entry in history] == [None, *(entry["version"] for entry in history[:-1])]
    shown = house.get("registry/models/llama/versions")["data"]
    assert [version["name"] for version in shown if version["active"]] == [history[-1]["version"]]


def test_of_changes_to_one_state_side_by_side_one_wins(house: House) -> None:
    versions = [f"v{number}" for number in range(8)]
    house.model("llama", *versions)
    etag = house.client.get("/admin/v1/registry/models/llama").headers["etag"]
    answers = side_by_side(
        *(lambda version=version: house.change("llama", "activate", etag, version=version) for version in versions)
    )
    assert Counter(answer.status_code for answer in answers) == {200: 1, 412: 7}


def test_a_version_that_is_deleted_while_it_is_activated_is_either_active_or_gone(house: House) -> None:
    for number in range(6):
        version = f"v{number}"
        house.post("registry/models", name=f"m{number}")
        house.post(f"registry/models/m{number}/versions", name=version, source="hf://org/x")
        activated, deleted = side_by_side(
            lambda number=number, version=version: house.change(f"m{number}", "activate", version=version),
            lambda number=number, version=version: house.delete(f"registry/models/m{number}/versions/{version}"),
        )
        assert (activated.status_code, deleted.status_code) in ((200, 409), (404, 200))
        shown = house.get(f"registry/models/m{number}")["active"]
        assert shown == (version if activated.is_success else None)


def test_of_registrations_of_one_name_side_by_side_one_wins(house: House) -> None:
    house.post("registry/models", name="llama")
    given = {"name": "v1", "source": "hf://org/x"}
    answers = side_by_side(
        *(lambda: house.client.post("/admin/v1/registry/models/llama/versions", json=given) for _ in range(6))
    )
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 5}
