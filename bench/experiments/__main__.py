"""`python -m bench.experiments`: all simulations, their tables and pictures.

Environment: RUNS (10,000 of each scenario; beside the peers, whose tests take longest, at most 1,000), JOBS (processes;
as many as there are CPUs). The tables of bench/README.md between its marks, and the pictures, are written anew.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from bench.experiments import plots
from bench.experiments.scenarios import (
    ALPHA,
    TTFT,
    WORLDS,
    WORSE,
    Result,
    bound,
    comparison,
    false_verdicts,
    fixed_size,
    pool,
)
from bench.experiments.worlds import STEADY, Effect

README: Final = Path(__file__).parents[1] / "README.md"
METHODS: Final = ["tandem", "canary", "canary, in a row", "mSPRT", "savvi"]
MOST_BESIDE: Final = 1_000
BEGIN, END = "<!-- experiments: written by `make bench-experiments` -->", "<!-- end of experiments -->"


def main() -> int:
    runs = int(os.environ.get("RUNS", "10000"))
    begin = time.monotonic()
    with pool() as processes:
        wrong = list(_shown(false_verdicts(WORLDS, runs, processes)))
        beside = list(_shown(comparison(min(runs, MOST_BESIDE), processes)))
    text = "\n".join([*_false(wrong, runs), "", *_equal(beside), "", *_soon(beside)])
    print(text)
    _write(text)
    plots.run(TTFT, Effect(ttft_relative=0.2), seed=4)
    plots.detection(beside)
    beyond = [result for result in wrong if result.rate > bound(runs)]
    for result in beyond:
        _tell(f"wrong in {result.rate:.1%}, allowed {bound(runs):.1%}: {result.world}, {result.question}")
    weak = [name for name, size, result in _power(beside) if result.within(3 * size) < 0.8]
    for name in weak:
        _tell(f"found too late: {name}")
    _tell(f"{time.monotonic() - begin:.0f} s")
    return 1 if beyond or weak else 0


def _shown(results: Iterable[Result]) -> Iterator[Result]:
    for result in results:
        _tell(f"  {result.world}: {result.question}, {result.effect}: {result.method} {result.rate:.1%}")
        yield result


def _false(results: Sequence[Result], runs: int) -> Iterator[str]:
    """Share of runs with a wrong verdict."""
    yield (
        f"Wrong verdicts, percent of {runs:,} runs of 20,000 requests each. Allowed are {100 * ALPHA:.0f}, by chance "
        f"up to {100 * bound(runs):.1f} (binomial, 99.9 %). At margin 0 equal versions stand at the edge."
    )
    yield ""
    yield "| traffic | metric | equal: rolled back | at the edge: rolled back | at the edge: promoted |"
    yield "|---|---|---|---|---|"
    found = {(result.world, result.question, result.effect, result.method): result for result in results}
    for world, question in dict.fromkeys((result.world, result.question) for result in results):
        edge = "at the edge" if (world, question, "at the edge", "harm") in found else "equal"
        cells = [(("equal"), "harm"), (edge, "harm"), (edge, "benefit")]
        values = [f"{100 * found[world, question, effect, method].rate:.1f}" for effect, method in cells]
        yield f"| {world} | {question} | {' | '.join(values)} |"


def _equal(results: Sequence[Result]) -> Iterator[str]:
    """Beside the peers, where nothing is wrong."""
    methods = [*METHODS, "tandem, every request"]
    yield f"Equal versions rolled back, percent of {results[0].runs:,} runs:"
    yield ""
    yield f"| traffic | metric | {' | '.join(methods)} |"
    yield "|---|---|" + "---|" * len(methods)
    equal = {(result.world, result.question, result.method): result for result in results if result.effect == "equal"}
    for world, question in dict.fromkeys((world, question) for world, question, _ in equal):
        found = [equal.get((world, question, method)) for method in methods]
        cells = ["" if result is None else f"{100 * result.rate:.1f}" for result in found]
        yield f"| {world} | {question} | {' | '.join(cells)} |"


def _soon(results: Sequence[Result]) -> Iterator[str]:
    """Where something is wrong."""
    methods = METHODS
    yield (
        "Worse challengers rolled back: after how many requests of both versions (median of "
        f"{results[0].runs:,} runs), and in what share of the runs within 20,000."
    )
    yield ""
    yield f"| traffic | challenger | {' | '.join(methods)} |"
    yield "|---|---|" + "---|" * len(methods)
    worse = {(result.world, result.effect, result.method): result for result in results if result.effect != "equal"}
    for world, effect in dict.fromkeys((world, effect) for world, effect, _ in worse):
        cells = []
        for method in methods:
            result = worse[world, effect, method]
            cells.append(f"{'' if result.median is None else f'{result.median:,}, '}{100 * result.rate:.0f} %")
        yield f"| {world} | {effect} | {' | '.join(cells)} |"
    yield ""
    for name, size, result in _power(results):
        yield (
            f"- {name}, 50/50: a fixed-sample test of power 80 % needs {size:,} requests; within 3 times that, "
            f"{100 * result.within(3 * size):.1f} % of the runs have found it."
        )


def _power(results: Sequence[Result]) -> Iterator[tuple[str, int, Result]]:
    for name, question, effect in WORSE[:2]:
        for result in results:
            if (result.world, result.effect, result.method) == (STEADY.name, name, "tandem"):
                yield name, fixed_size(question, effect), result


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _write(text: str) -> None:
    readme = README.read_text()
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
