"""Plots as SVG text: a line or a cloud of points over two axes, which is all that a report needs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

Point = tuple[float, float]

_WIDTH: Final = 640
_HEIGHT: Final = 260
_LEFT: Final = 56
_RIGHT: Final = 12
_TOP: Final = 12
_BOTTOM: Final = 40
_TICKS: Final = 5
_MOST_POINTS: Final = 4000
"""In one series: more can't be told apart, and make a file that is slow to open."""
COLOURS: Final = ("#1f6feb", "#d1542b", "#2d9d62", "#8a5cd6")


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one kind."""

    name: str
    points: Sequence[Point]
    dots: bool = False
    """Each on its own, in place of a line through all."""


def plot(title: str, x: str, y: str, series: Sequence[Series]) -> str:
    """A plot with a title, both axes' names, and a legend. Both axes begin at 0; series without points are left out."""
    drawn = [(one, _thinned(one.points), COLOURS[at % len(COLOURS)]) for at, one in enumerate(series) if one.points]
    if not drawn:
        return ""
    xs, ys = (
        _ticks(max(p[0] for _, points, _ in drawn for p in points)),
        _ticks(max(p[1] for _, points, _ in drawn for p in points)),
    )

    def place(point: Point) -> Point:
        inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return _LEFT + point[0] / xs[-1] * inner_width, _HEIGHT - _BOTTOM - point[1] / ys[-1] * inner_height

    shapes = [
        *(_x_tick(place((value, 0)), value) for value in xs),
        *(_y_tick(place((0, value)), value) for value in ys),
    ]
    for one, points, colour in drawn:
        placed = [place(point) for point in points]
        shapes.append(_dots(placed, colour) if one.dots else _line(placed, colour))
    shapes.append(_text(_WIDTH / 2, _HEIGHT - 6, x, "middle"))
    shapes.append(
        f'<text class="axis" text-anchor="middle" transform="translate(12 {_HEIGHT / 2}) rotate(-90)">'
        f"{escape(y)}</text>"
    )
    legend = "".join(f'<span style="color:{colour}">■</span> {escape(one.name)} ' for one, _, colour in drawn)
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(shapes)}</svg>'
    return f"<figure><figcaption><b>{escape(title)}</b> {legend}</figcaption>{svg}</figure>"


def cumulative(values: Sequence[float]) -> list[Point]:
    """For each value, which percentage of all is not above it."""
    ordered = sorted(values)
    return [(value, 100 * rank / len(ordered)) for rank, value in enumerate(ordered, 1)]


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    step = math.ceil(len(points) / _MOST_POINTS)
    return points if step <= 1 else [*points[:-1:step], points[-1]]


def _ticks(top: float) -> list[float]:
    """Round values from 0 to at least `top`."""
    if top <= 0:
        return [0.0, 1.0]
    rough = top / _TICKS
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    return [step * index for index in range(math.ceil(top / step - 1e-9) + 1)]


def _x_tick(at: Point, value: float) -> str:
    return f'<line class="grid" x1="{at[0]:.1f}" x2="{at[0]:.1f}" y1="{_TOP}" y2="{at[1]:.1f}"/>' + _text(
        at[0], at[1] + 14, f"{value:g}", "middle"
    )


def _y_tick(at: Point, value: float) -> str:
    return f'<line class="grid" x1="{at[0]:.1f}" x2="{_WIDTH - _RIGHT}" y1="{at[1]:.1f}" y2="{at[1]:.1f}"/>' + _text(
        at[0] - 6, at[1] + 4, f"{value:g}", "end"
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="axis" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(points: Sequence[Point], colour: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline fill="none" stroke="{colour}" stroke-width="1.6" points="{path}"/>'


def _dots(points: Sequence[Point], colour: str) -> str:
    circles = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.8"/>' for x, y in points)
    return f'<g fill="{colour}" fill-opacity="0.6">{circles}</g>'
