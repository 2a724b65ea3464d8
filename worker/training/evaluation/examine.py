"""Examines models on labelled pictures, processed like uploads: figures, and the mistakes themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.prediction import Outcome
from worker.inference.classify import Classifier
from worker.inference.mlp import CLASSES
from worker.training.data.pictures import Picture
from worker.training.evaluation.evaluate import CHUNK, Report
from worker.training.evaluation.measures import area, calibration_error, reliability, risk_coverage
from worker.training.evaluation.ways import Condition

DECISIONS = ("accept", "review", "reject")
Answer = tuple[Picture, Outcome]


@dataclass(frozen=True)
class Examination:
    """The results of one model on the pictures. All shares are from 0 to 1."""

    model: str
    pictures: Sequence[Picture]
    #: For each picture its outcome, or its error.
    results: Sequence[Outcome | Exception]
    #: The results on the same digits as arrays, without decoding and preprocessing, if there are arrays.
    direct: Report | None = None

    @cached_property
    def answers(self) -> list[Answer]:
        """The pictures that could be decoded, with their outcomes."""
        pairs = zip(self.pictures, self.results, strict=True)
        return [(picture, result) for picture, result in pairs if isinstance(result, Outcome)]

    @cached_property
    def report(self) -> Report:
        """The counts of all pictures."""
        return _report(self.answers, len(self.pictures) - len(self.answers))

    @cached_property
    def mistakes(self) -> list[Answer]:
        """The pictures read wrongly, by falling confidence."""
        wrong = [(picture, outcome) for picture, outcome in self.answers if picture.label != outcome.digit]
        return sorted(wrong, key=lambda answer: -(answer[1].confidence or 0))

    @cached_property
    def calibration(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Confidences [n], and whether the answers were right [n]."""
        confidences = np.array([outcome.confidence for _, outcome in self.answers], np.float64)
        return confidences, np.array([picture.label == outcome.digit for picture, outcome in self.answers], np.bool_)

    def categories(self) -> dict[str, Report]:
        """The counts of each category, sorted by name."""
        names = sorted({picture.category for picture in self.pictures})
        every = zip(self.pictures, self.results, strict=True)
        lost = [picture.category for picture, result in every if not isinstance(result, Outcome)]
        parts = {name: [answer for answer in self.answers if answer[0].category == name] for name in names}
        return {name: _report(part, lost.count(name)) for name, part in parts.items()}

    def decisions(self) -> dict[str, dict[str, int]]:
        """Return for each decision the numbers of pictures and of those read wrongly."""
        of = {name: [a for a in self.answers if a[1].decision == name] for name in DECISIONS}
        return {
            name: {"images": len(part), "errors": sum(picture.label != outcome.digit for picture, outcome in part)}
            for name, part in of.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Return everything as a JSON object."""
        bins, curve = reliability(*self.calibration), risk_coverage(*self.calibration)
        return {
            "model": self.model,
            **self.report.to_json(),
            "direct": self.direct and self.direct.to_json(),
            "ece": calibration_error(bins),
            "reliability": [one._asdict() for one in bins],
            "aurc": area(curve),
            "risk_coverage": curve,
            "decisions": self.decisions(),
            "categories": {name: report.to_json() for name, report in self.categories().items()},
            "mistakes": [_mistake(picture, outcome) for picture, outcome in self.mistakes],
            "undecodable_files": {
                picture.name: str(result)
                for picture, result in zip(self.pictures, self.results, strict=True)
                if not isinstance(result, Outcome)
            },
        }


class Refusals(NamedTuple):
    """The number of pictures of one kind that each model rejected."""

    name: str
    #: Grey levels uint8 [H, W] of one of them, to show.
    sample: NDArray[np.uint8]
    images: int
    #: Whether they show digits, which should not be rejected.
    digits: bool
    #: The number of rejected pictures by model.
    refused: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return everything but the sample as a JSON object."""
        return {name: value for name, value in self._asdict().items() if name != "sample"}


@dataclass(frozen=True)
class Evaluation:
    """The results of several models on the same pictures, with and without the preprocessing."""

    title: str
    preprocessing: str
    examinations: list[Examination]
    conditions: list[Condition]
    #: Non-digits first, then digits; empty if none were drawn.
    refusals: list[Refusals] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return everything as a JSON object; `conditions` counts the pictures read right by model and way."""
        conditions = [{"name": c.name, "images": c.images, "right": c.right} for c in self.conditions]
        models = [one.to_json() for one in self.examinations]
        return {
            "title": self.title,
            "preprocessing": self.preprocessing,
            "models": models,
            "conditions": conditions,
            "refusals": [one.to_json() for one in self.refusals],
        }


def examine(name: str, pictures: Sequence[Picture], classifier: Classifier) -> Examination:
    """Read the pictures as a worker does, in batches."""
    results: list[Outcome | Exception] = []
    while len(results) < len(pictures):  # a batch of large pictures is closed early
        chunk = pictures[len(results) : len(results) + CHUNK]
        results += classifier([one.content() for one in chunk]).results
    return Examination(name, pictures, results)


def _report(answers: Sequence[Answer], undecodable: int) -> Report:
    confusion = np.zeros((CLASSES, CLASSES), int)
    for picture, outcome in answers:
        confusion[picture.label, outcome.digit] += 1
    return Report(confusion.tolist(), undecodable)


def _mistake(picture: Picture, outcome: Outcome) -> dict[str, Any]:
    return {
        "name": picture.name,
        "category": picture.category,
        "label": picture.label,
        "digit": outcome.digit,
        "confidence": outcome.confidence,
        "decision": outcome.decision,
        "warnings": list(outcome.warnings),
    }
