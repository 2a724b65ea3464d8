"""From bytes to outcomes, with a stand-in for the network."""

from __future__ import annotations

from io import BytesIO
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import worker.inference.classify
from shared.errors import DigitqError, UndecodableImage
from shared.prediction import Outcome
from tests.drawings import black_on_white, drawn, encoded, on
from tests.fakes import Sure
from tests.pictures import png, seven
from worker.inference.classify import Classifier
from worker.inference.decision import decide
from worker.inference.mlp import Reading


def one(image: bytes, model: Sure) -> Outcome:
    [result] = Classifier(model, 10**6)([image]).results
    assert isinstance(result, Outcome)
    return result


def test_an_outcome_has_everything_that_the_record_wants() -> None:
    found = one(seven(), Sure())
    assert (found.digit, len(found.probabilities), len(found.input), found.decision) == (7, 10, 784, "accept")
    assert sum(found.probabilities) == pytest.approx(1, abs=1e-5)
    assert max(found.input) == 255


def test_of_an_animation_it_is_said_that_one_frame_was_read() -> None:
    frame, out = Image.open(BytesIO(seven(56))), BytesIO()
    frame.save(out, "GIF", save_all=True, append_images=[Image.new("L", (56, 56))])
    assert "several_frames" in one(out.getvalue(), Sure()).warnings
    assert "several_frames" not in one(seven(56, "GIF"), Sure()).warnings


@pytest.mark.parametrize(
    ("confidence", "decision", "reason"),
    [(0.95, "accept", None), (0.7, "review", "low_confidence"), (0.3, "reject", "low_confidence")],
)
def test_the_decision_follows_the_confidence(confidence: float, decision: str, reason: str | None) -> None:
    found = one(seven(), Sure(confidence))
    assert (found.decision, found.reason) == (decision, reason)


def test_the_card_of_the_model_moves_the_thresholds() -> None:
    assert one(seven(), Sure(0.7, accept=0.6)).decision == "accept"
    assert one(seven(), Sure(0.7, reject=0.8)).decision == "reject"


def test_a_blank_picture_is_never_a_digit() -> None:
    found = one(png(), Sure(0.99, digitness=0.0, digit=0.5))
    assert (found.decision, found.reason, "no_ink" in found.warnings) == ("reject", "no_ink", True)


@pytest.mark.parametrize(("digitness", "reason"), [(0.49, "not_a_digit"), (0.51, None)])
def test_what_the_model_takes_for_no_digit_is_rejected_however_sure_it_is_which_one(
    digitness: float, reason: str | None
) -> None:
    found = one(seven(), Sure(0.99, digitness, digit=0.5))
    assert (found.digit, found.reason, found.decision == "reject") == (7, reason, reason is not None)
    assert found.digitness == pytest.approx(digitness)


def test_a_model_whose_card_has_no_threshold_for_it_rejects_nothing_as_no_digit() -> None:
    assert one(seven(), Sure(0.99, digitness=0.0)).decision == "accept"


THRESHOLDS = {"accept": 0.9, "reject": 0.5, "digit": 0.5}


def test_several_digits_are_rejected_and_a_mere_remark_is_not() -> None:
    assert decide(0.99, 1.0, ("inverted", "several_digits"), THRESHOLDS) == ("reject", "several_digits")
    assert decide(0.99, 1.0, ("inverted", "noisy"), THRESHOLDS) == ("accept", None)


def test_the_thresholds_themselves_are_reached() -> None:
    assert decide(0.9, 0.5, (), THRESHOLDS) == ("accept", None)
    assert decide(0.5, 0.5, (), THRESHOLDS) == ("review", "low_confidence")


def test_why_there_is_no_digit_says_more_than_how_unsure_the_model_is() -> None:
    assert decide(0.2, 0.1, (), THRESHOLDS) == ("reject", "not_a_digit")


