"""Which workers serve a call: choice and count in one step, with no await between, so that no two calls race.

A pair is always of one revision. The place at decode is taken together with the one at prefill, so that no KV is
computed which nobody could take over. A call begins only on revisions that take traffic, on the least loaded of them,
of equal ones on the preferred: a revision that comes up takes its part and no more. A call that holds something of a
revision stays with it as long as that has workers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from tandem_router.frontends.parsing import BYTES_PER_TOKEN, estimate_tokens
from tandem_router.scheduling.policies import Policy
from tandem_router.scheduling.worker import Place, Worker


@dataclass(slots=True, eq=False)
class Revision:
    """The workers of one revision."""

    name: str
    disaggregated: bool
    prefill: list[Worker] = field(default_factory=list)
    decode: list[Worker] = field(default_factory=list)
    traffic: bool = True
    """Calls may begin on it."""

    @property
    def usable(self) -> bool:
        """Its workers can serve a call that comes now, or comes to a place soon."""
        return any(w.ready for w in self.decode) and (not self.disaggregated or any(w.ready for w in self.prefill))


class Demand(msgspec.Struct, eq=False):
    """What a call lacks. `revision` is fixed by what it holds already; `excluded` failed it before."""

    prompt: bytes = b""
    decode: bool = True
    prefill: bool = True
    """Wanted where the revision has that role and the prompt is worth it."""
    revision: Revision | None = None
    excluded: set[Worker] = set()
    feature: str = ""
    """Only workers that have it know what to do."""


class Grant(msgspec.Struct, frozen=True, eq=False):
    """Places for a call. `whole_reason` says why there is none at prefill though one was wanted."""

    revision: Revision
    decode: Place | None
    prefill: Place | None
    whole_reason: str = ""

    def close(self) -> None:
        for place in (self.decode, self.prefill):
            if place is not None:
                place.close()


class NoWorker(Exception):
    """No worker is ready that has not failed this call."""


class Pairing:
    """Takes places by a policy. `turns` grows with each choice."""

    def __init__(self, choose: Policy, disaggregate_from: int, turns: Callable[[], int]) -> None:
        self._choose = choose
        self._disaggregate_from = disaggregate_from
        self._turns = turns

    def take(self, revisions: Sequence[Revision], demand: Demand) -> Grant | None:
        """Takes what `demand` asks for; None where a place may come free. `revisions` are those preferred first.

        Raises:
            NoWorker: no place can come free.
        """
        possible = False
        best: tuple[Worker, Revision] | None = None
        for revision in (demand.revision,) if demand.revision else revisions:
            if not revision.traffic and revision is not demand.revision:
                continue
            wants_prefill = demand.prefill and revision.disaggregated
            decode = _fit(revision.decode, demand) if demand.decode else []
            prefill = _fit(revision.prefill, demand) if wants_prefill else []
            if (demand.decode and not decode) or (wants_prefill and not prefill):
                continue
            possible = True
            if not demand.decode:
                return self._take_prefill(revision, prefill)
            free = [worker for worker in decode if not worker.full]
            if free and (not wants_prefill or self._disaggregate_from or any(not w.full for w in prefill)):
                worker = self._choose(free)
                if best is None or worker.load < best[0].load:
                    best = worker, revision
        if not possible:
            raise NoWorker
        return None if best is None else self._take_pair(*best, demand)

    def _take_pair(self, worker: Worker, revision: Revision, demand: Demand) -> Grant | None:
        if not demand.prefill:
            return Grant(revision, self._place(worker), None)
        if not revision.disaggregated:
            return Grant(revision, self._place(worker), None, "aggregated")
        if self._short(worker, demand.prompt):
            return Grant(revision, self._place(worker), None, "short")
        free = [w for w in _fit(revision.prefill, demand) if not w.full]
        return Grant(revision, self._place(worker), self._place(self._choose(free))) if free else None

    def _take_prefill(self, revision: Revision, fit: Sequence[Worker]) -> Grant | None:
        free = [worker for worker in fit if not worker.full]
        return Grant(revision, None, self._place(self._choose(free))) if free else None

    def _short(self, worker: Worker, prompt: bytes) -> bool:
        """So few tokens are not cached at `worker` that computing them costs less than moving KV."""
        if not self._disaggregate_from:
            return False
        uncached = estimate_tokens(prompt) - worker.prefixes.match(prompt) // BYTES_PER_TOKEN
        return uncached < self._disaggregate_from

    def _place(self, worker: Worker) -> Place:
        worker.turn = self._turns()
        return Place(worker)


def _fit(workers: Sequence[Worker], demand: Demand) -> list[Worker]:
    """Those that are ready and know the API; the ejected ones only where there are no others."""
    ready = [worker for worker in workers if worker.ready and worker not in demand.excluded]
    if demand.feature:
        ready = [worker for worker in ready if demand.feature in worker.features]
    return [worker for worker in ready if not worker.ejected] or ready
