"""What befell a platform between two readings of its counters, by kind: a storm that nothing befalls shows nothing."""

import re
from collections import Counter

from tests.conservation.counters import Reading

_RECOMPUTED = re.compile(r'kv_outcomes_total\{.*outcome="recomputed",reason="(\w+)"')


def troubles(before: Reading, after: Reading, *, disturbed: bool) -> Counter[str]:
    """How often each kind of trouble struck.

    "expired": a lease ended by its TTL. "cut off": a client that did not read. "refused", "checksum" and so on: a fetch
    of KV that failed for this reason. One for KV that is gone is "lost" where nothing disturbed the storm, because then
    no lease expires; where something did, it is "gone".
    """
    found: Counter[str] = Counter()
    for series, now in after.totals.items():
        past = before.totals.get(series, 0)
        # A worker that was started again has counted from zero.
        grown = now - past if now >= past else now
        if series.endswith("/leases_expired"):
            found["expired"] += grown
        elif "clients_cut_off" in series:
            found["cut off"] += grown
        elif match := _RECOMPUTED.search(series):
            reason = match[1]
            found["lost" if reason == "gone" and not disturbed else reason] += grown
    return +found
