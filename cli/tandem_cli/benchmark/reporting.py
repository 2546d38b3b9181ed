"""A measurement as people and programs read it: a table, and JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from tandem_cli.benchmark.figures import Distribution, Figures, Slo
from tandem_cli.text import table

HEAD: Final = ("ms", "mean", "p50", "p90", "p95", "p99", "max")


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured, and what came of it."""

    settings: Mapping[str, Any]
    """As they were given, without secrets."""
    figures: Figures
    slo: Slo | None
    interrupted: bool = False
    """The user ended it before its end: rates hold for what was done."""


def as_json(report: Report) -> str:
    """Durations are in seconds, rates per second."""
    return json.dumps(asdict(report), indent=2)


def as_table(report: Report) -> str:
    """Durations are in milliseconds."""
    lines = [f"{name:<12}{value}" for name, value in summary(report)]
    if rows := [(name, *cells(values)) for name, values in distributions(report.figures)]:
        lines += ["", table(HEAD, rows)]
    return "\n".join(lines)


def summary(report: Report) -> list[tuple[str, str]]:
    """Its counts and rates, each with its name."""
    found = report.figures
    failed = found.requests - found.succeeded
    rows = [
        ("requests", f"{found.succeeded} of {found.requests} in {found.seconds:.2f} s"),
        ("rate", f"{found.request_rate:.2f} requests/s, {found.output_token_rate:.1f} output tokens/s"),
        ("tokens", f"{found.prompt_tokens:,} in, {found.output_tokens:,} out"),
    ]
    if found.good is not None and found.goodput is not None:
        share = found.good / found.requests if found.requests else 0.0
        rows.append(("goodput", f"{found.goodput:.2f} requests/s: {share:.1%} kept {_bounds(report.slo)}"))
    if failed:
        kinds = ", ".join(f"{count} {kind}" for kind, count in found.errors.items())
        rows.append(("failed", f"{failed} ({failed / found.requests:.1%}): {kinds}"))
    if report.interrupted:
        rows.append(("interrupted", "by the user: what was under way is not counted"))
    if found.lag is not None and found.lag.p99 >= 0.005:
        rows.append(("sent late", f"p99 {found.lag.p99 * 1000:.0f} ms after the request was due; it counts as latency"))
    return rows


def distributions(found: Figures) -> list[tuple[str, Distribution]]:
    """Those that there are, by name."""
    named = (("TTFT", found.ttft), ("ITL", found.itl), ("TPOT", found.tpot), ("end to end", found.e2e))
    return [(name, values) for name, values in named if values is not None]


def cells(values: Distribution) -> tuple[str, ...]:
    """A distribution's row, in milliseconds."""
    shown = (values.mean, values.p50, values.p90, values.p95, values.p99, values.max)
    return tuple(f"{value * 1000:.1f}" for value in shown)


def _bounds(slo: Slo | None) -> str:
    named = [] if slo is None else [("TTFT", slo.ttft), ("TPOT", slo.tpot), ("end to end", slo.e2e)]
    return ", ".join(f"{name} ≤ {bound * 1000:g} ms" for name, bound in named if bound is not None)
