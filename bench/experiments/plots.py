"""Pictures of simulated experiments, as SVG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.experiments.scenarios import ALPHA, Result
from bench.experiments.watching import Question, log_e_path
from bench.experiments.worlds import EQUAL, RAMP, STEADY, Effect

FOLDER: Final = Path(__file__).parents[2] / "docs" / "pictures"
_POINTS: Final = 200
"""Of a curve: enough for the eye."""
_METHODS: Final = {
    "tandem": ("Tandem", "#1b6ca8"),
    "canary": ("fixed-threshold canary", "#c8553d"),
    "canary, in a row": ("the same, failures in a row", "#e0a458"),
    "savvi": ("savvi, multinomial", "#6a994e"),
    "mSPRT": ("mSPRT", "#8d6a9f"),
    "tandem, every request": ("Tandem, were every request counted", "#9a9a9a"),
}


def run(question: Question, worse: Effect, seed: int) -> Path:
    """The stake against harm in one experiment on a ramp: of a worse challenger, and of an equal one."""
    figure, (above, below) = _figure(5.4, rows=2)
    requests = RAMP.draw(EQUAL, np.random.default_rng(seed))
    for effect, label, color in ((EQUAL, "equal versions", "#6a994e"), (worse, "TTFT 20 % higher", "#c8553d")):
        path = log_e_path(RAMP.draw(effect, np.random.default_rng(seed)), question, "harm")
        above.step(np.arange(path.size)[::50], np.exp(path[::50]), color=color, label=label, where="post")
    above.set_yscale("log")
    above.axhline(1 / ALPHA, color="black", linewidth=0.8, linestyle="--")
    above.annotate("rolled back from here", (0, 1 / ALPHA), (4, 4), textcoords="offset points", fontsize=8)
    above.set_ylim(1e-2, 1e4)
    above.set_ylabel("e-value of harm")
    above.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, 0.55))
    below.step(np.arange(requests.share.size)[::50], 100 * requests.share[::50], color="#1b6ca8", where="post")
    below.set_ylabel("challenger, %")
    below.set_xlabel("requests of both versions")
    return _save(figure, "experiment-run.svg")


def detection(results: Sequence[Result]) -> Path:
    """How many runs have rolled back after how many requests: equal versions and worse ones."""
    cases = [
        ("equal", "p95 TTFT, margin 0", "equal versions (p95 TTFT): rolling back is wrong"),
        ("p95 TTFT 20 % higher", "p95 TTFT, margin 0", "p95 TTFT 20 % higher"),
        ("errors 2 % against 1 %", "errors, margin 0", "errors 2 % against 1 %"),
    ]
    figure, rows = _figure(6.4, rows=len(cases))
    for axes, (effect, question, title) in zip(rows, cases, strict=True):
        for result in results:
            if (result.world, result.effect, result.question) != (STEADY.name, effect, question):
                continue
            label, color = _METHODS[result.method]
            at = np.linspace(0, STEADY.requests, _POINTS)
            share = 100 * np.searchsorted(np.array(result.after), at, side="right") / result.runs
            axes.plot(at, share, color=color, label=label)
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_ylim(0, 100)
    rows[0].axhline(100 * ALPHA, color="black", linewidth=0.8, linestyle="--")
    rows[0].legend(frameon=False, fontsize=8, loc="center right")
    rows[1].set_ylabel("experiments rolled back, %")
    rows[-1].set_xlabel("requests of both versions, 50/50")
    return _save(figure, "experiments-detection.svg")


def _figure(height: float, rows: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = list(figure.subplots(rows, 1, sharex=True))
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.margins(x=0.01)
    return figure, axes


def _save(figure: Figure, name: str) -> Path:
    """The same data give the same bytes."""
    FOLDER.mkdir(exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "tandem", "svg.fonttype": "none"}):
        figure.savefig(FOLDER / name, metadata={"Date": None})
    return FOLDER / name
