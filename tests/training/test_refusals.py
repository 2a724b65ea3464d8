"""Measured refusal of non-digits: which pictures are drawn, which model refuses them, and the table."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tests.fakes import OnlyDigits
from worker.inference.classify import Classifier
from worker.training.data.pictures import from_arrays
from worker.training.drawing import nondigits
from worker.training.evaluation import refusals
from worker.training.evaluation.examine import Evaluation, Refusals, examine
from worker.training.evaluation.refusals import of_digits
from worker.training.evaluation.report import page
from worker.training.evaluation.tables import text, with_total


class Sure(OnlyDigits):
    """A model that takes everything for a 1, as surely as it is told."""

    version = "fake-1"

    def __init__(self, confidence: float) -> None:
        self.confidence = confidence
        self.card: dict[str, Any] = {"thresholds": {"accept": 0.9, "reject": 0.5}}

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        odds = np.full((len(pixels), 10), (1 - self.confidence) / 9, np.float32)
        odds[:, 1] = self.confidence
        return odds


MODELS = {"<sure>": Classifier(Sure(0.95), 10**6), "doubtful": Classifier(Sure(0.2), 10**6)}


def uprights(n: int) -> np.ndarray:
    """Ones as in MNIST: uint8 [n, 28, 28]."""
    images = np.zeros((n, 28, 28), np.uint8)
    images[:, 4:24, 13:16] = 255
    return images


@pytest.fixture(scope="module")
def found() -> list[Refusals]:
    return list(refusals.refusals(MODELS, uprights(5), n=6))


@pytest.fixture(scope="module")
def evaluation(found: list[Refusals]) -> Evaluation:
    images = uprights(5)
    pictures = from_arrays(images, np.ones(5, np.uint8), "MNIST")
    examinations = [examine(name, pictures, model) for name, model in MODELS.items()]
    return Evaluation("Ones", "mnist-1", examinations, [], [*found, of_digits("Ones", examinations)])


def test_every_kind_is_read_by_every_model(found):
    assert [one.name for one in found] == [*nondigits.KINDS, "digits, photographed"]
    assert [one.digits for one in found] == [False] * len(nondigits.KINDS) + [True]
    assert {one.images for one in found} == {6}
    assert all(one.refused["doubtful"] == 6 for one in found)
    assert found[-1].refused["<sure>"] == 0


def test_what_is_drawn_is_the_same_every_time_whatever_the_models(found):
    again = list(refusals.refusals({}, uprights(5), n=1))
    assert all(np.array_equal(one.sample, other.sample) for one, other in zip(found, again, strict=True))


def test_letters_are_of_the_fonts_held_out(monkeypatch):
    asked = set()
    fonts = nondigits.fonts
    monkeypatch.setattr(nondigits, "fonts", lambda held_out: asked.add(held_out) or fonts(held_out))
    list(refusals.refusals({}, uprights(5), n=2))
    assert asked == {True}


def test_digits_that_are_refused_are_counted(evaluation):
    assert evaluation.refusals[-1].refused == {"<sure>": 0, "doubtful": 5}


def test_the_total_stands_behind_what_it_counts(evaluation):
    rows = with_total(evaluation.refusals)
    assert [one.name for one in rows[-3:]] == ["all non-digits", "digits, photographed", "Ones"]
    assert rows[-3].images == 6 * len(nondigits.KINDS)
    assert rows[-3].refused["doubtful"] == rows[-3].images


def test_the_table_is_in_the_page_the_json_and_the_text(evaluation):
    html = page(evaluation)
    assert html.count("<h2>Non-digits</h2>") == 1
    assert "&lt;sure&gt;" in html
    assert "<sure>" not in html
    section = html[html.index("<h2>Non-digits</h2>") :]
    section = section[: section.index("</table>")]
    assert section.count("<img") == len(evaluation.refusals)
    # Refused letters are as they should be, refused digits as red as can be.
    assert re.search(r"letters</th>.*?--w:0\.00\">100\.00</td></tr>", section)
    assert re.search(r"Ones</th>.*?--w:0\.60\">100\.00</td></tr>", section)
    assert evaluation.to_json()["refusals"][-1] == {
        "name": "Ones",
        "images": 5,
        "digits": True,
        "refused": {"<sure>": 0, "doubtful": 5},
    }
    assert re.search(r"all non-digits +72 +\d+\.\d\d +100\.00", text(evaluation))


def test_an_evaluation_without_drawings_has_no_such_table(evaluation):
    without = Evaluation("Ones", "mnist-1", evaluation.examinations, [])
    assert "What is no digit" not in page(without)
    assert "refused" not in text(without)
