"""The gate that keeps a sick model from claiming jobs."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.errors import ModelError, UndecodableImage
from shared.prediction import Outcome
from worker.inference import golden
from worker.inference.classify import Classified

#: A picture of class d has d in its first pixel, and this reader sees it.
LABELS = np.arange(200, dtype=np.uint8) % 10
IMAGES = np.zeros((200, 28, 28), np.uint8)
IMAGES[:, 0, 0] = LABELS


def reader(shift: float = 0.0, wrong: int = -1, limit: int = 1000, digitness: float = 1.0) -> golden.Classify:
    def read(image: bytes) -> Outcome | Exception:
        digit = int(np.asarray(Image.open(BytesIO(image)))[0, 0])
        if digit == wrong:
            return UndecodableImage()
        probabilities = [(0.1 - shift) / 9] * 10
        probabilities[digit] = 0.9 + shift
        return Outcome(digit, 0.9, tuple(probabilities), "accept", (), bytes(784), digitness=digitness)

    def classify(images: Sequence[bytes]) -> Classified:
        return Classified([read(image) for image in images[:limit]], 0, 0)

    return classify


def test_a_model_that_reads_as_recorded_passes(tmp_path: Path) -> None:
    golden.record(reader(), IMAGES, LABELS, tmp_path)
    golden.check(reader(shift=1e-4), tmp_path)
    golden.check(reader(limit=7), tmp_path)


@pytest.mark.parametrize(
    "sick",
    [reader(shift=0.05), reader(wrong=3), reader(digitness=0.9)],
    ids=["other probabilities", "an unreadable class", "digits that are none"],
)
def test_a_model_that_reads_otherwise_is_kept_out(sick: golden.Classify, tmp_path: Path) -> None:
    golden.record(reader(), IMAGES, LABELS, tmp_path)
    with pytest.raises(ModelError, match="golden self-test failed"):
        golden.check(sick, tmp_path)


def test_a_record_without_digitness_is_one_of_a_model_that_took_all_for_digits(tmp_path: Path) -> None:
    golden.record(reader(), IMAGES, LABELS, tmp_path)
    with np.load(tmp_path / golden.FILE) as whole:
        np.savez(tmp_path / golden.FILE, images=whole["images"], probabilities=whole["probabilities"])
    golden.check(reader(), tmp_path)
    with pytest.raises(ModelError, match="golden self-test failed: 0 of 100 digits"):
        golden.check(reader(digitness=0.5), tmp_path)


def test_a_model_without_its_golden_digits_is_kept_out(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        golden.check(reader(), tmp_path)
    (tmp_path / golden.FILE).write_bytes(b"damaged")
    with pytest.raises(ModelError, match="cannot be read"):
        golden.check(reader(), tmp_path)


def test_ten_digits_of_each_class_are_recorded(tmp_path: Path) -> None:
    golden.record(reader(), IMAGES, LABELS, tmp_path)
    with np.load(tmp_path / golden.FILE) as recorded:
        assert np.bincount(recorded["images"][:, 0, 0]).tolist() == [10] * 10


@pytest.mark.parametrize(("shift", "passes"), [(0.0045, True), (0.0055, False)])
def test_probabilities_may_differ_by_half_a_percent(shift: float, passes: bool, tmp_path: Path) -> None:
    golden.record(reader(), IMAGES, LABELS, tmp_path)
    if passes:
        golden.check(reader(shift=shift), tmp_path)
    else:
        with pytest.raises(ModelError, match="0 of 100 digits are read differently"):
            golden.check(reader(shift=shift), tmp_path)


def test_the_digitness_is_compared_with_the_recorded_one(tmp_path: Path) -> None:
    golden.record(reader(digitness=0.8), IMAGES, LABELS, tmp_path)
    golden.check(reader(digitness=0.8), tmp_path)
    with pytest.raises(ModelError):
        golden.check(reader(), tmp_path)


def test_a_model_that_answers_no_number_is_kept_out(tmp_path: Path) -> None:
    golden.record(reader(), IMAGES, LABELS, tmp_path)
    with pytest.raises(ModelError, match="golden self-test failed"):
        golden.check(reader(digitness=float("nan")), tmp_path)


def test_another_digit_by_a_hair_is_another_digit(tmp_path: Path) -> None:
    def torn(first: float) -> golden.Classify:
        chances = (first, 1 - first, *[0.0] * 8)
        one = Outcome(0, 0.5, chances, "review", (), bytes(784), digitness=1.0)
        return lambda images: Classified([one] * len(images), 0, 0)

    golden.record(torn(0.501), IMAGES, LABELS, tmp_path)
    with pytest.raises(ModelError, match="100 of 100 digits are read differently"):
        golden.check(torn(0.499), tmp_path)
