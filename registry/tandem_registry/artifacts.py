"""Artifacts: lists of files under an id, made in one step when all their files are there."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from tandem_api.registry import Artifact, ArtifactFile, NewArtifact, Page, artifact_digest

from tandem_registry.access import Caller
from tandem_registry.database import Database
from tandem_registry.failures import Failure, conflict, invalid, not_found
from tandem_registry.paging import paged
from tandem_registry.storage import Storage
from tandem_registry.tables import ArtifactFileRow, ArtifactRow, FileRow, PartRow, VersionRow


@dataclass(frozen=True, slots=True)
class Part:
    """Some bytes of a file, and the object that has them."""

    key: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Content:
    """A file's bytes."""

    sha256: str
    size: int
    parts: tuple[Part, ...]

    def read(self, storage: Storage, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` to before `end`.

        Raises:
            StorageFailed: the storage does not answer, or lacks them.
        """
        for part in self.parts:
            first, last = max(start, part.offset), min(end, part.offset + part.size)
            if first < last:
                yield from storage.read(part.key, first - part.offset, last - part.offset)


class Artifacts:
    """Reads and writes artifacts."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def put(self, id: str, given: NewArtifact, caller: Caller) -> tuple[Artifact, bool]:
        """Makes an artifact of files that are there; tells whether it is there only now.

        Raises:
            Failure: 409 where there is another one of that id, or files are missing; 400 where they are no model, or
                not those that the digest says.
        """
        _check_files(given)
        try:
            return self._try_put(id, given, caller)
        except IntegrityError:  # Somebody made it, or a file was swept, at this very moment.
            return self._try_put(id, given, caller)

    def _try_put(self, id: str, given: NewArtifact, caller: Caller) -> tuple[Artifact, bool]:
        digest = artifact_digest(given.files)
        with self._database.writing() as session:
            present = session.get(ArtifactRow, id)
            if present is not None:
                if (present.digest, present.format) != (digest, given.format):
                    raise conflict(
                        "already_exists",
                        f"artifact {id!r} is there with other content ({present.digest}): choose another id",
                    )
                return shapes(session, [present])[0], False
            wanted = {file.sha256 for file in given.files}
            sizes = {row.sha256: row.size for row in session.scalars(select(FileRow).where(FileRow.sha256.in_(wanted)))}
            missing = sorted(file.name for file in given.files if file.sha256 not in sizes)
            if missing:
                more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
                raise conflict("files_missing", f"not uploaded yet: {', '.join(missing[:3])}{more}", "files")
            row = ArtifactRow(
                id=id,
                format=given.format,
                size=sum(sizes[file.sha256] for file in given.files),
                digest=digest,
                created_at=self._clock(),
                created_by=caller.key,
            )
            session.add(row)
            session.flush()
            session.add_all(ArtifactFileRow(artifact=id, name=file.name, sha256=file.sha256) for file in given.files)
            session.flush()
            return shapes(session, [row])[0], True

    def get(self, id: str) -> Artifact:
        """An artifact.

        Raises:
            Failure: 404.
        """
        with self._database.reading() as session:
            row = session.get(ArtifactRow, id)
            if row is None:
                raise _missing(id)
            return shapes(session, [row])[0]

    def page(self, limit: int, cursor: str | None) -> Page[Artifact]:
        """Artifacts by id."""
        with self._database.reading() as session:
            return paged(
                session, select(ArtifactRow), ArtifactRow.id, limit, cursor, lambda rows: shapes(session, rows)
            )

    def delete(self, id: str) -> None:
        """Removes an artifact. Its files go later, if no other has them: downloads that run come to their end.

        Raises:
            Failure: 404; 409 while versions have it: the database refuses that, too.
        """
        try:
            with self._database.writing() as session:
                row = session.get(ArtifactRow, id, with_for_update=True)
                if row is None:
                    raise _missing(id)
                users = session.scalars(select(VersionRow).where(VersionRow.artifact == id).limit(5)).all()
                if users:
                    raise _referenced(id, [f"{user.model}/{user.name}" for user in users])
                its_files = select(ArtifactFileRow.sha256).where(ArtifactFileRow.artifact == id)
                session.execute(
                    update(FileRow).where(FileRow.sha256.in_(its_files)).values(used_at=self._clock()),
                    execution_options={"synchronize_session": False},
                )
                session.delete(row)
        except IntegrityError:
            raise _referenced(id, ["a version that was registered at this moment"]) from None

    def content(self, sha256: str) -> Content:
        """A file's bytes.

        Raises:
            Failure: 404.
        """
        with self._database.reading() as session:
            row = session.get(FileRow, sha256)
            if row is None:
                raise not_found(f"file with SHA-256 {sha256}")
            parts = session.scalars(select(PartRow).where(PartRow.upload == row.upload).order_by(PartRow.offset))
            return Content(row.sha256, row.size, tuple(Part(part.key, part.offset, part.size) for part in parts))


def shapes(session: Session, rows: Sequence[ArtifactRow]) -> list[Artifact]:
    """Artifacts with their files."""
    files: dict[str, list[ArtifactFile]] = defaultdict(list)
    listed = (
        select(ArtifactFileRow.artifact, ArtifactFileRow.name, FileRow.size, FileRow.sha256)
        .join(FileRow, FileRow.sha256 == ArtifactFileRow.sha256)
        .where(ArtifactFileRow.artifact.in_([row.id for row in rows]))
    )
    for artifact, name, size, sha256 in session.execute(listed):
        files[artifact].append(ArtifactFile(name=name, size=size, sha256=sha256))
    return [
        Artifact.model_validate(
            {
                "id": row.id,
                "format": row.format,
                "size": row.size,
                "digest": row.digest,
                "files": tuple(sorted(files[row.id], key=lambda file: file.name)),
                "created_at": row.created_at,
                "created_by": row.created_by,
            }
        )
        for row in rows
    ]


def _check_files(given: NewArtifact) -> None:
    names = {file.name for file in given.files}
    suffix = f".{given.format}"
    if not any(name.endswith(suffix) for name in names):
        raise invalid(f"files: format {given.format} needs a file that ends with {suffix}", "files")
    if given.format == "safetensors" and not {"config.json", "params.json"} & names:
        raise invalid("files: a safetensors model needs its config.json", "files")
    digest = artifact_digest(given.files)
    if given.digest not in (None, digest):
        raise invalid(f"digest: these files have {digest}, not {given.digest}", "digest", "digest_mismatch")


def _missing(id: str) -> Failure:
    return not_found(f"artifact {id!r}", "GET /admin/v1/repository/models lists those that are")


def _referenced(id: str, users: list[str]) -> Failure:
    return conflict("artifact_referenced", f"artifact {id!r} belongs to {', '.join(users)}: delete that first")
