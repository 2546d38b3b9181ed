"""The chart as Helm renders it: objects to look at, or the words in which it refuses values."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parents[2] / "charts" / "tandem"
RELEASE = "tandem"
NAMESPACE = "tandem-system"

Object = dict[str, Any]
Values = Mapping[str, Any]


class Refused(Exception):
    """Helm would not render; the text is what it says."""


@dataclass(frozen=True, slots=True)
class Objects:
    """What a release holds."""

    items: tuple[Object, ...]

    def one(self, kind: str, name: str) -> Object:
        """The only object of a kind and a name."""
        found = [item for item in self.items if (item["kind"], item["metadata"]["name"]) == (kind, name)]
        assert len(found) == 1, f"{len(found)} of {kind} {name} in {sorted(self.names)}"
        return found[0]

    def of(self, *kinds: str) -> list[Object]:
        return [item for item in self.items if item["kind"] in kinds]

    @property
    def names(self) -> set[str]:
        """kind/name of each."""
        return {f"{item['kind']}/{item['metadata']['name']}" for item in self.items}

    @property
    def pods(self) -> dict[str, Object]:
        """Pod templates, by the kind and name of what makes the pods."""
        return {f"{i['kind']}/{i['metadata']['name']}": i["spec"]["template"] for i in self.of("Deployment", "Job")}

    def container(self, deployment: str) -> Object:
        """The only container of a Deployment."""
        (container,) = self.one("Deployment", deployment)["spec"]["template"]["spec"]["containers"]
        found: Object = container
        return found

    @property
    def settings(self) -> Object:
        """What the operator is told."""
        (config,) = [c for c in self.of("ConfigMap") if "settings.yaml" in c["data"]]
        told: Object = yaml.safe_load(config["data"]["settings.yaml"])
        return told


@dataclass(frozen=True, slots=True)
class Chart:
    """The chart, and the helm that renders it."""

    helm: str
    _rendered: dict[str, str] = field(default_factory=dict, compare=False, repr=False)
    """What was rendered before, by arguments: the same values in many tests take helm's second once."""

    def render(self, values: Values | None = None, *, release: str = RELEASE, namespace: str = NAMESPACE) -> Objects:
        """All objects of an installation with `values`, tests and notes left out.

        Raises:
            Refused: the values are refused.
        """
        asked = json.dumps([values, release, namespace], sort_keys=True)
        if (text := self._rendered.get(asked)) is None:
            words = ("template", release, str(CHART), f"--namespace={namespace}", "--values=-")
            text = self._rendered[asked] = self._run(*words, given=values)
        # libyaml's reader: the other takes longer for the resource's schema than helm for the whole chart.
        return Objects(tuple(item for item in yaml.load_all(text, yaml.CSafeLoader) if item))

    def refusal(self, values: Values) -> str:
        """What is said to values that must be refused."""
        try:
            self.render(values)
        except Refused as refused:
            return str(refused)
        raise AssertionError(f"Helm takes {values}")

    def notes(self, values: Values | None = None) -> str:
        """What is said after an installation."""
        return self._run(
            *("install", RELEASE, str(CHART), f"--namespace={NAMESPACE}", "--values=-", "--dry-run=client"),
            given=values,
        ).partition("NOTES:")[2]

    def lint(self, values: Values | None = None) -> str:
        return self._run("lint", "--strict", str(CHART), "--values=-", given=values)

    def _run(self, *args: str, given: Values | None) -> str:
        answer = subprocess.run(
            [self.helm, *args], input=json.dumps(given or {}), capture_output=True, text=True, timeout=60, check=False
        )
        if answer.returncode:
            raise Refused(answer.stderr + answer.stdout)
        return answer.stdout
