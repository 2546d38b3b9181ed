"""Versions: registered once, never changed, deleted only when nothing needs them."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import cast

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from tandem_api.registry import Format, NewVersion, Page, Use, Version

from tandem_registry.access import Caller
from tandem_registry.database import Database
from tandem_registry.failures import conflict, invalid, not_found
from tandem_registry.models import locked, require_version
from tandem_registry.paging import paged
from tandem_registry.tables import ActiveRow, AliasRow, ArtifactRow, RetiredRow, UseRow, VersionRow


class Versions:
    """Reads and writes versions."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def register(self, model: str, given: NewVersion, caller: Caller) -> Version:
        """Makes a version. It is not active.

        Raises:
            Failure: 404 for the model; 409 where the name is or was given; 400 where its artifact is not there, or is
                another than the digest or the format says.
        """
        with self._database.writing() as session:
            locked(session, model)
            if session.get(VersionRow, (model, given.name)) is not None:
                raise conflict("already_exists", f"model {model!r} has a version {given.name!r} already", "name")
            if session.get(RetiredRow, (model, given.name)) is not None:
                raise conflict(
                    "name_retired",
                    f"model {model!r} had a version {given.name!r}, which was deleted: its name is not given again, so "
                    "that history stays true. Choose another",
                    "name",
                )
            digest, form = given.digest, given.format
            if given.artifact is not None:
                digest, form = _of_artifact(session, given)
            row = VersionRow(
                model=model,
                name=given.name,
                number=_next_number(session, model),
                source=given.source,
                artifact=given.artifact,
                digest=digest,
                format=form or "safetensors",
                engine=given.engine.model_dump(mode="json"),
                labels=given.labels,
                metrics=given.metrics,
                description=given.description,
                created_at=self._clock(),
                created_by=caller.key,
            )
            session.add(row)
            try:
                session.flush()
            except IntegrityError:  # The artifact went at this very moment.
                raise _no_artifact(given.artifact) from None
            return _shapes(session, [row])[0]

    def get(self, model: str, name: str) -> Version:
        """A version.

        Raises:
            Failure: 404.
        """
        with self._database.reading() as session:
            return _shapes(session, [require_version(session, model, name)])[0]

    def page(self, model: str, limit: int, cursor: str | None) -> Page[Version]:
        """A model's versions, the latest first."""
        with self._database.reading() as session:
            rows = select(VersionRow).where(VersionRow.model == model)
            return paged(
                session, rows, VersionRow.number, limit, cursor, lambda rows: _shapes(session, rows), descending=True
            )

    def delete(self, model: str, name: str) -> None:
        """Removes a version.

        Raises:
            Failure: 404; 409 while it is active, aliased or used: the database refuses that, too.
        """
        with self._database.writing() as session:
            locked(session, model)
            row = require_version(session, model, name)
            shape = _shapes(session, [row])[0]
            if shape.active:
                raise conflict("version_active", f"version {name!r} of {model!r} is active: activate another first")
            if shape.aliases:
                raise conflict(
                    "version_referenced",
                    f"version {name!r} of {model!r} is {', '.join(shape.aliases)}: move or delete that alias first",
                )
            if shape.used_by:
                raise conflict(
                    "version_referenced",
                    f"version {name!r} of {model!r} is used by {', '.join(shape.used_by[:5])}: change that first",
                )
            session.add(RetiredRow(model=model, name=name, number=row.number))
            session.delete(row)

    def use(self, model: str, name: str, holder: str) -> Use:
        """Keeps a version from being deleted until `release`. Saying it again changes nothing.

        Raises:
            Failure: 404.
        """
        with self._database.writing() as session:
            locked(session, model)
            require_version(session, model, name)
            row = session.get(UseRow, (model, name, holder))
            if row is None:
                row = UseRow(model=model, version=name, holder=holder, at=self._clock())
                session.add(row)
            return Use(model=row.model, version=row.version, holder=row.holder, at=row.at)

    def release(self, model: str, name: str, holder: str) -> None:
        """Ends a use.

        Raises:
            Failure: 404.
        """
        with self._database.writing() as session:
            uses = UseRow.model == model, UseRow.version == name, UseRow.holder == holder
            if session.execute(delete(UseRow).where(*uses).returning(UseRow.holder)).first() is None:
                raise not_found(f"use of version {name!r} of {model!r} by {holder!r}")


def _of_artifact(session: Session, given: NewVersion) -> tuple[str, Format]:
    """Digest and format of the artifact, which has to be what was said of it."""
    artifact = session.get(ArtifactRow, given.artifact)
    if artifact is None:
        raise _no_artifact(given.artifact)
    if given.digest not in (None, artifact.digest):
        raise invalid(f"artifact {artifact.id!r} has digest {artifact.digest}, not {given.digest}", "digest")
    if given.format not in (None, artifact.format):
        raise invalid(f"artifact {artifact.id!r} has format {artifact.format}, not {given.format}", "format")
    return artifact.digest, cast("Format", artifact.format)


def _no_artifact(artifact: str | None) -> Exception:
    return invalid(f"there is no artifact {artifact!r} in the repository: upload it first", "artifact")


def _next_number(session: Session, model: str) -> int:
    """One more than that of any version that the model has or had."""
    present = session.scalar(select(func.max(VersionRow.number)).where(VersionRow.model == model)) or 0
    retired = session.scalar(select(func.max(RetiredRow.number)).where(RetiredRow.model == model)) or 0
    return max(present, retired) + 1


def _shapes(session: Session, rows: Sequence[VersionRow]) -> list[Version]:
    """All rows are of one model."""
    if not rows:
        return []
    model = rows[0].model
    names = [row.name for row in rows]
    active = session.scalar(select(ActiveRow.version).where(ActiveRow.model == model))
    aliases: dict[str, list[str]] = defaultdict(list)
    for alias in session.scalars(
        select(AliasRow).where(AliasRow.model == model, AliasRow.version.in_(names)).order_by(AliasRow.name)
    ):
        aliases[alias.version].append(alias.name)
    uses: dict[str, list[str]] = defaultdict(list)
    for use in session.scalars(
        select(UseRow).where(UseRow.model == model, UseRow.version.in_(names)).order_by(UseRow.holder)
    ):
        uses[use.version].append(use.holder)
    return [
        Version.model_validate(
            {
                "model": row.model,
                "name": row.name,
                "source": row.source,
                "artifact": row.artifact,
                "digest": row.digest,
                "format": row.format,
                "engine": row.engine,
                "labels": row.labels,
                "metrics": row.metrics,
                "description": row.description,
                "created_at": row.created_at,
                "created_by": row.created_by,
                "active": row.name == active,
                "aliases": tuple(aliases[row.name]),
                "used_by": tuple(uses[row.name]),
            }
        )
        for row in rows
    ]
