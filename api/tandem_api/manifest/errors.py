"""What is wrong with a manifest file."""

from collections.abc import Sequence
from dataclasses import dataclass

from tandem_api.inference_service.rules import Location, path_text


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file, counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem."""

    position: Position
    location: Location
    """The field; empty where the problem is the document's."""
    message: str

    @property
    def path(self) -> str:
        """The field as people write it: spec.versions[1].weight."""
        return path_text(self.location)


class ManifestError(ValueError):
    """A file can't be used. Its text has one line for each problem: file:line:column: path: what, and what to do."""

    def __init__(self, file: str, findings: Sequence[Finding]) -> None:
        self.file = file
        self.findings = tuple(sorted(findings, key=lambda finding: finding.position))
        super().__init__("\n".join(self._line(finding) for finding in self.findings))

    def _line(self, finding: Finding) -> str:
        at = f"{self.file}:{finding.position.line}:{finding.position.column}"
        return ": ".join(part for part in (at, finding.path, finding.message) if part)
