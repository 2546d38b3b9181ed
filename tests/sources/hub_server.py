"""A server of the Hub's protocol, as far as fetching a model goes, with the faults that networks and people add.

It has two origins, like the Hub: one with the API and `resolve`, and a CDN that large files are redirected to with a
signed address. What it does was read off the Hub's answers and its client library.
"""

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

SIGNATURE = "sig-that-must-not-be-shown"


@dataclass(frozen=True)
class Asked:
    """A request that came in. `at` is `hub` or `cdn`, `name` the file, empty for the API."""

    at: str
    name: str
    range: str
    authorization: str


@dataclass
class Faults:
    """What goes wrong with a file, by its name ("" is the API); each list is used up from its front."""

    statuses: dict[str, list[int]] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    """Bytes of the body after which the connection is cut."""
    flips: dict[str, int] = field(default_factory=dict)
    """How many answers have their first byte changed."""
    ignores_ranges: bool = False
    stall: threading.Event | None = None
    """Bodies stop half-way until this is set."""


class HubServer:
    """One repository, `org/model`, whose commits are kept; `main` is the last one."""

    def __init__(self, hub: str, cdn: str) -> None:
        self.endpoint = hub
        self.cdn = cdn
        self.token: str | None = None
        self.gated = False
        self.faults = Faults()
        self.asked: list[Asked] = []
        self.served: dict[str, int] = defaultdict(int)
        self.commits: dict[str, dict[str, bytes]] = {}
        self.refs: dict[str, str] = {}
        self.lock = threading.Lock()
        self.sizes: dict[str, int] = {}
        self.half_way = threading.Event()

    def push(self, files: dict[str, bytes], ref: str = "main") -> str:
        content = "".join(f"{name}{hashlib.sha256(data).hexdigest()}" for name, data in sorted(files.items()))
        commit = hashlib.sha1(content.encode()).hexdigest()
        self.commits[commit] = files
        self.refs[ref] = commit
        return commit

    def bodies(self, name: str) -> list[Asked]:
        """The requests for a file at the place that has its bytes."""
        return [asked for asked in self.asked if asked.name == name and asked.at == ("cdn" if is_lfs(name) else "hub")]

    def take(self, table: dict[str, list[int]], name: str) -> int | None:
        with self.lock:
            return table[name].pop(0) if table.get(name) else None


def is_lfs(name: str) -> bool:
    return name.endswith((".safetensors", ".bin", ".pth", ".onnx", ".gguf"))


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """Run one on loopback."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _Handler) for _ in range(2)]
    hub = HubServer(*(f"http://127.0.0.1:{server.server_address[1]}" for server in servers))
    threads = []
    for server, at in zip(servers, ("hub", "cdn"), strict=True):
        server.daemon_threads = True
        server.hub, server.at = hub, at  # type: ignore[attr-defined]  # for the handler, which the server makes
        threads.append(threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}))
        threads[-1].start()
    try:
        yield hub
    finally:
        if hub.faults.stall:
            hub.faults.stall.set()
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.hub: HubServer = self.server.hub  # type: ignore[attr-defined]
        at: str = self.server.at  # type: ignore[attr-defined]
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        is_api = parts[0] == "api"
        name = "" if is_api else ("/".join(parts[1:]) if at == "cdn" else "/".join(parts[4:]))
        asked = Asked(at, name, self.headers.get("Range", ""), self.headers.get("Authorization", ""))
        with self.hub.lock:
            self.hub.asked.append(asked)
        if (status := self.hub.take(self.hub.faults.statuses, name)) is not None:
            return self._answer(status, {"Retry-After": "0"})
        if at == "cdn":
            if parse_qs(url.query).get("Signature") != [SIGNATURE]:
                return self._answer(403)
            return self._file(name, self.hub.commits[parts[0]][name], {})
        if is_api:
            return self._describe(parts)
        return self._resolve(parts, name)

    def _denied(self) -> bool:
        allowed = self.hub.token is None or self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        if not allowed and self.hub.gated:
            self._answer(401 if "Authorization" not in self.headers else 403, {"X-Error-Code": "GatedRepo"})
        elif not allowed:
            self._answer(401, {"X-Error-Code": "RepoNotFound"})
        return not allowed

    def _describe(self, parts: list[str]) -> None:
        # api/models/org/model/revision/REVISION
        if "/".join(parts[2:4]) != "org/model":
            return self._answer(401, {"X-Error-Code": "RepoNotFound"})
        if not self.hub.gated and self._denied():
            return None  # What a gated repository holds is public, its bytes are not.
        commit = self.hub.refs.get(parts[5], parts[5])
        if commit not in self.hub.commits:
            return self._answer(404, {"X-Error-Code": "RevisionNotFound"})
        siblings = []
        for name, data in self.hub.commits[commit].items():
            sibling: dict[str, object] = {"rfilename": name, "size": self.hub.sizes.get(name, len(data))}
            sibling["blobId"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            if is_lfs(name):
                sibling["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            siblings.append(sibling)
        body = json.dumps({"id": "org/model", "modelId": "org/model", "sha": commit, "siblings": siblings}).encode()
        return self._answer(200, {"Content-Type": "application/json"}, body)

    def _resolve(self, parts: list[str], name: str) -> None:
        # org/model/resolve/COMMIT/NAME
        if self._denied():
            return None
        files = self.hub.commits.get(parts[3], {})
        if name not in files:
            return self._answer(404, {"X-Error-Code": "EntryNotFound"})
        data = files[name]
        headers = {"X-Repo-Commit": parts[3], "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}
        if is_lfs(name):
            location = f"{self.hub.cdn}/{parts[3]}/{name}?Signature={SIGNATURE}"
            linked = {"X-Linked-Size": str(len(data)), "X-Linked-ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
            return self._answer(302, headers | linked | {"Location": location})
        return self._file(name, data, headers)

    def _file(self, name: str, data: bytes, headers: dict[str, str]) -> None:
        start = 0
        wanted = self.headers.get("Range", "")
        if wanted and not self.hub.faults.ignores_ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        body = data[start:]
        if self.hub.faults.flips.get(name, 0) > 0:
            self.hub.faults.flips[name] -= 1
            body = bytes([body[0] ^ 1]) + body[1:]
        self.send_response(206 if start else 200)
        for key, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(key, value)
        self.end_headers()
        cut = self.hub.take(self.hub.faults.cuts, name)
        if self.hub.faults.stall and not self.hub.faults.stall.is_set():
            half = len(body) // 2
            self.wfile.write(body[:half])
            self.wfile.flush()
            self.hub.half_way.set()
            self.hub.faults.stall.wait(60)
            body = body[half:]
        self.hub.served[name] += len(body[:cut])  # before a client can have it and look
        try:
            self.wfile.write(body[:cut])
        except OSError:
            self.close_connection = True
        if cut is not None:
            self.close_connection = True

    def _answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)
