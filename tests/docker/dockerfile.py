"""The Dockerfile as its builder reads it: stages, each with what it inherits."""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"


@dataclass(slots=True)
class Stage:
    """One FROM and what follows it."""

    name: str
    parent: str
    """Another stage's name, or an image."""
    instructions: list[tuple[str, str]] = field(default_factory=list)
    """Keyword and the rest of the line."""

    def all(self, keyword: str) -> list[str]:
        return [rest for word, rest in self.instructions if word == keyword]


def stages(text: str) -> dict[str, Stage]:
    """By name, in order."""
    found: dict[str, Stage] = {}
    for line in re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n?", "", text)).splitlines():
        if not line.strip():
            continue
        keyword, _, rest = line.strip().partition(" ")
        if keyword == "FROM":
            parent, _, name = rest.split()
            found[name] = stage = Stage(name, parent)
        else:
            stage.instructions.append((keyword, rest.strip()))
    return found


def lineage(found: dict[str, Stage], name: str) -> list[Stage]:
    """A stage and what it is made from, the oldest first."""
    line: list[Stage] = []
    while name in found:
        line.insert(0, found[name])
        name = found[name].parent
    return line


def environment(line: list[Stage]) -> dict[str, str]:
    """Variables of the last stage of a lineage."""
    return dict(pair.partition("=")[::2] for stage in line for rest in stage.all("ENV") for pair in shlex.split(rest))


def installs(stage: Stage) -> list[list[str]]:
    """Arguments of each `uv pip install` of a stage."""
    commands = [shlex.split(rest) for rest in stage.all("RUN")]
    return [words[3:] for words in commands if words[:3] == ["uv", "pip", "install"]]
