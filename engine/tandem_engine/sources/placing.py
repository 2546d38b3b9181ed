"""Content comes to its place whole or not at all.

It is written into a hidden folder beside the target, synced, and renamed. Whoever dies in between leaves that hidden
folder, which the next call carries on from, and a target that is as it was. A file lock makes callers that want the
same target wait for each other; the second one finds the work done.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from tandem_engine.sources.errors import TargetInUse
from tandem_engine.sources.manifest import Manifest, is_complete, read_manifest, write_manifest
from tandem_engine.sources.modelfolder import check_model_folder
from tandem_engine.sources.naming import short_hash
from tandem_engine.sources.progress import Progress
from tandem_engine.sources.source import Content, Work


def place(content: Content, target: Path, source: str, work: Work) -> None:
    """Make `target` a folder with this content and its manifest. It returns at once where that is so already.

    Args:
        content: What to write.
        target: The folder; its parent is made. What a former fetch left there is replaced.
        source: The URI as it was asked for, for the manifest.
        work: What the content's writer needs.

    Raises:
        TargetInUse: there is something else at the target, or it is a mount point, which can't be renamed onto.
        SourceError: from the content's writer, or because what it wrote is no model.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target, work):
        if is_complete(target, content.key):
            return
        _refuse_foreign(target)
        partial = target.parent / f".{target.name}.{short_hash(content.key)}.partial"
        partial.mkdir(exist_ok=True)
        files = content.write(partial, work)
        check_model_folder(partial, content.uri)
        write_manifest(partial, Manifest(source=source, resolved=content.uri, key=content.key, files=files))
        _sync_folders(partial)
        _publish(partial, target)
        for other in target.parent.glob(f".{target.name}.*.partial"):
            shutil.rmtree(other, ignore_errors=True)  # Of another revision, interrupted for good.


def link(folder: Path, target: Path, work: Work) -> None:
    """Make `target` a symbolic link to a folder that holds the content already.

    Raises:
        TargetInUse: there is something at the target that no fetch put there.
    """
    folder = folder.absolute()
    if target.is_symlink() and target.readlink() == folder:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target, work):
        _refuse_foreign(target)
        temporary = target.parent / f".{target.name}.link"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(folder, target_is_directory=True)
        _publish(temporary, target)


@contextlib.contextmanager
def _alone(target: Path, work: Work) -> Iterator[None]:
    lock = FileLock(target.parent / f".{target.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        # The lock goes with the process that holds it, so this ends; how soon depends on the size of the model.
        work.report(Progress("wait", f"another process fetches {target.name}"))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _refuse_foreign(target: Path) -> None:
    if os.path.ismount(target):
        raise TargetInUse(f"{target} is a mount point. Name a folder inside of it, such as {target / 'model'}.")
    if target.is_symlink() or not target.exists():
        return
    if not target.is_dir():
        raise TargetInUse(f"{target} is a file. Name a folder.")
    if any(target.iterdir()) and read_manifest(target) is None:
        raise TargetInUse(f"{target} holds files that were not fetched by this tool. Empty it, or name another folder.")


def _publish(ready: Path, target: Path) -> None:
    """Rename onto the target. A folder of a former fetch, which can't be renamed onto, steps aside first."""
    if target.is_dir() and not target.is_symlink():
        aside = target.parent / f".{target.name}.former"
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(target, aside)
        os.replace(ready, target)
        shutil.rmtree(aside)
    else:
        if target.is_symlink() and not ready.is_symlink():
            target.unlink()
        os.replace(ready, target)
    _sync(target.parent)


def _sync_folders(folder: Path) -> None:
    for current, _, _ in os.walk(folder):
        _sync(Path(current))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
