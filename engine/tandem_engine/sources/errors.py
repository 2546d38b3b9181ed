"""Why a model could not be had, as a tree of exceptions. Each text says what was wrong, where, and what to do.

No text holds a token, a signed address or a header.
"""


class SourceError(Exception):
    """A model source can't be used as it is."""


class InvalidUri(SourceError):
    """The URI is not of a form that is known."""


class NotFound(SourceError):
    """The repository, revision, bucket, folder or file is not there."""


class AccessDenied(SourceError):
    """The credentials are missing, wrong or not enough."""


class Unreachable(SourceError):
    """The other side did not answer properly, however often it was asked."""


class Changed(SourceError):
    """The source is no longer what was pinned."""


class Corrupt(SourceError):
    """Bytes arrived that are not those of the source: wrong size or checksum."""


class NotAModel(SourceError):
    """The folder lacks what a model needs, or is damaged."""


class UnsafeName(SourceError):
    """A remote names a file that would not stay inside of the model's folder."""


class NoSpace(SourceError):
    """The disk is too full."""


class TargetInUse(SourceError):
    """What is at the target is not of this tool, which therefore leaves it alone."""


class MissingPackage(SourceError):
    """A Python package that this scheme needs is not installed."""


class ConversionFailed(SourceError):
    """A GGUF file could not be turned into safetensors."""


class Transient(Exception):
    """Worth another try: a 5xx, a time-out, a reset, a cut body. Never leaves the package.

    Attributes:
        message: What happened, safe for a log.
        retry_after: Seconds that the other side asked for, 0 for none.
    """

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
