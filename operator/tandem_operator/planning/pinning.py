"""What a version runs, decided once: the image where it names none, and the commit where its source moves.

A revision remembers in status what was asked for when it was made, and what that was resolved to. The same asked for
again means that revision: neither another default image of another release nor a branch that went on restarts a worker,
and whoever goes back to a former spec goes back to the very workers that still run for it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tandem_api.inference_service import InferenceService, Source, VersionSpec
from tandem_api.inference_service.status import RevisionState, VersionState

from tandem_operator.planning.actions import Resolve
from tandem_operator.planning.observed import Resolution
from tandem_operator.planning.resolving import EffectiveVersion, Settings, resolve
from tandem_operator.planning.revisions import revision_of

_COMMIT: Final = re.compile("[0-9a-f]{40}")
_AS_ASKED: Final = Settings(vllm_image="", virtual_image="")


@dataclass(frozen=True, slots=True)
class Pinned:
    """A version whose revision is known."""

    effective: EffectiveVersion
    revision: str
    asked: str
    """A hash of what was asked for."""
    doubt: str = ""
    """Why the source could not be pinned, if so."""


def pin(
    service: InferenceService,
    version: VersionSpec,
    settings: Settings,
    last: VersionState | None,
    sources: Mapping[str, Resolution],
) -> Pinned | Resolve:
    """The version as it is to run; or what has to be found out first."""
    asked = revision_of(resolve(service, version, _AS_ASKED))
    if state := _remembered(asked, last):
        effective = resolve(service, version, settings, source=state.source or None, image=state.image or None)
        return Pinned(effective, state.name, asked)
    found = Resolution(resolved=version.source)
    if version.source is not None and moves(version):
        if version.source not in sources:
            return Resolve(version.source, version.source_secret.name if version.source_secret else None)
        found = sources[version.source]
    effective = resolve(service, version, settings, source=found.resolved)
    return Pinned(effective, revision_of(effective), asked, found.error)


def moves(version: VersionSpec) -> bool:
    """Its source may stand for something else tomorrow, and its workers fetch it."""
    if version.source is None or not version.engine.fetches:
        return False
    source = Source.parse(version.source)
    return source.scheme == "hf" and _COMMIT.fullmatch(source.revision) is None


def _remembered(asked: str, last: VersionState | None) -> RevisionState | None:
    if last is None:
        return None
    known = [state for state in last.revisions if state.asked == asked]
    return next((state for state in known if state.name == last.revision), known[0] if known else None)
