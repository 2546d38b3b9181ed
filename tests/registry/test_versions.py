"""Versions: immutable, deleted only when nothing needs them, and the database says so, too."""

from typing import Any

import pytest
from sqlalchemy import URL, text
from sqlalchemy.exc import IntegrityError
from tandem_registry.database import Database

from tests.registry.house import House, code


def test_a_version_is_shown_as_it_was_registered(house: House) -> None:
    house.post("registry/models", name="llama")
    given: dict[str, Any] = {
        "name": "v1",
        "source": "hf://org/llama@4f0c",
        "digest": "sha256:4f0c",
        "format": "gguf",
        "engine": {"args": ["--max-model-len=8192"]},
        "labels": {"team": "search"},
        "metrics": {"mmlu": 0.68},
        "description": "tuned",
    }
    made = house.post("registry/models/llama/versions", **given)
    shown = house.get("registry/models/llama/versions/v1")
    assert shown == made
    assert given.items() <= shown.items()
    assert (shown["active"], shown["aliases"], shown["used_by"]) == (False, [], [])


def test_a_version_cannot_be_registered_twice_nor_as_active(house: House) -> None:
    house.model("llama", "v1")
    path = "/admin/v1/registry/models/llama/versions"
    assert code(house.client.post(path, json={"name": "v1", "source": "hf://org/x"})) == (409, "already_exists")
    active = {"name": "v2", "source": "hf://org/x", "active": True}
    assert code(house.client.post(path, json=active)) == (400, "invalid_request")


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"source": "hf://org/x", "artifact": "a/b"},
        {"source": "ftp://x"},
        {"source": "registry://llama/v1"},
        {"source": "hf://org/x", "metrics": {"x": "NaN"}},
        {"source": "hf://org/x", "digest": "4f0c"},
        {"source": "hf://org/x", "engine": {"args": ["--model=other"]}},
        {"source": "hf://org/x", "engine": {"type": "virtual"}},
        {"artifact": "not/there"},
    ],
)
def test_content_that_means_nothing_is_refused(house: House, given: dict[str, Any]) -> None:
    house.post("registry/models", name="llama")
    answer = house.client.post("/admin/v1/registry/models/llama/versions", json={"name": "v1", **given})
    assert code(answer) == (400, "invalid_request")


def test_an_artifact_lends_its_digest_and_format(house: House) -> None:
    artifact = house.artifact("acme/llama")
    house.post("registry/models", name="llama")
    made = house.post("registry/models/llama/versions", name="v1", artifact="acme/llama")
    assert (made["digest"], made["format"]) == (artifact["digest"], "safetensors")
    wrong = {"name": "v2", "artifact": "acme/llama", "digest": "sha256:" + "0" * 64}
    answer = house.client.post("/admin/v1/registry/models/llama/versions", json=wrong)
    assert code(answer) == (400, "invalid_request")
    assert artifact["digest"] in answer.json()["error"]["message"]


def test_versions_are_listed_with_the_latest_first(house: House) -> None:
    house.model("llama", "v1", "v2", "v10")
    assert [version["name"] for version in house.get("registry/models/llama/versions")["data"]] == ["v10", "v2", "v1"]


def test_an_active_version_stays(house: House) -> None:
    house.model("llama", "v1", "v2", active="v1")
    assert code(house.delete("registry/models/llama/versions/v1")) == (409, "version_active")
    house.activate("llama", "v2")
    assert house.delete("registry/models/llama/versions/v1").is_success


def test_a_version_with_an_alias_stays(house: House) -> None:
    house.model("llama", "v1")
    path = "/admin/v1/registry/models/llama/aliases/champion"
    house.ok(house.client.put(path, json={"version": "v1"}, headers={"If-Match": "*"}))
    answer = house.delete("registry/models/llama/versions/v1")
    assert code(answer) == (409, "version_referenced")
    assert "champion" in answer.json()["error"]["message"]


def test_a_version_in_use_stays_until_its_last_holder_lets_go(house: House) -> None:
    house.model("llama", "v1")
    version = "registry/models/llama/versions/v1"
    for holder in ("default/chat", "default/search", "default/chat"):
        house.ok(house.client.put(f"/admin/v1/{version}/uses/{holder}"))
    assert house.get(version)["used_by"] == ["default/chat", "default/search"]
    assert house.delete(f"{version}/uses/default/chat").is_success
    answer = house.delete(version)
    assert code(answer) == (409, "version_referenced")
    assert "default/search" in answer.json()["error"]["message"]
    assert house.delete(f"{version}/uses/default/search").is_success
    assert house.delete(version).is_success


def test_the_name_of_a_deleted_version_is_not_given_again(house: House) -> None:
    house.model("llama", "v1", "v2")
    house.delete("registry/models/llama/versions/v2")
    again = {"name": "v2", "source": "hf://org/other"}
    assert code(house.client.post("/admin/v1/registry/models/llama/versions", json=again)) == (409, "name_retired")


@pytest.fixture
def database_with_versions(house: House, database: URL) -> Database:
    house.model("llama", "v1", "v2", "v3", "v4", active="v1")
    alias = "/admin/v1/registry/models/llama/aliases/champion"
    house.ok(house.client.put(alias, json={"version": "v2"}, headers={"If-Match": "*"}))
    house.ok(house.client.put("/admin/v1/registry/models/llama/versions/v3/uses/default/chat"))
    return Database(database)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM versions WHERE name = 'v1'",
        "DELETE FROM versions WHERE name = 'v2'",
        "DELETE FROM versions WHERE name = 'v3'",
        "DELETE FROM models",
        "INSERT INTO active (model, version, activation) VALUES ('llama', 'v2', 2)",
        "UPDATE active SET version = 'none'",
        "INSERT INTO aliases (model, name, version) VALUES ('llama', 'x', 'none')",
        "UPDATE versions SET source = NULL",
    ],
)
def test_the_database_itself_refuses_what_must_not_be(database_with_versions: Database, statement: str) -> None:
    with pytest.raises(IntegrityError), database_with_versions.writing() as session:
        session.execute(text(statement))
    database_with_versions.close()


def test_the_database_lets_go_of_what_nothing_needs(database_with_versions: Database) -> None:
    with database_with_versions.writing() as session:
        session.execute(text("DELETE FROM versions WHERE name = 'v4'"))
    database_with_versions.close()
