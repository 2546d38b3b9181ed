"""What commands say when a router answers, but not as they hoped."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner, Result
from tandem_cli.main import main

EVENT = 'data: {"choices": [{"delta": {"content": "Hello"}}]}\n\n'


class Router:
    """Answers every request alike; close=True breaks the connection off instead of ending the answer."""

    def __init__(self) -> None:
        self.status, self.body, self.broken = 200, "", False
        router = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                self.send_response(router.status)
                self.send_header("content-length", str(len(router.body) + router.broken))
                self.end_headers()
                self.wfile.write(router.body.encode())

            do_POST = do_GET  # noqa: N815 - the library's name

            def log_message(self, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def router() -> Iterator[Router]:
    made = Router()
    try:
        yield made
    finally:
        made.close()


def call(router: Router, *args: str) -> Result:
    return CliRunner().invoke(main, args, env={"TANDEM_URL": router.url})


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("overloaded", "try again in a moment"),
        ("unavailable", "`tandem status --workers` shows which workers are missing"),
        ("model_not_found", "`tandem models` lists what is served"),
    ],
)
def test_a_routers_error_is_shown_with_what_to_do(router: Router, code: str, hint: str) -> None:
    router.status = 503
    router.body = json.dumps({"error": {"message": "No.", "type": "t", "param": None, "code": code}})
    result = call(router, "chat", "hi", "--model", "m")
    assert result.exit_code == 1
    assert result.output.startswith("Error: No.\nWhat to do: ")
    assert hint in result.output


@pytest.mark.parametrize("command", [("models",), ("status",), ("chat", "hi")])
def test_a_server_that_is_no_router_is_told_as_such(router: Router, command: tuple[str, ...]) -> None:
    for router.status, router.body in [(200, "<html>"), (404, "<html>"), (500, '{"error": "no"}'), (200, "[]")]:
        result = call(router, *command)
        assert result.exit_code == 1
        assert "router" in result.output
        assert "Traceback" not in result.output


def test_a_router_that_serves_nothing_is_told_how_to_serve(router: Router) -> None:
    router.body = '{"object": "list", "data": []}'
    assert "start one with `tandem up -f FILE`" in call(router, "models").output
    result = call(router, "chat", "hi")
    assert (result.exit_code, "serves no model" in result.output) == (1, True)


@pytest.mark.parametrize(
    ("body", "broken", "says"),
    [
        (EVENT, False, "the answer broke off before its end"),
        (EVENT, True, "broke"),
        (EVENT + 'data: {"error": {"message": "a worker was lost"}}\n\ndata: [DONE]\n\n', False, "a worker was lost"),
        ("data: {broken\n\n", False, "the answer is not as the API says"),
    ],
)
def test_an_answer_that_breaks_off_is_never_a_silent_end(router: Router, body: str, broken: bool, says: str) -> None:
    router.body, router.broken = body, broken
    result = call(router, "chat", "hi", "--model", "m")
    assert result.exit_code == 1
    assert says in result.output
    assert "Traceback" not in result.output


def test_an_answer_without_timing_has_an_account_without_it(router: Router) -> None:
    router.body = EVENT + 'data: {"choices": [], "usage": {"completion_tokens": 5}}\n\ndata: [DONE]\n\n'
    result = call(router, "chat", "hi", "--model", "m")
    assert result.exit_code == 0
    assert result.stdout == "Hello\n"
    assert result.stderr.startswith("first token ")
    assert result.stderr.endswith("· 5 tokens\n")
