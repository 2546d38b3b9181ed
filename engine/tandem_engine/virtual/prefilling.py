"""A prefill's side of the step loop: waits until the prompt is computed, and has its KV then."""

import asyncio
from collections.abc import Callable

from tandem_engine.virtual.kv_bytes import Rows
from tandem_engine.virtual.planning import Sequence


class Prefill:
    """The consumer of a sequence that generates nothing.

    Args:
        compute: gives the KV of a sequence's whole prompt.
        clock: seconds.
    """

    def __init__(self, compute: Callable[[Sequence], Rows], clock: Callable[[], float]) -> None:
        self.rows: asyncio.Future[Rows] = asyncio.get_running_loop().create_future()
        self.admitted_at: float | None = None
        self._compute = compute
        self._clock = clock

    def admitted(self, sequence: Sequence) -> None:
        if self.admitted_at is None:
            self.admitted_at = self._clock()

    def prompt_done(self, sequence: Sequence) -> bool:
        if not self.rows.done():
            self.rows.set_result(self._compute(sequence))
        return True

    def foresee(self, sequence: Sequence) -> None:
        pass

    def token(self, sequence: Sequence) -> bool:
        return True

    def over(self, sequence: Sequence) -> None:
        pass
