"""Programs with one fault planted in them, to show that a storm finds it.

`python -m tests.conservation.planted FAULT ROLE ARGS...` runs `python -m tandem_ROLE ARGS...` with the fault in place.
"""

import itertools
import runpy
import sys
from collections.abc import Callable
from typing import Any


def skipped_release() -> None:
    """Every twentieth sequence keeps its KV blocks."""
    from tandem_engine.virtual.batching import Batch

    free = Batch._free
    count = itertools.count(1)

    def forgetful(self: Batch, sequence: Any) -> None:
        if next(count) % 20:
            free(self, sequence)

    Batch._free = forgetful  # type: ignore[method-assign]


def lost_cancel() -> None:
    """Every fifth cancel that a router sends is not carried out."""
    from tandem_engine.worker.call import OpenCall

    cancel = OpenCall.cancel
    count = itertools.count(1)

    def deaf(self: OpenCall) -> None:
        if next(count) % 5:
            cancel(self)

    OpenCall.cancel = deaf  # type: ignore[method-assign]


def swallowed_error() -> None:
    """A stream that fails midway ends as if nothing were wrong."""
    from tandem_router.exchanges.legs import Answer

    def silent(self: Answer, failure: Any) -> None:
        if self.began:
            self._client.end()
        super(Answer, self).failed(failure)

    Answer.failed = silent  # type: ignore[method-assign]


def kept_place() -> None:
    """The router forgets to give every hundredth place back: seldom enough for calm weather to pass."""
    from tandem_router.scheduling.worker import Place

    close = Place.close
    count = itertools.count(1)

    def forgetful(self: Place) -> None:
        if next(count) % 100:
            close(self)

    Place.close = forgetful  # type: ignore[method-assign]


def forgotten_lease() -> None:
    """The router takes every twentieth lease for ended without saying so to its worker: only the TTL ends it."""
    from tandem_router.scheduling.worker import Lease

    release = Lease.release
    count = itertools.count(1)

    def silent(self: Lease) -> None:
        if next(count) % 20:
            release(self)
        else:
            self.forget()

    Lease.release = silent  # type: ignore[method-assign]


FAULTS: dict[str, Callable[[], None]] = {
    f.__name__: f for f in (skipped_release, lost_cancel, swallowed_error, kept_place, forgotten_lease)
}


def main() -> None:
    fault, role, *arguments = sys.argv[1:]
    FAULTS[fault]()
    module = f"tandem_{role}"
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__")


if __name__ == "__main__":
    main()
