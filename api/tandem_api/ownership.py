"""Whose a model's name is, where several services claim it: operator and routers must find the same owner."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """A service that wants to be called by a model's name. `service` is namespace/name, `created` RFC 3339 or empty."""

    service: str
    model: str
    created: str = ""


def taken(claims: Iterable[Claim]) -> dict[str, str]:
    """Services whose model name belongs to another one: namespace/name of each, with the owner's.

    The older keeps the name. Of equally old ones it is the first by name, so that whoever asks finds the same; of those
    without an age, which come from files, the one that comes first.
    """
    owners: dict[str, str] = {}
    losers: dict[str, str] = {}
    for claim in sorted(claims, key=lambda claim: (claim.created, claim.service if claim.created else "")):
        owner = owners.setdefault(claim.model, claim.service)
        if owner != claim.service:
            losers[claim.service] = owner
    return losers
