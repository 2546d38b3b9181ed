"""What is kept, and what the database itself enforces whoever writes, and however many at once.

- A model has at most one active version: `active` has one row a model.
- A version that is active, has an alias or is in use can't go: foreign keys that restrict.
- A name of a version is given once: `versions`, and `retired` for those that were deleted.
- A file that belongs to an artifact, and an artifact that belongs to a version, can't go either.

Names are keys, for they never change. The tables are made by the migrations; a test compares them with these.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Moment(TypeDecorator[datetime]):
    """A time in UTC. SQLite keeps no time zone, so it is put back on."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class Base(DeclarativeBase):
    """All tables. Constraints have names by rule, so that migrations can change them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own form
        str: String(255),
        int: BigInteger(),
        datetime: Moment(),
        dict[str, Any]: JSON(),
        list[str]: JSON(),
    }


def _version_key() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.name"], ondelete="RESTRICT")


class ModelRow(Base):
    """A model. Whoever changes anything of it locks this row first."""

    __tablename__ = "models"

    name: Mapped[str] = mapped_column(primary_key=True)
    description: Mapped[str] = mapped_column(Text)
    generation: Mapped[int]
    """Grows with what its ETag covers."""
    created_at: Mapped[datetime]
    created_by: Mapped[str]


class VersionRow(Base):
    """A version; no row is ever changed."""

    __tablename__ = "versions"
    __table_args__ = (
        CheckConstraint("(source IS NULL) <> (artifact IS NULL)", name="one_content"),
        UniqueConstraint("model", "number"),
    )

    model: Mapped[str] = mapped_column(ForeignKey("models.name", ondelete="RESTRICT"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int]
    """In the order of registration."""
    source: Mapped[str | None] = mapped_column(String(1024))
    artifact: Mapped[str | None] = mapped_column(ForeignKey("artifacts.id", ondelete="RESTRICT"), index=True)
    digest: Mapped[str | None]
    format: Mapped[str]
    engine: Mapped[dict[str, Any]]
    labels: Mapped[dict[str, Any]]
    metrics: Mapped[dict[str, Any]]
    description: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]
    created_by: Mapped[str]


class RetiredRow(Base):
    """The name of a version that was deleted, and the number it had."""

    __tablename__ = "retired"

    model: Mapped[str] = mapped_column(ForeignKey("models.name", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int]


class ActiveRow(Base):
    """The active version of a model: the primary key allows one."""

    __tablename__ = "active"
    __table_args__ = (_version_key(),)

    model: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str]
    activation: Mapped[int]
    """The history's entry that made it active."""


class AliasRow(Base):
    """A name for a version that may be moved to another."""

    __tablename__ = "aliases"
    __table_args__ = (_version_key(),)

    model: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str]


class UseRow(Base):
    """A holder, such as a service, that needs a version to stay."""

    __tablename__ = "uses"
    __table_args__ = (_version_key(),)

    model: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


class ActivationRow(Base):
    """An entry of a model's history; no row is ever changed."""

    __tablename__ = "activations"

    model: Mapped[str] = mapped_column(ForeignKey("models.name", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    version: Mapped[str]
    former: Mapped[str | None]
    before: Mapped[int | None]
    """The entry that a rollback of this one goes back to."""
    at: Mapped[datetime]
    by: Mapped[str] = mapped_column(Text)
    key: Mapped[str]
    reason: Mapped[str] = mapped_column(Text)


class UploadRow(Base):
    """A file on its way or arrived."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int]
    offset: Mapped[int]
    expected: Mapped[str | None] = mapped_column(index=True)
    """The SHA-256 that the client announced."""
    sha256: Mapped[str | None]
    """Of the whole file, once that has been checked."""
    touched_at: Mapped[datetime]
    created_by: Mapped[str]


class PartRow(Base):
    """Some bytes of an upload, as an object of the storage that is never changed."""

    __tablename__ = "parts"

    upload: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True)
    offset: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[int]
    key: Mapped[str] = mapped_column(unique=True)


class FileRow(Base):
    """A whole file: the parts of one upload, one after the other."""

    __tablename__ = "files"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int]
    upload: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="RESTRICT"), unique=True)
    used_at: Mapped[datetime]
    """When somebody last uploaded it, or deleted an artifact with it."""


class ArtifactRow(Base):
    """A list of files under an id."""

    __tablename__ = "artifacts"

    id: Mapped[str] = mapped_column(primary_key=True)
    format: Mapped[str]
    size: Mapped[int]
    digest: Mapped[str]
    created_at: Mapped[datetime]
    created_by: Mapped[str]


class ArtifactFileRow(Base):
    """A file in an artifact."""

    __tablename__ = "artifact_files"

    artifact: Mapped[str] = mapped_column(ForeignKey("artifacts.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey("files.sha256", ondelete="RESTRICT"), index=True)


class KeyRow(Base):
    """An API key, by its hash."""

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(unique=True)
    scopes: Mapped[list[str]]
    description: Mapped[str] = mapped_column(Text)
    limits: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    expires_at: Mapped[datetime | None]
    rotated_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class CounterRow(Base):
    """A number that grows. `keys` counts the changes of keys; whoever changes one locks this row first."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int]


class OutcomeRow(Base):
    """What became of an experiment; no row is ever changed."""

    __tablename__ = "outcomes"

    id: Mapped[str] = mapped_column(primary_key=True)
    outcome: Mapped[str]
    evidence: Mapped[dict[str, Any]]
    decided_at: Mapped[datetime]
    recorded_at: Mapped[datetime]
    recorded_by: Mapped[str]
