"""Outcomes of experiments: said once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.registry.house import House, code

PATH = "/admin/v1/experiments/4f0c/outcome"


def said(outcome: str, **more: Any) -> dict[str, Any]:
    return {
        "outcome": outcome,
        "evidence": {"e": 41.2, "requests": [198, 19602]},
        "decided_at": "2026-03-01T11:00:00Z",
        **more,
    }


def test_an_outcome_is_kept_with_its_evidence(house: House) -> None:
    assert code(house.client.get(PATH)) == (404, "not_found")
    assert house.client.put(PATH, json=said("rolledBack")).status_code == 201
    kept = house.get("experiments/4f0c/outcome")
    assert said("rolledBack").items() <= kept.items()
    assert (kept["id"], kept["recorded_at"]) == ("4f0c", "2026-03-01T12:00:00Z")


def test_the_first_outcome_stays(house: House) -> None:
    first = house.client.put(PATH, json=said("rolledBack")).json()
    again = house.client.put(PATH, json=said("rolledBack", evidence={"e": 50}, decided_at="2026-03-02T00:00:00Z"))
    assert (again.status_code, again.json()) == (200, first)
    assert code(house.client.put(PATH, json=said("promoted"))) == (409, "outcome_decided")
    assert house.get("experiments/4f0c/outcome") == first


def test_of_two_outcomes_at_once_one_is_kept(house: House) -> None:
    barrier = threading.Barrier(6)

    def put(number: int) -> int:
        barrier.wait(30)
        return house.client.put(PATH, json=said(f"outcome-{number}")).status_code

    with ThreadPoolExecutor(6) as pool:
        statuses = sorted(pool.map(put, range(6)))
    assert statuses == [201, 409, 409, 409, 409, 409]


def test_outcomes_are_listed(house: House) -> None:
    house.client.put(PATH, json=said("promoted"))
    assert [outcome["id"] for outcome in house.get("experiments")["data"]] == ["4f0c"]
