"""A measurement as one HTML page that needs nothing beside itself: no script, no font, no network."""

from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any, Final

from tandem_cli.benchmark.plots import Point, Series, cumulative, plot
from tandem_cli.benchmark.reporting import HEAD, Report, cells, distributions, summary
from tandem_cli.benchmark.samples import Sample

_STYLE: Final = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1340px;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #d0d7de}
td:first-child,th:first-child{text-align:left}.plots{display:flex;flex-wrap:wrap;gap:1rem}
figure{margin:0;flex:1 1 560px;max-width:660px}svg{width:100%;height:auto}.grid{stroke:#e3e7ec}
.axis{font-size:11px;fill:#57606a}
"""


def as_page(report: Report, samples: Sequence[Sample]) -> str:
    """The page. Plots are in milliseconds, over seconds since the beginning."""
    facts = [*summary(report), *((name, _shown(value)) for name, value in report.settings.items())]
    rows = [(name, *cells(values)) for name, values in distributions(report.figures)]
    return "".join(
        [
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>tandem bench</title>',
            f"<style>{_STYLE}</style><h1>tandem bench</h1>",
            _table((), facts),
            _table(HEAD, rows),
            '<div class="plots">',
            *_plots(samples),
            "</div></html>\n",
        ]
    )


def _plots(samples: Sequence[Sample]) -> list[str]:
    good = [sample for sample in samples if not sample.error]
    bad = [sample for sample in samples if sample.error]
    ttft = [(sample.due, sample.ttft * 1000) for sample in good if sample.ttft is not None]
    e2e = [(sample.due, sample.latency * 1000) for sample in good]
    itl = [gap * 1000 for sample in good for gap in sample.itl]
    tpot = [value * 1000 for sample in good if (value := sample.tpot) is not None]
    failed = Series("failed", [(sample.due, sample.latency * 1000) for sample in bad], dots=True)
    since = "due, s since the beginning"
    return [
        plot("Time to first token", since, "ms", [Series("TTFT", ttft, dots=True), failed]),
        plot("End to end", since, "ms", [Series("end to end", e2e, dots=True), failed]),
        plot(
            "Up to which time, first tokens", "ms", "% of requests", [Series("TTFT", cumulative([v for _, v in ttft]))]
        ),
        plot(
            "Up to which time, whole answers", "ms", "% of requests", [Series("e2e", cumulative([v for _, v in e2e]))]
        ),
        plot(
            "Up to which time, tokens",
            "ms",
            "%",
            [Series("ITL", cumulative(itl)), Series("TPOT", cumulative(tpot))],
        ),
        plot("Requests", "s since the beginning", "per second", _rates(samples)),
        plot("Under way", "s since the beginning", "requests", [Series("under way", _under_way(samples))]),
    ]


def _rates(samples: Sequence[Sample]) -> list[Series]:
    due = Counter(int(sample.due) for sample in samples)
    ended = Counter(int(sample.end) for sample in samples if not sample.error)
    last = max([*due, *ended], default=-1)
    seconds = range(last + 1)
    return [
        Series("due", [(second, due[second]) for second in seconds]),
        Series("answered", [(second, ended[second]) for second in seconds]),
    ]


def _under_way(samples: Sequence[Sample]) -> list[Point]:
    steps = sorted([*((sample.sent, 1) for sample in samples), *((sample.end, -1) for sample in samples)])
    points: list[Point] = []
    now = 0
    for moment, step in steps:
        now += step
        points.append((moment, now))
    return points


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{f'<tr>{titles}</tr>' if head else ''}{lines}</table>"


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)
