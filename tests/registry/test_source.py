"""registry:// sources as workers fetch them."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tandem_api.inference_service.source import Source
from tandem_api.registry import key_digest
from tandem_engine.sources import Backoff, Work, fetch, resolve
from tandem_engine.sources.errors import (
    AccessDenied,
    Changed,
    ConversionFailed,
    InvalidUri,
    NotFound,
    SourceError,
    Unreachable,
)
from tandem_registry.access import Keys
from tandem_registry.app import Surroundings
from tandem_registry.settings import Settings

from tests.loopback import free_port
from tests.registry.house import Clock, House, listening
from tests.sources.gguf_file import write_gguf

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
KEY = "service-key-of-the-house"


@pytest.fixture
def house(settings: Settings, clock: Clock) -> Iterator[House]:
    """Its client has the admin's key."""
    keys = Keys(key_digest("static-key-of-the-house"), key_digest(KEY))
    with listening(replace(settings, keys=keys), Surroundings(clock=clock)) as house:
        house.client.headers["Authorization"] = "Bearer static-key-of-the-house"
        yield house


@pytest.fixture
def work(house: House) -> Work:
    environ = {"TANDEM_REGISTRY_URL": house.url, "TANDEM_REGISTRY_KEY": KEY}
    return Work(environ=environ, backoff=Backoff(attempts=3, first=0.001, longest=0.01), timeout=60)


@pytest.fixture
def model(house: House, tiny_model: Path) -> dict[str, bytes]:
    """The files of llama/v1, which is in the repository; nothing is active."""
    files = {path.name: path.read_bytes() for path in tiny_model.iterdir()}
    listed = [{"name": name, "sha256": house.upload(data)} for name, data in files.items()]
    body = {"format": "safetensors", "files": listed}
    house.ok(house.client.put("/admin/v1/repository/models/acme/tiny", json=body))
    house.post("registry/models", name="llama")
    house.post("registry/models/llama/versions", name="v1", artifact="acme/tiny")
    return files


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_a_version_of_the_repository_is_fetched(model: dict[str, bytes], work: Work, tmp_path: Path) -> None:
    fetch("registry://llama/v1", tmp_path / "model", work)
    assert contents(tmp_path / "model") == model


@pytest.mark.slow
def test_a_gguf_file_of_the_repository_becomes_what_vllm_loads(
    house: House, work: Work, tiny_llama: Path, tmp_path: Path
) -> None:
    write_gguf(tiny_llama, tmp_path / "tiny.gguf")
    listed = [{"name": "tiny.gguf", "sha256": house.upload((tmp_path / "tiny.gguf").read_bytes())}]
    body = {"format": "gguf", "files": listed}
    house.ok(house.client.put("/admin/v1/repository/models/acme/tiny", json=body))
    house.post("registry/models", name="llama")
    house.post("registry/models/llama/versions", name="v1", artifact="acme/tiny")
    fetch("registry://llama/v1", tmp_path / "models" / "llama", work)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= contents(tmp_path / "models" / "llama").keys()
    assert not list((tmp_path / "models").rglob("*.gguf*"))


def test_a_model_of_two_gguf_files_says_what_to_do(house: House, work: Work, tmp_path: Path) -> None:
    listed = [{"name": f"{name}.gguf", "sha256": house.upload(name.encode())} for name in ("a", "b")]
    house.ok(house.client.put("/admin/v1/repository/models/two", json={"format": "gguf", "files": listed}))
    house.post("registry/models", name="llama")
    house.post("registry/models/llama/versions", name="v1", artifact="two")
    with pytest.raises(ConversionFailed, match="has 2 GGUF files"):
        fetch("registry://llama/v1", tmp_path / "model", work)


def test_the_active_version_and_an_alias_are_pinned(model: dict[str, bytes], house: House, work: Work) -> None:
    house.activate("llama", "v1")
    alias = "/admin/v1/registry/models/llama/aliases/champion"
    house.ok(house.client.put(alias, json={"version": "v1"}, headers={"If-Match": "*"}))
    pinned = resolve("registry://llama/v1", work)
    assert pinned.startswith("registry://llama/v1?sha256=")
    assert {resolve(uri, work) for uri in ("registry://llama", "registry://llama@champion", pinned)} == {pinned}
    assert Source.parse(pinned) == Source("registry", "llama", "v1")


