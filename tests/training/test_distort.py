"""Distorted digits, rare forms, and pictures of both."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.drawings import digits
from worker.training.data.distort import distort
from worker.training.drawing import camera, strokes


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    return digits(60)


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """The cosine of two pictures of any grey levels, blurred."""
    a, b = (cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 2).ravel() for picture in (one, other))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


# Distortions


def test_a_distortion_depends_on_the_generator_alone(data):
    images = data[0]
    before = images.copy()
    one, same, other = (distort(images, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.dtype == np.uint8
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert np.array_equal(images, before)


def test_a_distorted_digit_is_still_that_digit(data):
    images = np.repeat(data[0], 10, axis=0)
    bent = distort(images, np.random.default_rng(0))
    ink = bent.sum(axis=(1, 2)) / images.sum(axis=(1, 2))
    assert 0.35 < ink.min() < ink.max() < 2.2
    assert 0.9 < ink.mean() < 1.15
    similar = np.array([alike(*pair) for pair in zip(images, bent, strict=True)])
    assert similar.min() > 0.6
    assert similar.mean() > 0.85
    assert (images != bent).any(axis=(1, 2)).all()


def test_a_distorted_digit_stays_in_the_frame(data):
    bent = distort(np.repeat(data[0], 10, axis=0), np.random.default_rng(0)).astype(float)
    inside = bent[:, 1:-1, 1:-1].sum(axis=(1, 2)) / bent.sum(axis=(1, 2))
    assert inside.min() > 0.9
    assert inside.mean() > 0.995


def test_more_images_than_opencv_has_rows_for(data):
    images = np.repeat(data[0], 20, axis=0)  # 1,200 of 40 rows each
    assert distort(images, np.random.default_rng(0)).shape == images.shape


# Rare forms


@pytest.mark.parametrize("label", strokes.FORMS)
def test_a_rare_form_is_ink_within_the_picture(label: int):
    rng = np.random.default_rng(label)
    for picture in (strokes.draw(label, 56, rng) for _ in range(100)):
        rows, columns = np.flatnonzero(picture.any(axis=1)), np.flatnonzero(picture.any(axis=0))
        assert 0.015 < (picture > 127).mean() < 0.4
        assert rows[0] > 0 < columns[0]
        assert rows[-1] < 55 > columns[-1]
        assert 36 <= max(rows[-1] - rows[0], columns[-1] - columns[0]) <= 52


def test_no_two_hands_write_the_same_form():
    rng = np.random.default_rng(0)
    drawn = {strokes.draw(label, 56, rng).tobytes() for label in strokes.FORMS for _ in range(50)}
    assert len(drawn) == 50 * len(strokes.FORMS)


def test_a_flag_and_a_crossbar_are_seen():
    rng = np.random.default_rng(0)
    flags = [strokes.flagged_one(rng) for _ in range(200)]
    assert all(stroke[0][0][0] < stroke[0][1][0] for stroke in flags)  # up to the right
    feet = sum(len(stroke) == 3 for stroke in flags)
    assert 60 < feet < 140
    for _, (top, foot), (left, right), *_ in (strokes.crossed_seven(rng) for _ in range(200)):
        height = (left[1] + right[1]) / 2
        assert top[1] < height < foot[1]
        assert left[0] < top[0] + (foot[0] - top[0]) * height < right[0]


# Pictures


def test_a_picture_of_a_digit_comes_back_in_mnists_place_and_size(data):
    rng = np.random.default_rng(0)
    for image in data[0]:
        seen = camera.seen(image, rng).astype(float)
        middle = np.arange(0.5, 28)
        centre = (seen.sum(axis=1) @ middle / seen.sum(), seen.sum(axis=0) @ middle / seen.sum())
        used = np.flatnonzero((seen > 100).any(axis=1) | (seen > 100).any(axis=0))
        assert centre == pytest.approx((14.5, 14.5), abs=1.5)
        assert 15 <= used[-1] - used[0] + 1 <= 24
        assert alike(image, seen) > 0.6  # some are turned, narrow or wide


def test_pens_and_papers_vary(data):
    rng = np.random.default_rng(0)
    inks = [camera.penned(data[0][0], rng) for _ in range(200)]
    sides = {len(ink) for ink in inks}
    assert 12 <= min(sides) < max(sides) < camera.SIDES[1]
    assert len(sides) > 40
    widths = [2 * ink.sum() / (np.abs(np.diff(ink.astype(float), axis=0)).sum() + 1) * 28 / len(ink) for ink in inks]
    assert max(widths) > 3 * min(widths)
    assert all(ink[0].max() == ink[-1].max() == ink[:, 0].max() == ink[:, -1].max() == 0 for ink in inks[:20])


def test_photographs_are_dark_on_light_and_light_on_dark(data):
    rng = np.random.default_rng(0)
    means = [camera.photographed(data[0][0], rng).mean() for _ in range(100)]
    assert 15 < sum(mean < 127 for mean in means) < 50


def test_a_picture_in_which_serving_loses_the_digit_teaches_the_plain_one(data, monkeypatch):
    image = data[0][0]
    blank = np.full((40, 40), 200, np.uint8)
    monkeypatch.setattr(camera, "photographed", lambda ink, rng: blank)
    assert alike(camera.seen(image, np.random.default_rng(0)), image) > 0.8
