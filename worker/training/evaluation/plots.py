"""Plots as inline SVG. Colours and fonts come from the page that they stand in, so they follow its light or dark mode.

All are functions from numbers to text; the classes are those of report.html.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from worker.training.evaluation.measures import Bin, wilson

#: Of the viewBox; the page scales it.
WIDTH, HEIGHT = 340, 260
#: The area of the data: left, top, right, bottom.
LEFT, TOP, RIGHT, BOTTOM = 58, 10, 320, 216
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def reliability_diagram(bins: Sequence[Bin]) -> str:
    """Accuracy over confidence, a bar for each bin with the 95 % interval of its height; the diagonal is calibrated."""
    marks = [*(_bar(one) for one in bins if one.answers), _line([(0, 0), (1, 1)], 1, "ideal")]
    label = "Reliability diagram: accuracy over confidence"
    return _frame(label, marks, ("confidence", TICKS), ("accuracy", TICKS), 1)


def risk_coverage_plot(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Name -> curve of (coverage, risk). One line for each; the risk axis ends a little above the highest risk."""
    top = _round_up(max((risk for curve in curves.values() for _, risk in curve), default=0))
    marks = [
        _line([(coverage, risk) for coverage, risk in curve], top, f"curve c{number % 4}", name)
        for number, (name, curve) in enumerate(curves.items())
    ]
    risks = tuple(top * tick for tick in TICKS)
    return _frame("Risk-coverage curve", marks, ("coverage", TICKS), ("risk", risks), top)


def legend(names: Iterable[str]) -> str:
    """The names beside the strokes of their curves, in the order of the curves."""
    items = (
        f'<li><svg viewBox="0 0 24 8" class="key" aria-hidden="true">'
        f'<path class="curve c{number % 4}" d="M0 4H24"/></svg>{escape(name)}</li>'
        for number, name in enumerate(names)
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _round_up(share: float) -> float:
    """The next of 1, 2, 4, 6, 8 or 10 times a power of ten, so that quarters of it are short numbers."""
    for power in (1e-4, 1e-3, 1e-2, 1e-1):
        for step in (1, 2, 4, 6, 8, 10):
            if share <= step * power:
                return step * power
    return 1.0


def _frame(
    label: str,
    marks: Sequence[str],
    x: tuple[str, Sequence[float]],
    y: tuple[str, Sequence[float]],
    top: float,
) -> str:
    """Axes with named ticks and a grid around the marks."""
    (x_name, x_ticks), (y_name, y_ticks) = x, y
    grid = [_line([(0, tick), (1, tick)], top, "grid") for tick in y_ticks]
    below = [_text(_x(tick), BOTTOM + 16, _percent(tick), "middle") for tick in x_ticks]
    beside = [_text(LEFT - 6, _y(tick, top) + 4, _percent(tick), "end") for tick in y_ticks]
    middle = (TOP + BOTTOM) / 2
    names = [
        _text((LEFT + RIGHT) / 2, HEIGHT - 8, x_name, "middle"),
        f'<text x="11" y="{middle}" text-anchor="middle" transform="rotate(-90 11 {middle})">{y_name}</text>',
    ]
    inside = "".join([*grid, *marks, *below, *beside, *names])
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" class="plot" role="img" aria-label="{escape(label)}">{inside}</svg>'


def _bar(one: Bin) -> str:
    """A bin's bar, its whisker, and what a pointer reads there."""
    right = round(one.accuracy * one.answers)
    low, high = wilson(right, one.answers)
    left, width = _x(one.low) + 1, _x(one.high) - _x(one.low) - 2
    middle = left + width / 2
    title = f"{one.answers} answers, {_percent(one.confidence)} sure, {_percent(one.accuracy)} right"
    return (
        f'<g><title>{title}</title><rect class="bar" x="{left:.1f}" y="{_y(one.accuracy, 1):.1f}" width="{width:.1f}"'
        f' height="{BOTTOM - _y(one.accuracy, 1):.1f}"/>'
        f'<path class="whisker" d="M{middle:.1f} {_y(low, 1):.1f}V{_y(high, 1):.1f}"/></g>'
    )


def _line(points: Sequence[tuple[float, float]], top: float, style: str, title: str = "") -> str:
    path = "L".join(f"{_x(x):.1f} {_y(y, top):.1f}" for x, y in points)
    return f'<path class="{style}" d="M{path}"><title>{escape(title)}</title></path>' if points else ""


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _x(share: float) -> float:
    return LEFT + share * (RIGHT - LEFT)


def _y(value: float, top: float) -> float:
    return BOTTOM - value / top * (BOTTOM - TOP)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
