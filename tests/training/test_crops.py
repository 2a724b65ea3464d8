"""Crops of composed pages, with what they show and how far that is to be trusted."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.crops import table
from tests.drawings import digits
from worker.inference.mlp import Reading
from worker.training.pages.compose import compose
from worker.training.pages.crop_truth import ALIKE, LIKE, NONDIGIT, SURE, may_be_one, may_be_zero, trusted
from worker.training.pages.crops import crops, of_page, of_texture

IMAGES, LABELS = digits(40)


@pytest.fixture(scope="module")
def some():
    return list(crops(IMAGES, LABELS, 150, np.random.default_rng(3)))


def test_crops_are_inputs_of_the_model_of_digits_and_of_what_is_none(some):
    assert len(some) == 150
    assert {(crop.pixels.shape, crop.pixels.dtype.name) for crop in some} == {((28, 28), "uint8")}
    assert {"digit", "mark", "piece"} <= {crop.kind for crop in some}
    assert {crop.label for crop in some if crop.kind not in ("digit", "cell")} == {NONDIGIT}


def test_crops_depend_on_the_generator_alone():
    one, same = (list(crops(IMAGES, LABELS, 30, np.random.default_rng(7))) for _ in range(2))
    assert all(np.array_equal(a.pixels, b.pixels) and a[1:] == b[1:] for a, b in zip(one, same, strict=True))


def test_a_digit_of_a_page_is_labelled_with_its_text_and_looks_like_it():
    page = compose(IMAGES, LABELS, np.random.default_rng(5), kind="row")
    found = [crop for crop in of_page(page) if crop.kind == "digit" and crop.trust]
    assert {crop.label for crop in found} <= {int(mark.text) for mark in page.marks if mark.kind == "digit"}
    assert found
    assert all(crop.trust == SURE and str(crop.label) == crop.text for crop in found)


def test_what_looks_like_a_digit_is_not_surely_none(some):
    assert all(crop.trust <= LIKE for crop in some if crop.kind == "mark" and crop.text in "Ool|I()")
    pieces = [crop for crop in some if crop.kind == "piece"]
    assert all(crop.trust <= LIKE for crop in pieces if may_be_one(crop.pixels / 255))


def test_a_texture_shows_no_digit():
    found = [crop for seed in range(8) for crop in of_texture(np.random.default_rng(seed))]
    assert found
    assert {(crop.label, crop.kind) for crop in found} == {(NONDIGIT, "paper")}


@pytest.mark.parametrize(("box", "one"), [((4, 13, 24, 15), True), ((13, 4, 15, 24), False), ((4, 8, 24, 20), False)])
def test_an_upright_stroke_may_be_a_one(box, one):
    pixels = np.zeros((28, 28), np.float32)
    top, left, bottom, right = box
    pixels[top:bottom, left:right] = 1
    assert may_be_one(pixels) is one


def test_a_leaning_stroke_may_be_a_one_and_a_blank_is_none():
    rows, columns = np.indices((28, 28))
    assert may_be_one((np.abs(rows + columns - 27) < 2).astype(np.float32))
    assert not may_be_one(np.zeros((28, 28), np.float32))


def ring(hole: int, cut: bool = False) -> np.ndarray:
    rows, columns = np.indices((28, 28)) - 13.5
    far = np.hypot(rows, columns)
    inked = (far < 10) & (far > hole)
    if cut:
        inked[:14, 12:16] = False
    return inked.astype(np.float32)


@pytest.mark.parametrize(
    ("pixels", "zero"), [(ring(7), True), (ring(5), True), (ring(3), False), (ring(7, cut=True), False)]
)
def test_a_ring_may_be_a_zero(pixels, zero):
    assert may_be_zero(pixels) is zero


def test_a_ring_on_a_stalk_is_no_zero_and_neither_is_a_blank():
    six = np.zeros((28, 28), np.float32)
    six[14:, 4:18] = ring(7)[::2, ::2]
    assert may_be_zero(six)
    six[:21, 6:8] = 1
    assert not may_be_zero(six)
    assert not may_be_zero(np.zeros((28, 28), np.float32))


def test_what_is_like_a_plain_digit_is_hardly_taught_to_be_none():
    assert trusted(ring(7), NONDIGIT, SURE) == ALIKE
    assert trusted(ring(7), 0, SURE) == SURE
    assert trusted(ring(3), NONDIGIT, SURE) == SURE
    assert trusted(ring(7), NONDIGIT, 0.0) == 0


def test_the_table_counts_digits_read_right_and_others_refused(some):
    reading = Reading(
        np.stack([np.eye(10, dtype=np.float32)[crop.label % 10] for crop in some]),
        np.array([crop.label != NONDIGIT for crop in some], np.float32),
    )
    rows = table(some, reading)
    assert all("right 100.00%" in row for row in rows[:-1])
    assert rows[-1] == "taken for digits: "
    everything = table(some, reading._replace(digitness=np.ones(len(some), np.float32)))
    assert any(row.startswith("mark ") and "right   0.00%" in row for row in everything)
