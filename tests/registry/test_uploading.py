"""The command line's uploads, over a line that breaks."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tandem_cli.failing import Failed
from tandem_cli.registry import Registry
from tandem_cli.uploading import files_of, upload_model

from tests.registry.house import House

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


class Cutting(httpx.BaseTransport):
    """A line that is cut in the middle of uploads, after so many bytes each."""

    def __init__(self, cuts: list[int]) -> None:
        self.inner = httpx.HTTPTransport()
        self.cuts = cuts

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "PATCH" and self.cuts:
            stream = request.stream
            assert isinstance(stream, httpx.SyncByteStream)
            request.stream = _Cut(stream, self.cuts.pop(0))
        return self.inner.handle_request(request)


class Away(httpx.BaseTransport):
    """A router whose registry is away for some of the requests."""

    def __init__(self) -> None:
        self.inner = httpx.HTTPTransport()
        self.asked = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.asked in (1, 3, 4, 8):  # A begin, a piece, the look after it; a piece of the other file.
            error = {"message": "the registry does not answer", "type": "server_error", "param": None, "code": "x"}
            return httpx.Response(503, json={"error": error}, request=request)
        return self.inner.handle_request(request)


class _Cut(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, after: int) -> None:
        self._stream = stream
        self._after = after

    def __iter__(self) -> Iterator[bytes]:
        sent = 0
        for piece in self._stream:
            yield piece[: self._after - sent]
            sent += len(piece)
            if sent >= self._after:
                raise httpx.WriteError("cut")


class Silent:
    def begin(self, what: str, total: int) -> None:
        """Nobody looks."""

    def at(self, done: int) -> None:
        """Nobody looks."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(os.urandom(5 << 20))
    (folder / ".cache").write_text("hidden")
    return folder


def test_an_upload_outlives_a_line_that_is_cut_again_and_again(house: House, model: Path) -> None:
    line = Cutting([1, 1_500_000, 2_000_000])
    with httpx.Client(base_url=house.url, transport=line, timeout=60) as client:
        form, files = files_of(model)
        artifact = upload_model(Registry(client), "acme/llama", form, files, Silent(), sleep=lambda _: None)
    assert line.cuts == []
    assert [file.name for file in artifact.files] == ["config.json", "model.safetensors"]
    weights = (model / "model.safetensors").read_bytes()
    found = house.client.get(f"/admin/v1/repository/files/{artifact.files[1].sha256}")
    assert found.content == weights


def test_an_upload_outlives_a_registry_that_its_router_can_not_reach_at_times(house: House, model: Path) -> None:
    line = Away()
    with httpx.Client(base_url=house.url, transport=line, timeout=60) as client:
        form, files = files_of(model)
        artifact = upload_model(Registry(client), "acme/llama", form, files, Silent(), sleep=lambda _: None)
    assert len(artifact.files) == 2
    assert line.asked == 11


def test_an_upload_that_never_gets_further_is_given_up_with_what_to_do(house: House, model: Path) -> None:
    line = Cutting([0] * 50)
    with httpx.Client(base_url=house.url, transport=line, timeout=60) as client:
        form, files = files_of(model)
        with pytest.raises(Failed, match="does not get beyond 0 of") as caught:
            upload_model(Registry(client), "acme/llama", form, files, Silent(), sleep=lambda _: None)
    assert "run the same command again" in caught.value.hint
