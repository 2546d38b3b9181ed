"""The two things that are done with a source: resolve its URI, and fetch it to a folder."""

import errno
from collections.abc import Mapping
from pathlib import Path

from tandem_engine.sources.errors import InvalidUri, NoSpace, SourceError
from tandem_engine.sources.naming import entry_name
from tandem_engine.sources.placing import link, place
from tandem_engine.sources.progress import Progress
from tandem_engine.sources.source import InPlace, Source, Work


def open_source(uri: str, mount: Path | None = None) -> Source:
    """Read a URI. A scheme's module is imported only here: a `file://` source needs neither boto3 nor the Hub's client.

    Args:
        uri: hf://, s3://, file://, pvc://, registry:// or bundled://.
        mount: Where the claim of a pvc:// source is mounted.

    Raises:
        InvalidUri: the scheme is unknown, or the rest is not as that scheme wants it.
    """
    scheme, separator, _ = uri.partition("://")
    match scheme if separator else "":
        case "hf":
            from tandem_engine.sources.hub import HubSource

            return HubSource.parse(uri)
        case "s3":
            from tandem_engine.sources.s3 import S3Source

            return S3Source.parse(uri)
        case "file":
            from tandem_engine.sources.local import FileSource

            return FileSource.parse(uri)
        case "pvc":
            from tandem_engine.sources.local import PvcSource

            return PvcSource.parse(uri, mount)
        case "bundled":
            from tandem_engine.sources.bundled import BundledSource

            return BundledSource.parse(uri)
        case "registry":
            from tandem_engine.sources.registry import RegistrySource

            return RegistrySource.parse(uri, open_source)
        case _:
            raise InvalidUri(
                "A model source is hf://org/name@revision, s3://bucket/prefix, file:///path, pvc://claim/path, "
                f"registry://name/version or bundled://smollm2-135m, not {uri!r}."
            )


def resolve(uri: str, work: Work, mount: Path | None = None) -> str:
    """The pinned form of a URI: it names the same content for ever.

    Raises:
        SourceError: it can't be found, reached or read.
    """
    return open_source(uri, mount).resolve(work).uri


def fetch(uri: str, to: Path, work: Work, *, cache: Path | None = None, mount: Path | None = None) -> str:
    """Make `to` a model folder with the content of a source, and return the pinned URI.

    Args:
        uri: The source, pinned or not.
        to: The folder; it may lie in a mount point, but not be one. It becomes a link where nothing has to be copied.
        work: What a fetch takes from its surroundings.
        cache: Where content is kept for other calls; `to` then is a link to it. Without one it is written to `to`.
        mount: Where the claim of a pvc:// source is mounted.

    Raises:
        SourceError: of the kind that says why; then `to` is as it was.
    """
    try:
        content = open_source(uri, mount).resolve(work)
        if isinstance(content, InPlace):
            link(content.folder, to, work)
        elif cache is None:
            place(content, to, uri, work)
        else:
            entry = cache / entry_name(content.key)
            place(content, entry, uri, work)
            link(entry, to, work)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(
                f"The disk of {cache or to} filled up meanwhile. Free some; what is there is kept."
            ) from error
        where = f" ({error.filename})" if error.filename else ""
        raise SourceError(f"Can't put the model to {to}: {error.strerror or error}{where}.") from error
    work.report(Progress("done", content.uri))
    return content.uri


def default_cache(environ: Mapping[str, str]) -> Path | None:
    """Where content is cached if nobody says otherwise: `TANDEM_CACHE`, or a folder of the user's cache.

    In a pod there is none but `TANDEM_CACHE`: a cache in the file system of an init container would go with it, and the
    link to it would lead nowhere.
    """
    if environ.get("TANDEM_CACHE"):
        return Path(environ["TANDEM_CACHE"]).absolute()
    if "KUBERNETES_SERVICE_HOST" in environ:
        return None
    home = environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home).absolute() / "tandem" / "models"
