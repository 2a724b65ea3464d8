"""What the preprocessing makes of pictures drawn by chance: each of its constants has one that needs it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.scenes import KINDS, RECORD, blots, described, selected
from worker.image.normalise import LONGEST, WORK_SIDE, normalise, normalise_uneven

RECORDED = json.loads(RECORD.read_text())
#: Largest difference of a mean of four pixels, in 255ths: other processors round otherwise, other constants move ink.
TOLERANCE = 12
#: To be recorded only with another PREPROCESSING_VERSION: a model is trained on what this one gives.
AGAIN = "if that is meant, give the preprocessing another name and run `python -m tests.scenes`"


def assert_as_recorded(found: dict[str, Any], expected: dict[str, Any]) -> None:
    one, other = (np.frombuffer(bytes.fromhex(row["pixels"]), np.uint8).astype(int) for row in (found, expected))
    assert {**found, "pixels": ""} == {**expected, "pixels": ""}, AGAIN
    assert np.abs(one - other).max() <= TOLERANCE, AGAIN


@pytest.mark.parametrize(
    ("kind", "number", "even", "uneven"),
    [pytest.param(*row, id=f"{row[0]}-{row[1]}") for row in RECORDED["pictures"]],
)
def test_a_picture_gives_what_was_recorded(
    kind: str, number: int, even: dict[str, Any], uneven: dict[str, Any]
) -> None:
    grey = KINDS[kind](number)
    assert_as_recorded(described(normalise(grey)), even)
    assert_as_recorded(described(normalise_uneven(grey)), uneven)


@pytest.mark.parametrize("first", range(0, len(RECORDED["masks"]), 100))
def test_of_a_mask_that_part_is_the_digit_that_was_recorded(first: int) -> None:
    for number, expected in enumerate(RECORDED["masks"][first : first + 100], first):
        assert selected(blots(number)) == expected, f"mask {number}: {AGAIN}"


# ---------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("shape", "reduced"),
    [
        ((320, 240), (320, 240)), ((321, 240), (161, 120)), ((640, 480), (320, 240)), ((642, 480), (214, 160)),
        ((100, 1300), (50, 650)), ((60, 1200), (60, 1200)), ((1600, 100), (800, 50)),
    ],
)  # fmt: skip
def test_a_picture_is_reduced_by_its_longer_side_and_a_long_row_by_its_shorter(
    shape: tuple[int, int], reduced: tuple[int, int]
) -> None:
    seen: dict[str, Any] = {}
    grey = np.full(shape, 255, np.uint8)
    grey[shape[0] // 3 : shape[0] // 2, shape[1] // 3 : shape[1] // 3 + shape[0] // 8] = 0
    normalise(grey, seen.__setitem__)
    assert seen["bright"].shape == reduced
    assert max(reduced) <= LONGEST * WORK_SIDE


@pytest.mark.parametrize(("side", "size", "small"), [(160, 9, True), (160, 10, False), (159, 9, False)])
def test_a_digit_of_few_pixels_in_a_picture_of_many_is_said_to_be_too_small(side: int, size: int, small: bool) -> None:
    grey = np.full((side, side), 255, np.uint8)
    grey[80 : 80 + size, 80:84] = 0
    assert ("too_small" in normalise(grey).warnings) is small


def test_each_step_is_shown_to_who_asks() -> None:
    steps = [list[str](), list[str]()]
    grey = KINDS["scene"](next(number for kind, number, even, _ in RECORDED["pictures"]
                               if kind == "scene" and "lines_removed" in even["warnings"]))  # fmt: skip
    for one, names in zip((normalise, normalise_uneven), steps, strict=True):
        one(grey, lambda step, _, names=names: names.append(step))
    assert steps[0] == ["bright", "lines", "mask", "ink"] and steps[1][0] == "bright"
