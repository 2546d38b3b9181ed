"""Models and their aliases."""

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from tandem_api.registry import ChangeModel, Model, NewModel, Page

from tandem_registry.access import Caller
from tandem_registry.database import Database
from tandem_registry.failures import Failure, conflict, not_found
from tandem_registry.paging import paged
from tandem_registry.preconditions import check_match
from tandem_registry.tables import ActiveRow, AliasRow, ModelRow, VersionRow


class Models:
    """Reads and writes models."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def create(self, given: NewModel, caller: Caller) -> Model:
        """Makes a model without versions.

        Raises:
            Failure: 409, there is one of that name.
        """
        try:
            with self._database.writing() as session:
                session.add(
                    ModelRow(
                        name=given.name,
                        description=given.description,
                        generation=1,
                        created_at=self._clock(),
                        created_by=caller.key,
                    )
                )
        except IntegrityError:
            raise conflict("already_exists", f"there is a model {given.name!r} already", "name") from None
        return self.get(given.name)[0]

    def get(self, name: str) -> tuple[Model, str]:
        """A model and its ETag.

        Raises:
            Failure: 404.
        """
        with self._database.reading() as session:
            row = session.get(ModelRow, name)
            if row is None:
                raise _missing(name)
            return _shapes(session, [row])[0], etag(row)

    def page(self, limit: int, cursor: str | None) -> Page[Model]:
        """Models by name."""
        with self._database.reading() as session:
            return paged(session, select(ModelRow), ModelRow.name, limit, cursor, lambda rows: _shapes(session, rows))

    def change(self, name: str, given: ChangeModel, if_match: str | None) -> None:
        """Changes the description.

        Raises:
            Failure: 404, 412, 428.
        """
        with self._database.writing() as session:
            row = locked(session, name)
            check_match(if_match, etag(row), f"model {name!r}")
            row.description = given.description
            row.generation += 1

    def delete(self, name: str, if_match: str | None) -> None:
        """Removes a model and its history.

        Raises:
            Failure: 404, 412, 428; 409 while it has versions.
        """
        with self._database.writing() as session:
            row = locked(session, name)
            check_match(if_match, etag(row), f"model {name!r}")
            if session.scalar(select(VersionRow.name).where(VersionRow.model == name).limit(1)) is not None:
                raise conflict("in_use", f"model {name!r} has versions: delete them first")
            session.delete(row)

    def set_alias(self, name: str, alias: str, version: str, if_match: str | None) -> None:
        """Makes an alias stand for a version.

        Raises:
            Failure: 404 for the model or the version, 412, 428.
        """
        with self._database.writing() as session:
            row = locked(session, name)
            check_match(if_match, etag(row), f"model {name!r}")
            require_version(session, name, version)
            session.merge(AliasRow(model=name, name=alias, version=version))
            row.generation += 1

    def delete_alias(self, name: str, alias: str, if_match: str | None) -> None:
        """Removes an alias; the version stays.

        Raises:
            Failure: 404 for the model or the alias, 412, 428.
        """
        with self._database.writing() as session:
            row = locked(session, name)
            check_match(if_match, etag(row), f"model {name!r}")
            gone = session.execute(
                delete(AliasRow).where(AliasRow.model == name, AliasRow.name == alias).returning(AliasRow.name)
            )
            if gone.first() is None:
                raise not_found(f"alias {alias!r} of model {name!r}")
            row.generation += 1


def etag(row: ModelRow) -> str:
    """Of a model: another one for each state, and for a model that was deleted and made again."""
    return f'"{row.generation}-{int(row.created_at.timestamp() * 1000):x}"'


def locked(session: Session, name: str) -> ModelRow:
    """A model's row, which no other transaction changes until this one ends.

    Raises:
        Failure: 404.
    """
    row = session.get(ModelRow, name, with_for_update=True)
    if row is None:
        raise _missing(name)
    return row


def require_version(session: Session, model: str, version: str) -> VersionRow:
    """A version's row.

    Raises:
        Failure: 404.
    """
    row = session.get(VersionRow, (model, version))
    if row is None:
        raise not_found(
            f"version {version!r} of model {model!r}", f"GET /admin/v1/registry/models/{model}/versions lists them"
        )
    return row


def _missing(name: str) -> Failure:
    return not_found(f"model {name!r}", "GET /admin/v1/registry/models lists those that are")


def _shapes(session: Session, rows: Sequence[ModelRow]) -> list[Model]:
    names = [row.name for row in rows]
    active = {row.model: row.version for row in session.scalars(select(ActiveRow).where(ActiveRow.model.in_(names)))}
    aliases: dict[str, dict[str, str]] = {}
    for alias in session.scalars(select(AliasRow).where(AliasRow.model.in_(names)).order_by(AliasRow.name)):
        aliases.setdefault(alias.model, {})[alias.name] = alias.version
    return [
        Model(
            name=row.name,
            description=row.description,
            active=active.get(row.name),
            aliases=aliases.get(row.name, {}),
            created_at=row.created_at,
            created_by=row.created_by,
        )
        for row in rows
    ]
