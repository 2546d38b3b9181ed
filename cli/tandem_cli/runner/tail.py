"""The end of a log, for people: what a container said last."""

import json
import re
from pathlib import Path
from typing import Any, Final

_VLLM_PREFIX: Final = re.compile(r"^(\(\w+ pid=\d+\) )?(\w+) \d\d-\d\d \d\d:\d\d:\d\d (\[[^]]*\] )*")


def last_lines(log: Path, count: int, limit: int = 64 * 1024) -> list[str]:
    """The last `count` lines that are not blank, from the last `limit` bytes; none where there is no log yet."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - limit))
            data = file.read()
    except FileNotFoundError:
        return []
    # Progress bars redraw a line after a carriage return: what stands last is what a terminal would show.
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in data.decode(errors="replace").split("\n")]
    return [line for line in lines if line][-count:]


def readable(line: str) -> str:
    """A line as a person would want it: of a JSON line its message, of vLLM's own what follows who, when and where."""
    if not line.startswith("{"):
        return _VLLM_PREFIX.sub("", line)
    try:
        entry: dict[str, Any] = json.loads(line)
    except ValueError:
        return line
    message = entry.get("message")
    if not isinstance(message, str):
        return line
    error = str(entry.get("error") or entry.get("exception") or "").strip()
    # Of a traceback the last line says what is wrong; the log has all of it.
    error = error.rpartition("\n")[2]
    text = " ".join(part for part in (entry.get("step"), message) if part)
    if entry.get("total_bytes"):
        text += f" ({entry['bytes'] * 100 // entry['total_bytes']} %)"
    said = error.partition(": ")[2] or error
    return text if text.endswith(said) else f"{text}: {error}"
