"""What a version runs, decided once: the image where it names none, the commit or registered version of its source.

A revision remembers in status what was asked for when it was made, and what that was resolved to. The same asked for
again means that revision: neither another default image of another release nor a branch that went on restarts a worker,
and whoever goes back to a former spec goes back to the very workers that still run for it.

`registry://NAME` asks for whatever is active. It is read as the registered version that it stands for at this moment:
another one being activated is another thing being asked for, and so a rollout. While the registry can't be asked, it is
what it was when last asked. A registered version brings arguments of the engine along; as it never changes, neither do
they.
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
_PINNED: Final = "?sha256="
_AS_ASKED: Final = Settings(vllm_image="", virtual_image="")


@dataclass(frozen=True, slots=True)
class Pinned:
    """A version whose revision is known."""

    effective: EffectiveVersion
    revision: str
    asked: str
    """A hash of what was asked for."""
    registered: str = ""
    """The registered version that it is, as NAME/VERSION; empty: its source is none of the registry's."""
    args: tuple[str, ...] = ()
    """Of the engine, that the registered version brings along."""
    doubt: str = ""
    """Why the source could not be pinned, or not be followed further, if so."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A version of which it is not known yet what it runs."""

    source: str
    resolve: Resolve | None = None
    """What to ask the hub; None: the registry is being asked (`Plan.follow`)."""
    error: str = ""
    """Why it can't be told, if that was tried."""


def pin(
    service: InferenceService,
    version: VersionSpec,
    settings: Settings,
    last: VersionState | None,
    sources: Mapping[str, Resolution],
) -> Pinned | Unknown:
    """The version as it is to run; or what has to be found out first."""
    source, registered, doubt, answer = version.source, "", "", None
    if source is not None and followed(version, settings):
        answer = sources.get(source)
        registered, doubt = _stands_for(source, answer, last)
        if not registered:
            return Unknown(source, error=doubt)
        source = f"registry://{registered}"
    elif source is not None:
        registered = _named(source)
    asked = revision_of(resolve(service, version, _AS_ASKED, source=source))
    if state := _remembered(asked, last):
        args = state.registered_args
        effective = resolve(
            service, version, settings, source=state.source or None, image=state.image or None, args=args
        )
        return Pinned(effective, state.name, asked, registered, args, doubt)
    args = ()
    if version.source is not None and followed(version, settings):
        content = _content(registered, last, answer)
        if content is None:
            return Unknown(version.source, error=doubt)
        source, args = content
    if source is not None and version.engine.fetches and _moves(source):
        if source not in sources:
            return Unknown(source, Resolve(source, version.source_secret.name if version.source_secret else None))
        found = sources[source]
        source, doubt = found.resolved or source, found.error
    effective = resolve(service, version, settings, source=source, args=args)
    return Pinned(effective, revision_of(effective), asked, registered, args, doubt)


def followed(version: VersionSpec, settings: Settings) -> bool:
    """The registry has to say what its source is. In rehearsals it may do so, where there is one."""
    if version.source is None or _PINNED in version.source:
        return False
    asks = version.engine.fetches or settings.registry_url is not None
    return asks and Source.parse(version.source).scheme == "registry"


def keeps_moving(source: str) -> bool:
    """It may stand for another registered version tomorrow."""
    return not _named(source)


def _named(source: str) -> str:
    """The registered version that a source names itself, as NAME/VERSION."""
    parts = Source.parse(source)
    return f"{parts.authority}/{parts.path}" if parts.scheme == "registry" and parts.path else ""


def _stands_for(source: str, answer: Resolution | None, last: VersionState | None) -> tuple[str, str]:
    """The registered version that a source stands for, and why that may not be so any more."""
    if answer is not None and answer.registered:
        return answer.registered, ""
    error = answer.error if answer is not None else ""
    recorded = last.registered if last is not None and last.follows == source else ""
    return _named(source) or recorded, error


def _content(
    registered: str, last: VersionState | None, answer: Resolution | None
) -> tuple[str, tuple[str, ...]] | None:
    """Where a registered version's content is, and its arguments: what any of its revisions has holds for good."""
    for one in last.revisions if last is not None else ():
        if one.registered == registered and one.source:
            return one.source, one.registered_args
    if answer is None or answer.resolved is None:
        return None
    return answer.resolved, answer.args


def _moves(source: str) -> bool:
    """It may stand for another commit tomorrow."""
    parts = Source.parse(source)
    return parts.scheme == "hf" and _COMMIT.fullmatch(parts.revision) is None


def _remembered(asked: str, last: VersionState | None) -> RevisionState | None:
    if last is None:
        return None
    known = [state for state in last.revisions if state.asked == asked]
    return next((state for state in known if state.name == last.revision), known[0] if known else None)
