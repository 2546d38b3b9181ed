"""Files on their way: streamed, kept part by part, carried on after a break, checked at the end.

The parts of an upload are the file: finishing one moves no byte. Each part is an object with a key of its own, and
counts from the moment at which the database knows it; two who write the same upload at once can't mix their bytes, for
the second one finds that the offset has moved. The checksum is taken as the bytes come in; who carries an upload on has
the former parts read once more for it.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from tandem_api.registry import NewUpload, Upload

from tandem_registry.access import Caller
from tandem_registry.database import Database
from tandem_registry.failures import Failure, conflict, invalid, not_found
from tandem_registry.storage import Storage
from tandem_registry.tables import FileRow, PartRow, UploadRow

PART_BYTES: Final = 16 << 20
"""A crash loses at most so much of an upload."""
IDLE_SECONDS: Final = 60.0
"""Without a byte, after which a client is given up; what came is kept."""
FOLDER: Final = "parts"
"""Of the storage: an object of it is parts/UPLOAD/OFFSET-ID."""


class Uploads:
    """Takes files in."""

    def __init__(
        self,
        database: Database,
        storage: Storage,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
        *,
        max_file_bytes: int,
        keep: timedelta,
    ) -> None:
        """`keep` is how long an upload is kept that nobody carries on."""
        self._database = database
        self._storage = storage
        self._clock = clock
        self._new_id = new_id
        self._max_file_bytes = max_file_bytes
        self._keep = keep

    def create(self, given: NewUpload, caller: Caller) -> tuple[Upload, bool]:
        """Begins an upload; tells whether it is one that was not there before.

        Where the repository has the file that is announced, the upload is complete at once. Where the same caller has
        begun to upload that file, and was interrupted, it is that upload.

        Raises:
            Failure: 413, the file is larger than allowed.
        """
        if given.size > self._max_file_bytes:
            raise Failure(
                413,
                "file_too_large",
                f"size: {given.size:,} bytes are more than the {self._max_file_bytes:,} allowed for a file: split the "
                "weights into shards, or raise --max-file-bytes",
                "size",
            )
        now = self._clock()
        with self._database.writing() as session:
            present = session.get(FileRow, given.sha256, with_for_update=True) if given.sha256 is not None else None
            have = present is not None and present.size == given.size
            if present is not None and have:
                present.used_at = now
            elif (begun := _begun(session, given, caller)) is not None:
                begun.touched_at = now
                return self._shape(begun), False
            row = UploadRow(
                id=self._new_id(),
                size=given.size,
                offset=given.size if have else 0,
                expected=given.sha256,
                sha256=given.sha256 if have else None,
                touched_at=now,
                created_by=caller.key,
            )
            session.add(row)
            return self._shape(row), True

    def get(self, id: str) -> Upload:
        """How far an upload is.

        Raises:
            Failure: 404.
        """
        with self._database.reading() as session:
            return self._shape(_required(session, id))

    def abort(self, id: str) -> None:
        """Throws an upload away.

        Raises:
            Failure: 404; 409 once it is complete.
        """
        with self._database.writing() as session:
            row = _required(session, id, lock=True)
            if row.sha256 is not None:
                raise conflict("upload_complete", f"upload {id!r} is complete: its file goes when nothing needs it")
            keys = list(session.scalars(select(PartRow.key).where(PartRow.upload == id)))
            session.delete(row)
        self._delete(keys)

    async def receive(self, id: str, offset: int, body: AsyncIterator[bytes]) -> Upload:
        """Carries an upload on with the bytes from `offset` on; finishes it when they reach its size.

        Raises:
            Failure: 404; 409 at another offset than the present one; 400 for more bytes than announced, or a wrong
                checksum, which ends the upload; 408 for a client that sends nothing for too long.
        """
        begun = await run_in_threadpool(self._begin, id, offset)
        if begun is None:
            return await run_in_threadpool(self.get, id)
        size, hasher = begun
        buffer = bytearray()

        async def keep() -> None:
            nonlocal offset
            part = bytes(buffer)
            buffer.clear()
            if part:
                await run_in_threadpool(self._keep_part, id, offset, part)
                await run_in_threadpool(hasher.update, part)
                offset += len(part)

        try:
            async with asyncio.timeout(IDLE_SECONDS) as idle:
                async for piece in body:
                    if offset + len(buffer) + len(piece) > size:
                        raise invalid(f"the body goes beyond the {size:,} bytes that were announced", "body")
                    buffer += piece
                    if len(buffer) >= PART_BYTES:
                        await keep()
                    idle.reschedule(asyncio.get_running_loop().time() + IDLE_SECONDS)
        except ClientDisconnect:
            await keep()
            raise
        except TimeoutError:
            await keep()
            raise Failure(
                408, "upload_stalled", f"nothing came for {IDLE_SECONDS:.0f} s: carry on from {offset}"
            ) from None
        await keep()
        if offset < size:
            return await run_in_threadpool(self.get, id)
        return await run_in_threadpool(self._finish, id, hasher.hexdigest())

    def _begin(self, id: str, offset: int) -> "tuple[int, hashlib._Hash] | None":
        """The size of the upload, and a checksum of what is there; None where all of it is, checked."""
        with self._database.reading() as session:
            row = _required(session, id)
            if row.sha256 is not None and row.offset == offset:
                return None
            if row.sha256 is not None or row.offset != offset:
                raise _moved(row.offset, offset)
            parts = list(session.scalars(select(PartRow).where(PartRow.upload == id).order_by(PartRow.offset)))
            size = row.size
        hasher = hashlib.sha256()
        for part in parts:
            for piece in self._storage.read(part.key, 0, part.size):
                hasher.update(piece)
        return size, hasher

    def _keep_part(self, id: str, offset: int, data: bytes) -> None:
        key = f"{FOLDER}/{id}/{offset:015d}-{self._new_id()}"
        self._storage.write(key, data)
        try:
            with self._database.writing() as session:
                row = _required(session, id, lock=True)
                if row.sha256 is not None or row.offset != offset:
                    raise _moved(row.offset, offset)
                row.offset += len(data)
                row.touched_at = self._clock()
                session.add(PartRow(upload=id, offset=offset, size=len(data), key=key))
        except Failure:
            self._storage.delete(key)
            raise

    def _finish(self, id: str, sha256: str) -> Upload:
        """Makes an upload a file, or drops it for one that is there or for a wrong checksum."""
        try:
            upload, keys = self._try_finish(id, sha256)
        except IntegrityError:  # Another upload of the same bytes was finished at this very moment.
            upload, keys = self._try_finish(id, sha256)
        self._delete(keys)
        if upload is None:
            raise invalid(
                f"the file has SHA-256 {sha256}, which is not what was announced: it was thrown away. Send it again, "
                "from the start",
                "sha256",
                "digest_mismatch",
            )
        return upload

    def _try_finish(self, id: str, sha256: str) -> tuple[Upload | None, list[str]]:
        with self._database.writing() as session:
            row = _required(session, id, lock=True)
            mine = select(PartRow.key).where(PartRow.upload == id)
            if row.sha256 is not None:
                return self._shape(row), []
            if row.expected not in (None, sha256):
                keys = list(session.scalars(mine))
                session.delete(row)
                return None, keys
            row.sha256 = sha256
            row.touched_at = self._clock()
            present = session.get(FileRow, sha256, with_for_update=True)
            if present is None:
                session.add(FileRow(sha256=sha256, size=row.size, upload=id, used_at=self._clock()))
                return self._shape(row), []
            present.used_at = self._clock()
            keys = list(session.scalars(mine))
            session.execute(delete(PartRow).where(PartRow.upload == id))
            return self._shape(row), keys

    def _delete(self, keys: list[str]) -> None:
        for key in keys:
            self._storage.delete(key)

    def _shape(self, row: UploadRow) -> Upload:
        complete = row.sha256 is not None
        return Upload(
            id=row.id,
            size=row.size,
            offset=row.offset,
            complete=complete,
            sha256=row.sha256 or row.expected,
            expires_at=None if complete else row.touched_at + self._keep,
        )


def _begun(session: Session, given: NewUpload, caller: Caller) -> UploadRow | None:
    """An unfinished upload of the same file by the same caller, the furthest one."""
    if given.sha256 is None:
        return None
    same = (
        UploadRow.expected == given.sha256,
        UploadRow.size == given.size,
        UploadRow.sha256.is_(None),
        UploadRow.created_by == caller.key,
    )
    rows = select(UploadRow).where(*same).order_by(UploadRow.offset.desc()).limit(1).with_for_update()
    return session.scalar(rows)


def _required(session: Session, id: str, *, lock: bool = False) -> UploadRow:
    row = session.get(UploadRow, id, with_for_update=lock)
    if row is None:
        raise not_found(f"upload {id!r}", "it was finished, thrown away or never begun; begin another")
    return row


def _moved(present: int, given: int) -> Failure:
    failure = conflict(
        "offset_mismatch", f"Upload-Offset: the upload is at {present}, not {given}: carry on there", "Upload-Offset"
    )
    failure.headers["Upload-Offset"] = str(present)
    return failure
