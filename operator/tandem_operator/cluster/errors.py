"""What an API server's refusals mean to a reconciler: what to do next, not which number came back."""

from collections.abc import Mapping
from typing import Any, Final

_TRANSIENT: Final = {401, 408, 425, 429}


class ApiError(Exception):
    """A request that failed. Its text says which, and what the server said."""

    def __init__(self, what: str, message: str, *, status: int = 0, reason: str = "", retry_after: float = 0.0) -> None:
        super().__init__(f"{what}: {message}")
        self.what = what
        self.message = message
        self.status = status
        """HTTP's; 0: there was no answer."""
        self.reason = reason
        """The server's word: Forbidden, Invalid, ..."""
        self.retry_after = retry_after
        """Seconds that the server asks to wait; 0: it does not say."""


class NotFound(ApiError):
    """There is no such object (or namespace)."""


class Conflict(ApiError):
    """The object is no longer what the request was decided on: look again, decide again."""


class Refused(ApiError):
    """The same request will be refused again, until somebody changes a permission, a policy or the resource."""


class Ending(Refused):
    """The namespace is being deleted: nothing can be made in it any more."""


class Unavailable(ApiError):
    """No answer, or none that settles anything: the same request may succeed later."""


def error_of(what: str, status: int, body: Mapping[str, Any], retry_after: str | None) -> ApiError:
    """The error for an answer of 400 or more.

    Args:
        what: The request, in words: "apply Deployment default/x".
        status: HTTP's.
        body: A Kubernetes Status, or nothing of the kind.
        retry_after: The header of that name.
    """
    reason = str(body.get("reason") or "")
    message = str(body.get("message") or f"answered {status}")
    causes = (body.get("details") or {}).get("causes") or ()
    if status == 404:
        made: type[ApiError] = NotFound
    elif status == 409:
        made = Conflict
    elif any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        made = Ending
    elif status >= 500 or status in _TRANSIENT:
        made = Unavailable
    else:
        made = Refused
    seconds = float(retry_after) if retry_after and retry_after.isdigit() else 0.0
    return made(what, message, status=status, reason=reason, retry_after=seconds)
