"""Failures of KV transfer that a virtual engine brings about on purpose, so that what follows can be rehearsed."""

import random

from tandem_api.inference_service.engine import VirtualFaults


class Faults:
    """Draws, for each transfer, whether a failure strikes it.

    Args:
        spec: how often each kind strikes.
        seed: of the draws.
    """

    def __init__(self, spec: VirtualFaults, seed: int) -> None:
        self._spec = spec
        self._random = random.Random(seed)  # noqa: S311  a simulation's draw, no secret

    def corrupts_staged(self) -> bool:
        """KV is damaged before it is staged: checksums fit, and the answer is another."""
        return self._strikes(self._spec.corrupt_staged)

    def corrupts_wire(self) -> bool:
        """KV is damaged on its way: the reader must refuse it."""
        return self._strikes(self._spec.corrupt_wire)

    def refuses(self) -> bool:
        """The holder refuses a fetch."""
        return self._strikes(self._spec.refuse)

    def loses(self) -> bool:
        """The holder drops KV as soon as it has promised it."""
        return self._strikes(self._spec.lose)

    def _strikes(self, percent: int) -> bool:
        return self._random.randrange(100) < percent
