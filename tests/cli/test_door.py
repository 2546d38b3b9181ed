"""Who may use what this command line starts, and keys that it shows."""

import socket
from pathlib import Path

import httpx
import pytest
from tandem_cli.keys import on_loopback

from tests.cli.command import tandem, tandem_up

KEY = "a-key-of-some-length"
ALONE = """
apiVersion: tandem.dev/v1alpha1
kind: InferenceService
metadata: {name: alone}
spec:
  versions: [{name: v1, engine: {type: virtual}}]
  decode: {replicas: 1}
"""


def key_file(folder: Path) -> Path:
    file = folder / "key"
    file.write_text(KEY + "\n")
    return file


def test_a_key_is_asked_for_where_one_is_given_and_commands_show_it(tmp_path: Path) -> None:
    (tmp_path / "alone.yaml").write_text(ALONE)
    file = key_file(tmp_path)
    with tandem_up(tmp_path, "-f", tmp_path / "alone.yaml", "--api-key-file", file) as up:
        assert "No API key is asked for" not in up.errors.read_text()
        assert httpx.get(f"{up.url}/v1/models", timeout=60).status_code == 401
        for command in (("models",), ("status",), ("chat", "Why?", "--max-tokens", "3")):
            refused = tandem(*command, TANDEM_URL=up.url)
            assert refused.returncode == 1, command
            assert "What to do: show one: --key-file FILE, or TANDEM_API_KEY" in refused.stderr, command
            assert tandem(*command, "--key-file", file, TANDEM_URL=up.url).returncode == 0, command
            assert tandem(*command, TANDEM_URL=up.url, TANDEM_API_KEY=KEY).returncode == 0, command
        measured = tandem("bench", up.url, "--requests", "2", "--output-tokens", "2", "--key-file", file)
        assert measured.returncode == 0, measured.stderr


@pytest.mark.parametrize("command", ["up", "demo", "mock"])
def test_an_address_that_others_reach_needs_a_key_or_the_word_that_it_needs_none(command: str) -> None:
    refused = tandem(command, "--host", "0.0.0.0")
    assert refused.returncode == 2
    assert "--api-key-file FILE" in refused.stderr
    assert "--allow-no-auth" in refused.stderr


def test_mock_on_loopback_asks_for_no_key_and_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        # The port is taken, so that it ends at once.
        said = tandem("mock", "--port", str(taken.getsockname()[1]))
    assert said.returncode
    assert "No API key is asked for: whoever reaches 127.0.0.1 may do everything." in said.stderr


@pytest.mark.parametrize(
    ("host", "only_here"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("", False),
        ("::", False),
        ("192.168.1.2", False),
        ("my-laptop", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host: str, only_here: bool) -> None:
    assert on_loopback(host) is only_here
