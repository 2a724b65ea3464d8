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