def test_a_picture_that_fails_does_so_in_its_place() -> None:
    done = Classifier(Sure(), 10**6)([seven(), b"no picture", seven(56), seven(2000)])
    kinds = [type(result) if not isinstance(result, DigitqError) else result.code for result in done.results]
    assert kinds == [Outcome, "undecodable_image", Outcome, "too_many_pixels"]
    assert isinstance(done.results[1], UndecodableImage)


def test_a_bug_in_preprocessing_costs_one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = worker.inference.classify.decode

    def buggy(data: bytes, **options: Any) -> Any:
        return 1 / 0 if data == b"bug" else decode(data, **options)

    monkeypatch.setattr(worker.inference.classify, "decode", buggy)
    results = Classifier(Sure(), 10**6)([seven(), b"bug", seven()]).results
    assert [type(result) for result in results] == [Outcome, ZeroDivisionError, Outcome]


class Tidy(Sure):
    """A model that takes pictures with much ink for no digits."""

    def read(self, pixels: NDArray[np.float32]) -> Reading:
        digitness = (pixels.mean(axis=(1, 2)) < 0.25).astype(np.float32)
        return Reading(self.predict(pixels), digitness)


def shadowed(grey: NDArray[np.uint8]) -> bytes:
    """Its right part in a shadow as dark as the ink of the left part."""
    levels = grey.astype(np.float32)
    levels[:, levels.shape[1] // 2 :] *= 0.5
    return encoded(levels.astype(np.uint8))


def test_a_picture_in_shadows_is_looked_at_again() -> None:
    ink = drawn(7, at=(50, 40))
    clean, shady = black_on_white(ink), shadowed(on(230, ink, depth=0.6))
    [first, second] = Classifier(Tidy(digit=0.5), 10**6)([encoded(clean), shady]).results
    assert isinstance(first, Outcome) and isinstance(second, Outcome)
    assert (first.decision, second.decision) == ("accept", "accept")
    assert "uneven_light" not in first.warnings and "uneven_light" in second.warnings
    levels = [np.frombuffer(one.input, np.uint8) for one in (first, second)]
    assert np.corrcoef(*levels)[0, 1] > 0.9


def test_what_is_no_digit_at_the_second_look_either_stays_as_the_first_saw_it() -> None:
    shady = shadowed(on(230, drawn(7, at=(50, 40)), depth=0.6))
    found = one(shady, Sure(0.99, digitness=0.0, digit=0.5))
    assert (found.reason, "uneven_light" in found.warnings) == ("not_a_digit", False)


def test_small_and_blank_pictures_gain_nothing_by_a_second_look() -> None:
    for image in (png(), encoded(np.full((200, 300), 210, np.uint8)), seven(28)):
        found = one(image, Sure(0.99, digitness=0.0, digit=0.5))
        assert found.decision == "reject" and "uneven_light" not in found.warnings


def test_a_digit_of_mnist_is_not_looked_at_again() -> None:
    bar = np.zeros((28, 28), np.uint8)
    bar[4:24, 12:16] = 255
    model = Sure(0.99, digitness=0.0, digit=0.5)
    read = Mock(wraps=model.read)
    model.read = read  # type: ignore[method-assign]
    assert one(encoded(bar), model).reason == "not_a_digit"
    assert read.call_count == 1
    one(shadowed(on(230, drawn(7, at=(50, 40)), depth=0.6)), model)
    assert read.call_count == 3


def test_a_model_that_breaks_the_law_of_the_batch_is_a_bug() -> None:
    model = Sure()
    model.predict = lambda pixels: np.zeros((1, 10), np.float32)  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="2 pictures"):
        Classifier(model, 10**6)([seven(), seven()])


def test_a_batch_that_takes_too_long_is_closed_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.inference.classify, "BUDGET_SECONDS", -1)
    assert len(Classifier(Sure(), 10**6)([seven()] * 5).results) == 1


def test_of_pictures_that_all_fail_each_has_its_error() -> None:
    results = Classifier(Sure(), 10**6)([b"nothing", b"of ours"]).results
    assert [type(one) for one in results] == [UndecodableImage] * 2
