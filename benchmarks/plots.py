"""Curves as self-contained SVG, readable on a light and on a dark page. Functions from numbers to text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 720, 420
#: The area of the data: left, top, right, bottom; the legend stands to its right.
LEFT, TOP, RIGHT, BOTTOM = 64, 34, 510, 370
COLOURS = ("#2a78d6", "#0b9f8b", "#d9542b", "#8a5cd1", "#8c8c8c", "#b8860b")
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#333}.grid{stroke:#8884;fill:none}.curve{fill:none;stroke-width:2}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}}"
)


class Axis:
    """A logarithmic axis over the values, from one power of ten (or two or five times it) to another."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.start, self.end = start, end
        low, high = min(values, default=1), max(values, default=10)
        steps = [step * 10.0**power for power in range(-3, 9) for step in (1, 2, 5)]
        self.low = max((step for step in steps if step <= low), default=steps[0])
        self.high = min((step for step in steps if step >= high and step > self.low), default=steps[-1])
        self.ticks = [step for step in steps if self.low <= step <= self.high]

    def at(self, value: float) -> float:
        """Return the position of a value in the plot."""
        share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)


def plot(title: str, x_name: str, y_name: str, curves: Mapping[str, Points], dashed: Mapping[str, Points]) -> str:
    """Both axes logarithmic. `dashed` has further curves of the same names, in the same colours."""
    every = [point for points in [*curves.values(), *dashed.values()] for point in points]
    x = Axis([point[0] for point in every if point[0] > 0], LEFT, RIGHT)
    y = Axis([point[1] for point in every if point[1] > 0], BOTTOM, TOP)
    marks = _grid(x, y)
    for number, name in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        marks += [_curve(x, y, curves[name], colour, name), _curve(x, y, dashed.get(name, ()), colour, name, "4 4")]
        height = TOP + 14 + 20 * number
        marks.append(f'<path class="curve" stroke="{colour}" d="M{RIGHT + 16} {height - 4}h22"/>')
        marks.append(text(RIGHT + 44, height, name, "start"))
    marks += [text(LEFT, 20, title, "start"), text((LEFT + RIGHT) / 2, HEIGHT - 10, x_name, "middle")]
    middle = (TOP + BOTTOM) / 2
    marks.append(f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">{y_name}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
    return f'{head} aria-label="{escape(title)}"><style>{STYLE}</style>{"".join(marks)}</svg>\n'


def _grid(x: Axis, y: Axis) -> list[str]:
    lines = [f'<path class="grid" d="M{LEFT} {y.at(tick):.1f}H{RIGHT}"/>' for tick in y.ticks]
    lines += [f'<path class="grid" d="M{x.at(tick):.1f} {TOP}V{BOTTOM}"/>' for tick in x.ticks]
    lines += [text(LEFT - 6, y.at(tick) + 4, f"{tick:g}", "end") for tick in y.ticks]
    return lines + [text(x.at(tick), BOTTOM + 18, f"{tick:g}", "middle") for tick in x.ticks]


def _curve(x: Axis, y: Axis, points: Points, colour: str, name: str, dash: str = "") -> str:
    if not points:
        return ""
    path = "L".join(f"{x.at(a):.1f} {y.at(b):.1f}" for a, b in sorted(points))
    dots = "".join(
        f'<circle cx="{x.at(a):.1f}" cy="{y.at(b):.1f}" r="3" fill="{colour}"><title>{escape(name)}: {a:.4g}, {b:.4g}'
        "</title></circle>"
        for a, b in points
    )
    return f'<path class="curve" stroke="{colour}" stroke-dasharray="{dash}" d="M{path}"/>{dots}'


def text(x: float, y: float, words: str, anchor: str) -> str:
    """Return a text element at a position; `anchor` is its SVG text-anchor."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