def test_equal_files_are_kept_once_on_a_node(model: dict[str, bytes], house: House, work: Work, tmp_path: Path) -> None:
    house.post("registry/models/llama/versions", name="v2", artifact="acme/tiny")
    for version in ("v1", "v2"):
        fetch(f"registry://llama/{version}", tmp_path / version, work, cache=tmp_path / "cache")
    assert (tmp_path / "v1").resolve() == (tmp_path / "v2").resolve()


def test_damaged_bytes_of_the_storage_are_found_out(
    model: dict[str, bytes], house: House, work: Work, tmp_path: Path
) -> None:
    largest = max((path for path in (tmp_path / "storage").rglob("*") if path.is_file()), key=os.path.getsize)
    data = bytearray(largest.read_bytes())
    data[1000] ^= 1
    largest.write_bytes(data)
    with pytest.raises(SourceError, match=r"model\.safetensors is not what its source lists"):
        fetch("registry://llama/v1", tmp_path / "model", work)
    assert not (tmp_path / "model").exists()


def test_a_version_with_other_content_than_pinned_is_refused(
    model: dict[str, bytes], work: Work, tmp_path: Path
) -> None:
    with pytest.raises(Changed, match="digest"):
        fetch(f"registry://llama/v1?sha256={'0' * 64}", tmp_path / "model", work)


def test_what_a_node_has_is_started_without_the_registry(model: dict[str, bytes], work: Work, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    pinned = fetch("registry://llama/v1", tmp_path / "first", work, cache=cache)
    away = replace(work, environ={"TANDEM_REGISTRY_URL": "http://127.0.0.1:1"})
    fetch(pinned, tmp_path / "second", away, cache=cache)
    assert contents(tmp_path / "second") == model


def test_a_version_elsewhere_is_fetched_from_there(house: House, work: Work, tiny_model: Path, tmp_path: Path) -> None:
    house.post("registry/models", name="llama")
    house.post("registry/models/llama/versions", name="v1", source=tiny_model.as_uri())
    assert fetch("registry://llama/v1", tmp_path / "model", work) == tiny_model.as_uri()
    assert contents(tmp_path / "model") == contents(tiny_model)


def test_what_is_missing_is_named(model: dict[str, bytes], work: Work) -> None:
    for uri, named in (
        ("registry://none", "no model 'none'"),
        ("registry://llama/v9", "no version 'v9'"),
        ("registry://llama@champion", "no alias 'champion'"),
        ("registry://llama", "no version of 'llama' is active"),
    ):
        with pytest.raises(NotFound, match=named):
            resolve(uri, work)


@pytest.mark.parametrize(
    "uri", ["registry://", "registry://a/b/c", "registry://a@b/c", "registry://../x", "registry://a/v?x=1"]
)
def test_a_source_of_another_form_is_refused(work: Work, uri: str) -> None:
    with pytest.raises(InvalidUri, match="registry://NAME"):
        resolve(uri, work)


def test_a_wrong_key_says_what_to_check_and_is_not_repeated(house: House, work: Work) -> None:
    wrong = replace(work, environ={**work.environ, "TANDEM_REGISTRY_KEY": "wrong-key-of-nobody"})
    with pytest.raises(AccessDenied, match="TANDEM_REGISTRY_KEY") as caught:
        resolve("registry://llama", wrong)
    assert "wrong-key-of-nobody" not in str(caught.value)


def test_a_key_may_come_from_a_file(model: dict[str, bytes], work: Work, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    environ = {"TANDEM_REGISTRY_URL": work.environ["TANDEM_REGISTRY_URL"]}
    from_file = replace(work, environ={**environ, "TANDEM_REGISTRY_KEY_FILE": str(tmp_path / "key")})
    assert resolve("registry://llama/v1", from_file) == resolve("registry://llama/v1", work)


def test_a_registry_that_is_away_is_given_up(work: Work) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unreachable, match="does not answer"):
        resolve("registry://llama", replace(work, environ={"TANDEM_REGISTRY_URL": url}))


@pytest.mark.parametrize("url", ["", "registry", "http://key:hush@host"])
def test_an_address_that_is_none_says_what_to_set(work: Work, url: str) -> None:
    with pytest.raises(SourceError, match="TANDEM_REGISTRY_URL") as caught:
        resolve("registry://llama", replace(work, environ={"TANDEM_REGISTRY_URL": url}))
    assert "hush" not in str(caught.value)
