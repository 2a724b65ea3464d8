"""From bytes to outcomes, with a stand-in for the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import worker.classify
from shared.errors import DigitqError, UndecodableImage
from shared.prediction import Outcome
from tests.pictures import png, seven
from worker.classify import Classifier


class Sure:
    """A model that sees a 7 in everything, as sure as it is told to be."""

    version = "sure-1"

    def __init__(self, confidence: float = 0.95, **thresholds: float) -> None:
        self.card: dict[str, Any] = {"thresholds": thresholds} if thresholds else {}
        self.confidence = confidence

    def predict(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        probabilities = np.full((len(pixels), 10), (1 - self.confidence) / 9, np.float32)
        probabilities[:, 7] = self.confidence
        return probabilities


def one(image: bytes, model: Sure) -> Outcome:
    [result] = Classifier(model, 10**6)([image]).results
    assert isinstance(result, Outcome)
    return result


def test_an_outcome_has_everything_that_the_record_wants() -> None:
    found = one(seven(), Sure())
    assert (found.digit, len(found.probabilities), len(found.input), found.decision) == (7, 10, 784, "accept")
    assert sum(found.probabilities) == pytest.approx(1, abs=1e-5)
    assert max(found.input) == 255


@pytest.mark.parametrize(("confidence", "decision"), [(0.95, "accept"), (0.7, "review"), (0.3, "reject")])
def test_the_decision_follows_the_confidence(confidence: float, decision: str) -> None:
    assert one(seven(), Sure(confidence)).decision == decision


def test_the_card_of_the_model_moves_the_thresholds() -> None:
    assert one(seven(), Sure(0.7, accept=0.6)).decision == "accept"
    assert one(seven(), Sure(0.7, reject=0.8)).decision == "reject"


def test_a_blank_picture_is_never_a_digit() -> None:
    found = one(png(), Sure(0.99))
    assert (found.decision, "no_ink" in found.warnings) == ("reject", True)


def test_a_picture_that_fails_does_so_in_its_place() -> None:
    done = Classifier(Sure(), 10**6)([seven(), b"no picture", seven(56), seven(2000)])
    kinds = [type(result) if not isinstance(result, DigitqError) else result.code for result in done.results]
    assert kinds == [Outcome, "undecodable_image", Outcome, "too_many_pixels"]
    assert isinstance(done.results[1], UndecodableImage)


def test_a_bug_in_preprocessing_costs_one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    preprocess = worker.classify.preprocess

    def buggy(data: bytes, **options: Any) -> Any:
        return 1 / 0 if data == b"bug" else preprocess(data, **options)

    monkeypatch.setattr(worker.classify, "preprocess", buggy)
    results = Classifier(Sure(), 10**6)([seven(), b"bug", seven()]).results
    assert [type(result) for result in results] == [Outcome, ZeroDivisionError, Outcome]


def test_a_model_that_breaks_the_law_of_the_batch_is_a_bug() -> None:
    model = Sure()
    model.predict = lambda pixels: np.zeros((1, 10), np.float32)  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="2 pictures"):
        Classifier(model, 10**6)([seven(), seven()])


def test_a_batch_that_takes_too_long_is_closed_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.classify, "BUDGET_SECONDS", -1)
    assert len(Classifier(Sure(), 10**6)([seven()] * 5).results) == 1
