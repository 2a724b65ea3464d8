"""Curves over time, panel above panel, as self-contained SVG. Functions from numbers to text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.plots import COLOURS, STYLE, Points, text

WIDTH, PANEL, GAP, HEAD, FOOT = 860, 120, 34, 46, 40
#: The area of the data; names stand to its right.
LEFT, RIGHT = 64, 690


@dataclass(frozen=True)
class Panel:
    """One panel: what is counted, its curves by name, and heights to mark by name."""

    title: str
    curves: Mapping[str, Points]
    marks: Mapping[str, float]


def timeline(title: str, panels: Sequence[Panel], events: Sequence[tuple[float, str]], seconds: float) -> str:
    """Panels over the same `seconds`, each linear from zero; events (seconds, name) are lines through all of them."""
    height, parts = HEAD + len(panels) * (PANEL + GAP) + FOOT, [text(LEFT, 18, title, "start")]
    for number, panel in enumerate(panels):
        parts += _panel(panel, HEAD + number * (PANEL + GAP), seconds)
    bottom = height - FOOT - GAP
    for at, name in events:
        x = _x(at, seconds)
        parts.append(f'<path stroke="#d9542b" stroke-dasharray="4 4" d="M{x:.1f} {HEAD}V{bottom}"/>')
        parts.append(text(x, HEAD - 14, name, "middle"))
    step = next(step for step in (1, 2, 5, 10, 20, 60, 120, 600) if seconds / step <= 15 or step == 600)
    parts += [text(_x(at, seconds), bottom + 16, f"{at}", "middle") for at in range(0, int(seconds) + 1, step)]
    parts.append(text((LEFT + RIGHT) / 2, bottom + 34, "seconds", "middle"))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
    return f'{head} aria-label="{escape(title)}"><style>{STYLE}</style>{"".join(parts)}</svg>\n'


def _x(at: float, seconds: float) -> float:
    return LEFT + (RIGHT - LEFT) * at / seconds


def _panel(panel: Panel, top: float, seconds: float) -> list[str]:
    values = [y for points in panel.curves.values() for _, y in points]
    most = (max([*values, *panel.marks.values()]) or 1.0) * 1.05  # nothing at all has an axis, too

    def y(value: float) -> float:
        return top + PANEL * (1 - value / most)

    parts = [text(LEFT, top - 4, panel.title, "start")]
    for share in (0.0, 0.5, 1.0):
        value = most / 1.05 * share
        parts.append(f'<path class="grid" d="M{LEFT} {y(value):.1f}H{RIGHT}"/>')
        parts.append(text(LEFT - 6, y(value) + 4, f"{value:,.0f}" if value >= 100 else f"{value:.3g}", "end"))
    for name, value in panel.marks.items():
        parts.append(f'<path stroke="#8884" stroke-dasharray="2 3" d="M{LEFT} {y(value):.1f}H{RIGHT}"/>')
        parts.append(text(RIGHT + 6, y(value) + 4, name, "start"))
    for number, (name, points) in enumerate(panel.curves.items()):
        colour, beside = COLOURS[number % len(COLOURS)], top + PANEL / 2 + 20 * number
        path = "L".join(f"{_x(at, seconds):.1f} {y(value):.1f}" for at, value in points)
        if path:
            parts.append(f'<path class="curve" stroke="{colour}" d="M{path}"><title>{escape(name)}</title></path>')
        parts.append(f'<path class="curve" stroke="{colour}" d="M{RIGHT + 8} {beside - 4}h18"/>')
        parts.append(text(RIGHT + 32, beside, name, "start"))
    return parts
