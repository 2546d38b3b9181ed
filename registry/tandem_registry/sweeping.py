"""Removes what nothing needs: uploads that nobody carried on, files of no artifact, objects that a crash left.

Each is decided by the database in the statement that removes its row, so that what is needed at that very moment stays;
objects go after their rows. Several registries may sweep at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from sqlalchemy import exists, select
from sqlalchemy.exc import IntegrityError

from tandem_registry.database import Database
from tandem_registry.storage import Storage
from tandem_registry.tables import ArtifactFileRow, FileRow, PartRow, UploadRow
from tandem_registry.uploads import FOLDER


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep removed."""

    uploads: int
    files: int
    objects: int
    """That no upload knew."""


class Sweeper:
    """Sweeps."""

    def __init__(self, database: Database, storage: Storage, clock: Callable[[], datetime], *, keep: timedelta) -> None:
        """`keep` is how long an upload rests, and a file is in no artifact, before it goes."""
        self._database = database
        self._storage = storage
        self._clock = clock
        self._keep = keep

    def sweep(self) -> Swept:
        """Once through everything."""
        before = self._clock() - self._keep
        return Swept(self._uploads(before), self._files(before), self._objects())

    def _uploads(self, before: datetime) -> int:
        """Those that are unfinished, and those that brought a file which was there."""
        theirs = exists().where(FileRow.upload == UploadRow.id)
        with self._database.reading() as session:
            old = list(session.scalars(select(UploadRow.id).where(UploadRow.touched_at < before, ~theirs)))
        return sum(self._drop_upload(id, before) for id in old)

    def _drop_upload(self, id: str, before: datetime) -> bool:
        try:
            with self._database.writing() as session:
                row = session.get(UploadRow, id, with_for_update=True)
                if row is None or row.touched_at >= before:
                    return False
                keys = list(session.scalars(select(PartRow.key).where(PartRow.upload == id)))
                session.delete(row)
        except IntegrityError:  # It became a file meanwhile.
            return False
        self._delete(keys)
        return True

    def _files(self, before: datetime) -> int:
        needed = exists().where(ArtifactFileRow.sha256 == FileRow.sha256)
        with self._database.reading() as session:
            unused = list(session.scalars(select(FileRow.sha256).where(FileRow.used_at < before, ~needed)))
        return sum(self._drop_file(sha256, before) for sha256 in unused)

    def _drop_file(self, sha256: str, before: datetime) -> bool:
        try:
            with self._database.writing() as session:
                row = session.get(FileRow, sha256, with_for_update=True)
                if row is None or row.used_at >= before:
                    return False
                upload = session.get_one(UploadRow, row.upload)
                keys = list(session.scalars(select(PartRow.key).where(PartRow.upload == row.upload)))
                session.delete(row)
                session.flush()
                session.delete(upload)
        except IntegrityError:  # An artifact took it meanwhile.
            return False
        self._delete(keys)
        return True

    def _objects(self) -> int:
        """Objects of no part: a crash came between the object and the part, or between the part's end and its own."""
        count = 0
        listed = sorted(self._storage.keys(FOLDER))
        for upload, keys in groupby(listed, key=lambda key: key.split("/")[1]):
            with self._database.reading() as session:
                row = session.get(UploadRow, upload)
                if row is not None and row.sha256 is None:
                    continue  # Somebody may be writing a part of it now.
                known = set(session.scalars(select(PartRow.key).where(PartRow.upload == upload)))
            unknown = [key for key in keys if key not in known]
            self._delete(unknown)
            count += len(unknown)
        return count

    def _delete(self, keys: list[str]) -> None:
        for key in keys:
            self._storage.delete(key)
