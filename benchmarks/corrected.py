"""Plays a user: reads labelled pictures with a model, and corrects what it shows, source by source.

A correction is what the page allows: the digit of a single picture, that of a box which is shown on a page of numbers,
or that there is none. Of lines of digits the truth is a text: boxes are aligned with it by a shortest edit distance.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from shared.numbers import Box, FoundDigit, PageReading
from shared.prediction import Outcome
from worker.inference.classify import Classifier
from worker.inference.numbers_classifier import NumbersClassifier

#: The label of what is no digit, in exports.
NONE = "none"


class Judged(NamedTuple):
    """The label that a model shows for a picture, or for a box on it, and the true label."""

    picture: Path
    box: Box | None
    shown: str  # a digit, or NONE where none is read
    label: str

    @property
    def wrong(self) -> bool:
        return self.shown != self.label

    @property
    def order(self) -> str:
        """Sorts pictures at random, always the same way."""
        return hashlib.sha256(self.picture.name.encode()).hexdigest()


def photos(folder: Path, classifier: Classifier) -> dict[str, list[Judged]]:
    """Read the pictures of `index.csv`, each of one digit, by their source."""
    found = defaultdict(list)
    with (folder / "index.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            found[row["source"]].append(_single(folder / row["path"], row["label"], classifier))
    return dict(found)


def cells(folder: Path, classifier: Classifier) -> dict[str, list[Judged]]:
    """Read cut-out cells of `cells/cells.jsonl`, if there are any, by their kind; an empty one shows no digit."""
    index, found = folder / "cells" / "cells.jsonl", defaultdict(list)
    for row in map(json.loads, index.read_text().splitlines() if index.exists() else ()):
        one = _single(folder / row["path"], row["label"] or NONE, classifier)
        found[f"cells, {row['kind']}"].append(one)
    return dict(found)


def pages(folder: Path, classifier: NumbersClassifier) -> dict[str, list[Judged]]:
    """Read the pages of `manifest.jsonl`, by their source and, of grids, by their ink."""
    found = defaultdict(list)
    for row in map(json.loads, (folder / "manifest.jsonl").read_text().splitlines()):
        if row.get("unordered"):
            continue
        grid = row["category"] == "grid"
        source = f"{row['source']}, {row['ink']}" if grid else row["source"]
        [outcome] = classifier([(folder / row["path"]).read_bytes()]).results
        if not isinstance(outcome, Outcome) or outcome.page is None:
            continue
        judge = _cells_of if grid else _aligned
        found[source] += [
            Judged(folder / row["path"], digit.box, _shown(digit), label)
            for digit, label in judge(outcome.page, row["lines"])
        ]
    return dict(found)


def export(judged: Sequence[Judged], folder: Path) -> Path:
    """Write a folder as the page exports one."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "pictures").mkdir(parents=True)
    names = {
        path: f"pictures/{at}{path.suffix}" for at, path in enumerate(dict.fromkeys(one.picture for one in judged))
    }
    for path, name in names.items():
        shutil.copyfile(path, folder / name)
    tables = {
        "index.csv": [one for one in judged if one.box is None and one.label != NONE],
        "not_digits.csv": [one for one in judged if one.box is None and one.label == NONE],
        "digits.csv": [one for one in judged if one.box is not None],
    }
    for table, rows in tables.items():
        with (folder / table).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label", "left", "top", "width", "height"])
            writer.writerows([names[one.picture], one.label, *(one.box or ())] for one in rows)
    return folder


def _single(path: Path, label: str, classifier: Classifier) -> Judged:
    [outcome] = classifier([path.read_bytes()]).results
    digit = isinstance(outcome, Outcome) and outcome.decision != "reject"
    return Judged(path, None, str(outcome.digit) if digit and isinstance(outcome, Outcome) else NONE, label)


def _shown(digit: FoundDigit) -> str:
    return NONE if digit.decision == "reject" else str(digit.digit)


def _cells_of(page: PageReading, lines: Sequence[str]) -> list[tuple[FoundDigit, str]]:
    """The digits in the cells of a grid with their labels; none if a grid of another size was found."""
    grid = page.grid
    if grid is None or [len(row) for row in grid.cells] != [len(line) for line in lines]:
        return []
    found = []
    for line, boxes in zip(lines, grid.boxes, strict=True):
        for label, (left, top, width, height) in zip(line, boxes, strict=True):
            found += [
                (digit, NONE if label == "." else label)
                for digit in page.digits
                if left <= digit.box[0] + digit.box[2] / 2 < left + width
                and top <= digit.box[1] + digit.box[3] / 2 < top + height
            ]
    return found


def _aligned(page: PageReading, lines: Sequence[str]) -> list[tuple[FoundDigit, str]]:
    """All boxes, also rejected ones, with the digits of the text that they are aligned with."""
    true, digits = "".join(filter(str.isdigit, "".join(lines))), page.digits
    # To take a digit for another one costs 2. To leave one out costs 2, or 1 if it is rejected: it may be a letter.
    costs = [[float(2 * j) for j in range(len(true) + 1)]]
    for one in digits:
        out = 1.0 if one.decision == "reject" else 2.0
        row = [costs[-1][0] + out]
        for j, label in enumerate(true, 1):
            both = costs[-1][j - 1] + (0 if str(one.digit) == label else 2)
            row.append(min(both, costs[-1][j] + out, row[j - 1] + 2))
        costs.append(row)
    labels, i, j = [NONE] * len(digits), len(digits), len(true)
    while i and j:
        one, here = digits[i - 1], costs[i][j]
        if here == costs[i - 1][j - 1] + (0 if str(one.digit) == true[j - 1] else 2):
            labels[i - 1], i, j = true[j - 1], i - 1, j - 1
        elif here == costs[i][j - 1] + 2:
            j -= 1
        else:
            i -= 1
    return list(zip(digits, labels, strict=True))
