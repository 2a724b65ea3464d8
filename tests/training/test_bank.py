"""The bank: distorted digits and pictures, made once, and the batches made of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shared.errors import SettingsError
from tests.drawings import digits
from worker.training.bank import Bank, smoothed, softened
from worker.training.pages.crop_truth import NONDIGIT
from worker.training.recipes import BEST

COUNTS, COUNTED = (50, 40, 30), ("digits", "pictures", "crops")
RECIPE = replace(BEST, layers=(784, 12, 11), batch=20, pictures=8, bank=COUNTS, teacher=None)
RECIPE = replace(RECIPE, dropout=0.1, label_smoothing=0.1)
ABOUT = {"train": "0123"}


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    bank = Bank(tmp_path_factory.mktemp("bank"), COUNTS, ABOUT)
    bank.make(*digits(60), lambda: None)
    return bank


def rows(bank: Bank, kind: str) -> np.ndarray:
    return np.concatenate([np.load(path) for path in sorted(bank.directory.glob(f"{kind}-????.npy"))])


def test_a_bank_holds_digits_pictures_of_them_and_of_what_is_none(bank):
    assert rows(bank, "digits").shape == (50, 786)
    assert set(rows(bank, "digits")[:, -2]) <= set(range(10))
    pictures = rows(bank, "pictures")
    assert pictures.shape == (40, 786)
    assert (pictures[:, -2] == NONDIGIT).sum() == 12
    assert (pictures[:, -1] == 255).sum() >= 36  # but for what is no digit and yet like a plain 0 or 1


def test_finished_parts_are_kept_and_missing_ones_are_made_again_identically(bank):
    kept, lost = bank.directory / "digits-0000.npy", bank.directory / "pictures-0000.npy"
    before, written = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    made: list[None] = []
    bank.make(*digits(60), lambda: made.append(None))
    assert len(made) == 1
    assert lost.read_bytes() == before
    assert kept.stat().st_mtime_ns == written


def test_a_bank_is_of_one_data_set(bank):
    with pytest.raises(SettingsError, match="of other data or another version"):
        Bank(bank.directory, COUNTS, {"train": "4567"})


def test_a_batch_is_a_pure_function_of_seed_and_step(bank):
    one, same = bank.batch(RECIPE, 1, 3), Bank(bank.directory, COUNTS, ABOUT).batch(RECIPE, 1, 3)
    assert all(np.array_equal(*pair) for pair in zip(one, same, strict=True))
    for other in (bank.batch(RECIPE, 1, 4), bank.batch(RECIPE, 2, 3)):
        assert not np.array_equal(one[0], other[0])


def test_a_batch_has_digits_then_pictures_with_smoothed_labels(bank):
    pixels, targets, dice = bank.batch(RECIPE, 1, 5)
    assert (pixels.shape, targets.shape, dice.shape) == ((20, 28, 28), (20, 11), (20, 12))
    assert (pixels.dtype, targets.dtype, dice.dtype) == (np.float32, np.float32, np.uint8)
    assert (pixels.min(), pixels.max()) == (0, 1)
    assert np.allclose(targets.sum(axis=1), 1)
    assert np.allclose(targets.max(axis=1), 0.9 + 0.1 / 11)
    labels = targets.argmax(axis=1)
    assert (labels[:12] != NONDIGIT).all()
    drawn = {row[:-2].tobytes(): row[-2] for row in rows(bank, "pictures")}
    images = np.rint(pixels * 255).astype(np.uint8)
    assert [drawn[image.tobytes()] for image in images[12:]] == labels[12:].tolist()


def test_batches_made_ahead_are_the_same_and_end_where_they_should(bank):
    ahead = list(bank.batches(RECIPE, 1, 3, 14))
    assert len(ahead) == 11
    for step, batch in enumerate(ahead, 3):
        assert np.array_equal(batch[0], bank.batch(RECIPE, 1, step)[0])
    assert list(bank.batches(RECIPE, 1, 3, 3)) == []


def test_a_pupil_gets_its_teachers_answers(bank):
    def teach(images: np.ndarray) -> np.ndarray:
        return np.eye(11, dtype=np.float32)[images.reshape(len(images), -1).sum(axis=1) % 11] * 20

    bank.teach("teacher", teach, lambda: None)
    pixels, targets, _ = bank.batch(replace(RECIPE, teacher="teacher", temperature=2.0), 1, 0)
    images = np.rint(pixels * 255).astype(np.uint8)
    assert np.allclose(targets, softened(teach(images), 2.0))
    bank.teach("teacher", pytest.fail, lambda: None)  # once is enough


def test_a_model_that_goes_on_keeps_its_answers_and_learns_labels_as_far_as_they_are_trusted(bank):
    bank.teach("old-1", lambda images: np.zeros((len(images), 11), np.float32), lambda: None)
    further = replace(RECIPE, start="old-1", labels=0.25, nondigits=0.5, crops=6, label_smoothing=0.0)
    pixels, targets, _ = bank.batch(further, 1, 1)
    assert pixels.shape == (20, 28, 28)
    made = {row[:-2].tobytes(): row[-2:] for kind in COUNTED for row in rows(bank, kind)}
    shares = set()
    for at, (pixel, target) in enumerate(zip(pixels, targets, strict=True)):
        label, trust = made[np.rint(pixel * 255).astype(np.uint8).tobytes()].tolist()
        share = trust / 255 * (1 if at >= 14 else 0.5 if label == NONDIGIT else 0.25)
        shares.add((at >= 14, label == NONDIGIT, trust == 255))
        assert target[label] == pytest.approx(share + (1 - share) / 11)
        assert target.sum() == pytest.approx(1)
    assert {(False, False, True), (False, True, True), (True, False, False)} <= shares


def test_soft_targets_are_probabilities_at_the_temperature():
    found = softened(np.array([[0, 2, -4]], np.float16), 2.0)
    assert np.allclose(found, np.exp([0, 1, -2]) / np.exp([0, 1, -2]).sum())


def test_smoothing_spreads_a_share_over_all_classes():
    [row] = smoothed(np.array([3], np.uint8), 0.11)
    assert row[3] == pytest.approx(0.9)
    assert row[[0, 10]] == pytest.approx(0.01)
