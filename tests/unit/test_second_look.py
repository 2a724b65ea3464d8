"""Doubtful digits of a page are read again, turned and scaled: the mean of all readings decides."""

from __future__ import annotations

import numpy as np

from worker.inference.mlp import Reading
from worker.inference.second_look import VIEWS, looked_again
from worker.page.layout import lay_out


def page() -> np.ndarray:
    """A page of two strokes, uint8 [150, 200]."""
    grey = np.full((150, 200), 230, np.uint8)
    grey[40:100, 60:66] = grey[40:100, 110:116] = 30
    return grey


def reading(*digits: tuple[int, float]) -> Reading:
    """Readings as this digit with this probability, and else as an 8."""
    probabilities = np.zeros((len(digits), 10), np.float32)
    for at, (digit, probability) in enumerate(digits):
        probabilities[at, [8, digit]] = 1 - probability, probability
    return Reading(probabilities, np.ones(len(digits), np.float32))


def test_the_mean_of_all_views_decides_on_a_doubtful_digit_and_a_sure_one_stays() -> None:
    looking = looked_again(lay_out(page()), reading((1, 1.0), (1, 0.9)))
    views = next(looking)
    assert views.shape == (len(VIEWS), 28, 28)
    try:
        looking.send(reading(*[(7, 0.9)] * len(VIEWS)))
    except StopIteration as end:
        assert end.value.probabilities.argmax(axis=1).tolist() == [1, 7]
        assert end.value.chances[0] == 1 and np.isclose(end.value.chances[1], 0.9 * len(VIEWS) / (len(VIEWS) + 1))


def test_a_page_of_sure_digits_is_read_once() -> None:
    assert not list(looked_again(lay_out(page()), reading((1, 1.0), (1, 0.99))))
