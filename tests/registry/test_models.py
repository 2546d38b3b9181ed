"""Models, aliases, lists and preconditions."""

import pytest

from tests.registry.house import Clock, House, code


def test_a_model_is_shown_as_it_was_made(house: House) -> None:
    made = house.post("registry/models", name="llama", description="for chat")
    assert house.get("registry/models/llama") == made
    assert (made["active"], made["aliases"], made["created_at"]) == (None, {}, "2026-03-01T12:00:00Z")


def test_a_name_is_given_once(house: House) -> None:
    house.model("llama")
    assert code(house.client.post("/admin/v1/registry/models", json={"name": "llama"})) == (409, "already_exists")


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "a b", "ä", "x" * 129, "a\x00b"])
def test_a_name_that_is_no_part_of_a_path_is_refused(house: House, name: str) -> None:
    answer = house.client.post("/admin/v1/registry/models", json={"name": name})
    assert code(answer) == (400, "invalid_request")
    assert answer.json()["error"]["param"] == "name"


def test_an_unknown_member_is_refused_by_name(house: House) -> None:
    answer = house.client.post("/admin/v1/registry/models", json={"name": "llama", "activ": True})
    assert code(answer) == (400, "invalid_request")
    assert "activ" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "path", ["registry/models/none", "registry/models/none/versions", "registry/models/none/history"]
)
def test_what_is_not_there_is_a_404(house: House, path: str) -> None:
    assert code(house.client.get(f"/admin/v1/{path}")) == (404, "not_found")


def test_a_body_that_is_no_json_is_a_400(house: House) -> None:
    answer = house.client.post("/admin/v1/registry/models", content=b"{", headers={"Content-Type": "application/json"})
    assert code(answer) == (400, "invalid_request")


def test_a_body_of_another_type_is_refused_as_such(house: House) -> None:
    answer = house.client.post("/admin/v1/registry/models", content=b'{"name": "llama"}')
    assert code(answer) == (415, "unsupported_media_type")


def test_a_body_without_end_is_cut_off(house: House) -> None:
    answer = house.client.post("/admin/v1/registry/models", content=b" " * (1 << 20) + b"{}")
    assert code(answer) == (413, "body_too_large")


def test_a_list_comes_in_parts_that_miss_and_repeat_nothing(house: House) -> None:
    names = [f"m{number:02}" for number in range(7)]
    for name in reversed(names):
        house.model(name)
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = house.get("registry/models", limit="3", **cursor)
        assert len(page["data"]) <= 3
        found += [model["name"] for model in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
        # What comes and goes between two parts shifts nothing.
        house.delete(f"registry/models/{page['data'][0]['name']}")
        house.client.post("/admin/v1/registry/models", json={"name": "a-before-all"})
    assert found == names


@pytest.mark.parametrize("cursor", ["x", "AAAA", "WyJ2ZXJzaW9ucy5udW1iZXIiLCAxXQ"])
def test_a_cursor_of_something_else_is_refused(house: House, cursor: str) -> None:
    answer = house.client.get("/admin/v1/registry/models", params={"cursor": cursor})
    assert code(answer) == (400, "invalid_request")


def test_an_etag_stands_for_a_state(house: House) -> None:
    house.model("llama", "v1")
    path = "/admin/v1/registry/models/llama"
    before = house.client.get(path).headers["etag"]
    assert house.client.get(path, headers={"If-None-Match": before}).status_code == 304
    house.activate("llama", "v1")
    after = house.client.get(path, headers={"If-None-Match": before})
    assert after.status_code == 200
    assert after.headers["etag"] != before


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "activate", {"version": "v1"}),
        ("POST", "rollback", {}),
        ("PUT", "aliases/champion", {"version": "v1"}),
        ("DELETE", "aliases/champion", None),
        ("PATCH", "", {"description": "x"}),
        ("DELETE", "", None),
    ],
)
def test_a_change_says_which_state_it_acts_on(house: House, method: str, path: str, body: object) -> None:
    house.model("llama", "v1", "v2")
    url = f"/admin/v1/registry/models/llama/{path}".rstrip("/")
    assert code(house.client.request(method, url, json=body)) == (428, "precondition_required")
    old = house.client.get("/admin/v1/registry/models/llama").headers["etag"]
    house.activate("llama", "v2")
    answer = house.client.request(method, url, json=body, headers={"If-Match": old})
    assert code(answer) == (412, "precondition_failed")
    assert answer.headers["etag"] == house.client.get("/admin/v1/registry/models/llama").headers["etag"]
    assert house.get("registry/models/llama")["active"] == "v2"


def test_a_model_made_again_has_another_etag(house: House, clock: Clock) -> None:
    house.model("llama")
    before = house.client.get("/admin/v1/registry/models/llama").headers["etag"]
    house.delete("registry/models/llama")
    clock.forward(seconds=1)
    house.model("llama")
    assert house.client.get("/admin/v1/registry/models/llama").headers["etag"] != before


def test_an_alias_moves_and_goes(house: House) -> None:
    house.model("llama", "v1", "v2")
    path = "/admin/v1/registry/models/llama/aliases/champion"
    for version in ("v1", "v2"):
        house.ok(house.client.put(path, json={"version": version}, headers={"If-Match": "*"}))
        assert house.get("registry/models/llama")["aliases"] == {"champion": version}
        assert house.get(f"registry/models/llama/versions/{version}")["aliases"] == ["champion"]
    assert house.delete("registry/models/llama/aliases/champion").json()["aliases"] == {}
    assert code(house.delete("registry/models/llama/aliases/champion")) == (404, "not_found")


def test_an_alias_stands_for_a_version_that_is_there(house: House) -> None:
    house.model("llama")
    path = "/admin/v1/registry/models/llama/aliases/champion"
    answer = house.client.put(path, json={"version": "v1"}, headers={"If-Match": "*"})
    assert code(answer) == (404, "not_found")


def test_a_model_with_versions_stays(house: House) -> None:
    house.model("llama", "v1")
    assert code(house.delete("registry/models/llama")) == (409, "in_use")
    assert house.delete("registry/models/llama/versions/v1").is_success
    assert house.delete("registry/models/llama").json() == {"id": "llama", "object": "model", "deleted": True}
    assert code(house.delete("registry/models/llama")) == (404, "not_found")
