"""Reads pages of numbers with a model, as a worker would, for the table of `digitq evaluate --numbers`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from shared.errors import DataError
from shared.prediction import Outcome
from worker.inference.numbers_classifier import NumbersClassifier, Stages
from worker.training.evaluation.page_scores import NEGATIVE, Score, Truth, f1, score

MANIFEST = "manifest.jsonl"


@dataclass(frozen=True, slots=True)
class PagesRead:
    """The scores of all pages, and the time of each by stage, in ms."""

    scores: list[Score]
    stages: list[Stages]

    def figures(self) -> dict[str, float | None]:
        """Return the figures by name: shares, or counts a picture; None where no picture tells."""
        hand = [one for one in self.scores if one.truth.handwritten]
        line, rows, mixed = ([one for one in hand if one.truth.category == name] for name in ("line", "rows", "mixed"))
        nine = [one for one in self.scores if one.truth.is_nine_by_nine]
        cells = [one.cells for one in nine if one.cells is not None]
        ordered = [one for one in self.scores if not one.truth.unordered]
        accepted = sum(one.accepted for one in ordered)
        return {
            "one number in a row, wholly right": _mean(one.right for one in line),
            "several rows, wholly right": _mean(one.right for one in rows),
            "digits among letters and signs, F1": f1(mixed) if mixed else None,
            "really handwritten, F1": f1(hand) if hand else None,
            "9x9 grids found": _mean(one.cells is not None for one in nine),
            "cells of these right": _mean(cells),
            "false digits in a picture that has none": _mean(
                one.found for one in self.scores if one.truth.category == NEGATIVE
            ),
            "accepted digits that are right": sum(one.accepted_right for one in ordered) / accepted
            if accepted
            else None,
        }

    def times(self) -> dict[str, list[float]]:
        """Return median and longest time of a picture in ms, by stage."""
        by_stage = zip(*self.stages, strict=True)
        return {name: [median(ms), max(ms)] for name, ms in zip(Stages._fields, by_stage, strict=True)}

    def to_json(self) -> dict[str, Any]:
        """Return all figures, and each page that is not wholly right."""
        wrong = [one.truth.path for one in self.scores if not one.right]
        return {"pictures": len(self.scores), **self.figures(), "ms": self.times(), "not_right": wrong}

    def text(self) -> str:
        """Return the figures as a table, and the times."""
        lines = [f"{len(self.scores)} pictures"]
        for name, value in self.figures().items():
            share = "-" if value is None else f"{value:.2f}" if "F1" in name or "false" in name else f"{value:.1%}"
            lines.append(f"{name:42}{share:>8}")
        lines.append(f"{'ms a picture':42}{'median':>8}{'longest':>9}")
        lines += [f"  {name:40}{times[0]:8.1f}{times[1]:9.1f}" for name, times in self.times().items()]
        return "\n".join(lines)


def from_manifest(folder: Path) -> list[Truth]:
    """Read `folder`/manifest.jsonl: `path`, `category`, `lines`, and if known `ink` and `unordered`, one page a line.

    Raises `DataError`.
    """
    manifest = folder / MANIFEST
    try:
        rows = [json.loads(line) for line in manifest.read_text("utf-8").splitlines() if line.strip()]
        return [
            Truth(row["path"], row["category"], tuple(row["lines"]), row.get("ink", ""), bool(row.get("unordered")))
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{manifest} cannot be read ({error!r}): expected a line for each page, "
            '{"path": "a.jpg", "category": "line", "lines": ["735426"]}'
        ) from error


def evaluate_numbers(
    classifier: NumbersClassifier, folder: Path, pages: Sequence[Truth], say: Callable[[str], None]
) -> PagesRead:
    """Read the pages in a folder one by one, and score them. Raises `DataError` if a file is missing."""
    found = PagesRead([], [])
    for page in pages:
        try:
            content = (folder / page.path).read_bytes()
        except OSError as error:
            raise DataError(f"{folder / page.path} cannot be read: {error}") from error
        classified, stages = classifier.staged([content])
        [outcome] = classified.results
        if not isinstance(outcome, Outcome):
            say(f"{page.path}: {outcome}")
        found.scores.append(score(page, outcome.page if isinstance(outcome, Outcome) else None))
        found.stages.append(stages)
    return found


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return sum(values) / len(values) if values else None
