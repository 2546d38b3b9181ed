"""What keeps the local platform from serving."""


class PlatformError(Exception):
    """Says what is wrong and what to do about it.

    Args:
        message: what is wrong, and where.
        log: the last lines that the failed program wrote.
        hint: what to do.
    """

    def __init__(self, message: str, *, log: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(message)
        self.log = log
        self.hint = hint
