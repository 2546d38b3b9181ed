"""A registry in this process, behind real HTTP, and things to put into it."""

import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx
import uvicorn
from tandem_registry.app import Surroundings, registry_app
from tandem_registry.settings import Settings
from tandem_registry.storage import Storage, open_storage


@dataclass
class Clock:
    """A time that stands until it is moved."""

    now: datetime
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self) -> datetime:
        with self.lock:
            return self.now

    def forward(self, **time: float) -> None:
        with self.lock:
            self.now += timedelta(**time)


@dataclass(frozen=True)
class House:
    """A registry that listens."""

    url: str
    client: httpx.Client
    storage: Storage
    settings: Settings

    def upload(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        upload = self.post("repository/uploads", size=len(data), sha256=sha256)
        if not upload["complete"]:
            answer = self.carry_on(upload["id"], 0, data)
            assert answer.json()["complete"], answer.text
        return sha256

    def carry_on(self, id: str, offset: int, data: bytes | Iterator[bytes]) -> httpx.Response:
        headers = {"Upload-Offset": str(offset)}
        return self.client.patch(f"/admin/v1/repository/uploads/{id}", content=data, headers=headers)

    def artifact(self, id: str, weights: bytes = b"weights") -> dict[str, Any]:
        """A safetensors folder in the repository."""
        files = {"config.json": b"{}", "model.safetensors": weights}
        listed = [{"name": name, "sha256": self.upload(data)} for name, data in files.items()]
        return self.ok(
            self.client.put(f"/admin/v1/repository/models/{id}", json={"format": "safetensors", "files": listed})
        )

    def model(self, name: str, *versions: str, active: str | None = None) -> None:
        """A model with versions."""
        self.post("registry/models", name=name)
        for version in versions:
            self.post(f"registry/models/{name}/versions", name=version, source=f"hf://org/{version}")
        if active is not None:
            self.activate(name, active)

    def activate(self, name: str, version: str, **more: str) -> dict[str, Any]:
        return self.ok(self.change(name, "activate", version=version, **more))

    def change(self, name: str, what: str, if_match: str | None = "*", **given: Any) -> httpx.Response:
        headers = {} if if_match is None else {"If-Match": if_match}
        return self.client.post(f"/admin/v1/registry/models/{name}/{what}", json=given, headers=headers)

    def get(self, path: str, **query: str) -> dict[str, Any]:
        return self.ok(self.client.get(f"/admin/v1/{path}", params=query))

    def post(self, path: str, **given: Any) -> dict[str, Any]:
        return self.ok(self.client.post(f"/admin/v1/{path}", json=given))

    def delete(self, path: str) -> httpx.Response:
        return self.client.delete(f"/admin/v1/{path}", headers={"If-Match": "*"})

    @staticmethod
    def ok(answer: httpx.Response) -> dict[str, Any]:
        assert answer.is_success, answer.text
        body: dict[str, Any] = answer.json()
        return body


def code(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an error, which has the one shape."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error["code"]


@contextmanager
def listening(
    settings: Settings,
    surroundings: Surroundings,
    storage: Storage | None = None,
    address: tuple[str, int] = ("127.0.0.1", 0),
) -> Iterator[House]:
    """A registry in a thread, on a free port unless an address says otherwise."""
    storage = storage or open_storage(settings.storage, os.environ)
    app = registry_app(settings, storage, surroundings)
    config = uvicorn.Config(
        app,
        log_config=None,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=5,
        timeout_keep_alive=600,  # no client finds its connection closed in the moment in which it asks
    )
    server = uvicorn.Server(config)
    with socket.create_server(address) as listener:
        url = f"http://{address[0]}:{listener.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            with httpx.Client(base_url=url, timeout=60) as client:
                yield House(url, client, storage, settings)
        finally:
            server.should_exit = True
            thread.join(60)
    assert not thread.is_alive()
