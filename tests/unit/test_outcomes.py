"""Tests of the decision on the model's reading of a picture: accept, review or reject, each at its bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shared.prediction import Outcome
from worker.image.model_input import ModelInput
from worker.inference.decision import is_better, outcomes
from worker.inference.mlp import Reading

LIMITS = {"accept": 0.9, "reject": 0.5, "digit": 0.3, "picture": 0.6, "unclear": 0.8}
BAR = np.zeros((28, 28), np.float32)
BAR[4:24, 13:15] = 1


def outcome(
    *warnings: str, digit: int = 7, confidence: float = 0.99, digitness: float = 0.99, pixels: Any = None, **facts: Any
) -> Outcome:
    """The outcome for a picture like MNIST's, unless `facts` say otherwise."""
    one = ModelInput(BAR if pixels is None else pixels, warnings, **{"mnist_like": True, **facts})
    chances = np.full((1, 10), (1 - confidence) / 9)
    chances[0, digit] = confidence
    [found] = outcomes([one], one.pixels[None], Reading(chances, np.array([digitness])), LIMITS)
    return found


def decision(*warnings: str, **facts: Any) -> tuple[str, str | None]:
    found = outcome(*warnings, **facts)
    return found.decision, found.reason


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [
        (0.9, ("accept", None)), (0.8999, ("review", "low_confidence")),
        (0.5, ("review", "low_confidence")), (0.4999, ("reject", "low_confidence")),
    ],
)  # fmt: skip
def test_confidence_decides_at_its_bounds(confidence: float, expected: tuple[str, str | None]) -> None:
    assert decision(confidence=confidence) == expected


@pytest.mark.parametrize(
    ("facts", "bound"),
    [({}, 0.3), ({"mnist_like": False}, 0.6), ({"mnist_like": False, "clear": False}, 0.8)],
)
def test_what_is_less_like_mnist_needs_more_digitness(facts: dict[str, bool], bound: float) -> None:
    assert decision(digitness=bound, **facts)[0] == "accept"
    assert decision(digitness=bound - 1e-6, **facts) == ("reject", "not_a_digit")


@pytest.mark.parametrize("warning", ["no_ink", "several_digits"])
def test_nothing_and_several_are_rejected_whatever_the_model_says(warning: str) -> None:
    assert decision(warning, "inverted", digitness=0.0) == ("reject", warning)


@pytest.mark.parametrize("warning", ["low_contrast", "uneven_light"])
def test_faint_ink_needs_the_digitness_of_what_is_unclear(warning: str) -> None:
    assert decision(warning, digitness=0.8) == ("accept", None)
    assert decision(warning, digitness=0.79) == ("review", "low_confidence")
    assert decision("noisy", digitness=0.79) == ("accept", None)


def test_a_digit_that_is_too_small_is_reviewed() -> None:
    assert decision("too_small") == ("review", "low_confidence")


@pytest.mark.parametrize(
    ("cut", "confidence", "expected"),
    [
        (0.2, 0.9, "accept"), (0.21, 0.9, "review"), (0.21, 0.976, "accept"), (0.21, 0.974, "review"),
        (0.5, 0.976, "accept"), (0.51, 0.9999, "review"),
    ],
)  # fmt: skip
def test_what_may_be_cut_off_needs_less_doubt(cut: float, confidence: float, expected: str) -> None:
    assert decision(cut=cut, confidence=confidence)[0] == expected


@pytest.mark.parametrize("warning", ["touches_border", "lines_removed", "uneven_light"])
def test_an_upright_bar_may_be_a_line_of_a_form_instead_of_a_1(warning: str) -> None:
    bar = {"digit": 1, "mnist_like": False}
    assert decision(warning, **bar) == ("review", "low_confidence")
    assert decision("inverted", **bar) == ("accept", None)
    assert decision(warning, digit=1) == ("accept", None)  # like MNIST's
    assert decision(warning, digit=7, mnist_like=False) == ("accept", None)


def test_a_slash_is_no_certain_1_where_it_is_not_like_mnists() -> None:
    slash = np.zeros((28, 28), np.float32)
    for row in range(4, 24):
        slash[row, 26 - row : 28 - row] = 1
    assert decision(digit=1, pixels=slash, mnist_like=False) == ("review", "low_confidence")


def test_a_second_look_counts_where_it_finds_more() -> None:
    nothing, no_digit = outcome("no_ink"), outcome(digitness=0.0)
    assert is_better(outcome(), no_digit) and is_better(outcome(confidence=0.6), nothing)
    assert is_better(no_digit, nothing)
    assert not is_better(outcome("low_contrast", digitness=0.0), nothing)
    assert not is_better(nothing, nothing) and not is_better(no_digit, no_digit)
