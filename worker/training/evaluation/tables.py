"""Makes the tables of an evaluation, as HTML for the report and as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from worker.inference.mlp import CLASSES
from worker.training.evaluation.evaluate import Report
from worker.training.evaluation.examine import DECISIONS, Evaluation, Examination, Refusals
from worker.training.evaluation.measures import calibration_error, reliability, wilson
from worker.training.evaluation.ways import WAYS

#: Column heads by way of preprocessing.
HEADS = {"mnist": "with", "seed": "seed", "plain": "none"}


def models(examinations: Sequence[Examination]) -> str:
    """Return the comparison of the models, one column each."""
    rows = {
        "read right": [f"<b>{_percent(one.report.accuracy)}</b>" for one in examinations],
        "95 % interval": [_interval(one.report) for one in examinations],
        "errors": [f"{one.report.errors:,}" for one in examinations],
        "ECE, 15 bins": [_percent(calibration_error(reliability(*one.calibration))) for one in examinations],
    }
    if all(one.direct for one in examinations):
        rows["read right, fed directly"] = [_percent(one.direct.accuracy) for one in examinations if one.direct]
    parts = [one.decisions() for one in examinations]
    for decision in DECISIONS:
        rows[decision] = [_decided(part[decision], one) for part, one in zip(parts, examinations, strict=True)]
    lines = (_row([_head(name), *map(_cell, cells)]) for name, cells in rows.items())
    return _table(_row(["<th></th>", *(_head(one.model) for one in examinations)]), lines)


def categories(one: Examination) -> str:
    """Return the figures of each category; "" if there is only one."""
    reports = one.categories()
    if len(reports) < 2:
        return ""
    lines = (
        _row(
            [
                _head(name),
                _cell(f"{report.images:,}"),
                _cell(f"{report.errors:,}"),
                _heat(report.accuracy),
                _cell(_interval(report)),
            ]
        )
        for name, report in {**reports, "all": one.report}.items()
    )
    heads = map(_head, ("category", "pictures", "errors", "right, %", "95 % interval"))
    return _table(_row(heads), lines)


def confusion(report: Report) -> str:
    """Return the confusion matrix: labels in rows, predictions in columns, redder if more often."""
    most = max((n for label, row in enumerate(report.confusion) for n in row[:label] + row[label + 1 :]), default=0)
    lines = []
    for label, row in enumerate(report.confusion):
        cells = (_count(n, label == digit, n / max(most, 1)) for digit, n in enumerate(row))
        lines.append(_row([_head(str(label)), *cells]))
    heads = _row(["<th></th>", *(_head(str(digit)) for digit in range(CLASSES))])
    return _table(heads, lines, "confusion", "Rows: the label. Columns: the prediction.")


def preprocessing(evaluation: Evaluation, samples: Mapping[str, str]) -> str:
    """Return a row for each condition with its sample (an HTML element), and a column for each model and way."""
    names = [one.model for one in evaluation.examinations]
    over = "".join(f'<th class="first" colspan="{len(WAYS)}">{escape(name)}</th>' for name in names)
    heads = [_head(HEADS[way], "first" if way == "mnist" else "") for _ in names for way in WAYS]
    lines = []
    for one in evaluation.conditions:
        shares = [(way, one.right[name][way] / one.images) for name in names for way in WAYS]
        cells = [_heat(share, "first" if way == "mnist" else "") for way, share in shares]
        kind = f"<th>{samples[one.name]}{escape(one.name)}</th>"
        lines.append(_row([kind, f'<td class="count">{one.images:,}</td>', *cells]))
    above = _row([f'<th></th><th class="count"></th>{over}'])
    return _table(above + _row(["<th></th>", _head("pictures", "count"), *heads]), lines)


def refusals(evaluation: Evaluation, samples: Mapping[str, str]) -> str:
    """Return a row for each kind of picture with its sample (an HTML element), and the share each model rejected."""
    names = [one.model for one in evaluation.examinations]
    lines = []
    for one in with_total(evaluation.refusals):
        shares = [one.refused[name] / one.images for name in names]
        cells = [_heat(share, bad=share if one.digits else 1 - share) for share in shares]
        kind = f"<th>{samples.get(one.name, '')}{escape(one.name)}</th>"
        lines.append(_row([kind, f'<td class="count">{one.images:,}</td>', *cells]))
    return _table(_row(["<th></th>", _head("pictures", "count"), *map(_head, names)]), lines)


def with_total(rows: Sequence[Refusals]) -> list[Refusals]:
    """Insert the total of all non-digits, at least one row, after them."""
    none = [one for one in rows if not one.digits]
    refused = {name: sum(one.refused[name] for one in none) for name in none[0].refused}
    every = Refusals("all non-digits", none[0].sample, sum(one.images for one in none), False, refused)
    return [*none, every, *(one for one in rows if one.digits)]


def text(evaluation: Evaluation) -> str:
    """Return the evaluation as text for a terminal."""
    blocks = []
    for one in evaluation.examinations:
        ece = f"ECE {100 * calibration_error(reliability(*one.calibration)):.2f} %"
        blocks += [f"{one.model}, direct: {one.direct.summary()}"] if one.direct else []
        blocks += [f"{one.model}, served: {one.report.table()}", ece]
        parts = one.categories()
        if len(parts) > 1:
            blocks += [f"{name:16} {report.summary()}" for name, report in parts.items()]
    if evaluation.conditions:
        blocks += ["", "read right, in %, " + ", ".join(f"{head}: {way}" for way, head in _EXPLAINED.items())]
        blocks += [_line(evaluation, number) for number in range(-1, len(evaluation.conditions))]
    return "\n".join([*blocks, *_refused(evaluation)])


_EXPLAINED = {"our preprocessing": "with", "the seed's": "seed", "only resized": "none"}


def _line(evaluation: Evaluation, number: int) -> str:
    """Return the heads (-1) or a row of the table of conditions as text."""
    names = [one.model for one in evaluation.examinations]
    if number < 0:
        return " " * 26 + "".join(f"{name:^24}" for name in names) + "\n" + " " * 26 + _heads() * len(names)
    one = evaluation.conditions[number]
    shares = (100 * one.right[name][way] / one.images for name in names for way in WAYS)
    return f"  {one.name:16}{one.images:6}  " + "".join(f"{share:8.2f}" for share in shares)


def _refused(evaluation: Evaluation) -> list[str]:
    """Return the table of rejections as lines of text."""
    if not evaluation.refusals:
        return []
    names = [one.model for one in evaluation.examinations]
    lines = ["", "refused, in %", " " * 30 + "".join(f"{name:>16}" for name in names)]
    for one in with_total(evaluation.refusals):
        shares = (100 * one.refused[name] / one.images for name in names)
        lines.append(f"  {one.name:22}{one.images:6}" + "".join(f"{share:16.2f}" for share in shares))
    return lines


def _heads() -> str:
    return "".join(f"{HEADS[way]:>8}" for way in WAYS)


def _table(heads: str, lines: Iterable[str], style: str = "", caption: str = "") -> str:
    body = f"<thead>{heads}</thead><tbody>{''.join(lines)}</tbody>"
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="wide"><table{_class(style)}>{above}{body}</table></div>'


def _row(cells: Iterable[str]) -> str:
    return f"<tr>{''.join(cells)}</tr>"


def _head(text: str, style: str = "") -> str:
    return f"<th{_class(style)}>{escape(text)}</th>"


def _class(style: str) -> str:
    return f' class="{style}"' if style else ""


def _cell(content: str) -> str:
    return f"<td>{content}</td>"


def _heat(share: float, style: str = "", bad: float | None = None) -> str:
    """Return a cell with a share from 0 to 1, redder for larger `bad` (1 - share by default) up to a half."""
    bad = 1 - share if bad is None else bad
    return f'<td class="heat {style}" style="--w:{min(1.2 * bad, 0.6):.2f}">{100 * share:.2f}</td>'


def _count(n: int, right: bool, weight: float) -> str:
    style = "right" if right else "" if n else "none"
    return f'<td class="{style}" style="--w:{0.15 + 0.65 * weight if n else 0:.2f}">{n}</td>'


def _decided(part: Mapping[str, int], one: Examination) -> str:
    share = part["images"] / max(one.report.images, 1)
    return f"{_percent(share)} <small>({part['errors']:,} of {part['images']:,} wrong)</small>"


def _interval(report: Report) -> str:
    low, high = wilson(report.images - report.errors, report.images)
    return f"{100 * low:.2f}–{100 * high:.2f} %"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
