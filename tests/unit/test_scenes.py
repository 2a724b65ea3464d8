"""Tests of the preprocessing on randomly drawn pictures: for each of its constants, at least one depends on it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.scenes import KINDS, RECORD, blots, described, selected
from worker.image.border_lines import crop_frames
from worker.image.multiple_digits import is_chain, is_stack
from worker.image.normalise import LONGEST, WORK_SIDE, normalise, normalise_uneven
from worker.image.ruling import find_ruling
from worker.image.segment import find_digit

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
def test_a_picture_gives_its_recorded_result(
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


def test_each_step_is_passed_to_the_callback() -> None:
    steps = [list[str](), list[str]()]
    grey = KINDS["scene"](next(number for kind, number, even, _ in RECORDED["pictures"]
                               if kind == "scene" and "lines_removed" in even["warnings"]))  # fmt: skip
    for one, names in zip((normalise, normalise_uneven), steps, strict=True):
        one(grey, lambda step, _, names=names: names.append(step))
    assert steps[0] == ["bright", "lines", "mask", "ink"] and steps[1][0] == "bright"


# ---------------------------------------------------------------------- parts


def two(height: int, across: int, down: int) -> np.ndarray:
    """A ring, and apart from it a box of this size."""
    mask = np.zeros((height, 60), np.bool_)
    mask[2:20, 3:15] = True
    mask[4:18, 5:13] = False
    mask[2 : 2 + down, 30 : 30 + across] = True
    return mask


@pytest.mark.parametrize(("height", "several"), [(23, False), (24, True)])
def test_in_a_low_picture_what_stands_beside_is_no_other_digit(height: int, several: bool) -> None:
    assert find_digit(two(height, 6, 17))[1] is several


@pytest.mark.parametrize(("across", "several"), [(9, True), (11, True), (13, False), (15, False)])
def test_a_dash_is_no_other_digit(across: int, several: bool) -> None:
    assert find_digit(two(60, across, 3))[1] is several


@pytest.mark.parametrize(("height", "ruled"), [(192, True), (196, False)])
def test_with_more_than_48_marks_on_a_side_there_is_noise_and_no_ruling(height: int, ruled: bool) -> None:
    mask = np.zeros((height, 200), np.bool_)
    mask[1::4] = True
    assert (find_ruling(mask) is not None) is ruled


@pytest.mark.parametrize(("share", "removed"), [(0.08, False), (0.15, True)])
def test_a_line_that_leaves_the_picture_is_removed_if_it_crosses_a_seventh_of_it(share: float, removed: bool) -> None:
    y, x = np.mgrid[:200, :200]
    lines = [np.rint(start + 0.08 * x) == y for start in (-16 * (1 - share), 40, 80, 120, 160)]
    found = find_ruling(np.logical_or.reduce(lines))
    assert found is not None and found[lines[1]].mean() > 0.9
    assert bool(found[lines[0]].mean() > 0.5) is removed


@pytest.mark.parametrize(
    ("height", "looped", "chain"), [(36, 9, True), (35, 9, False), (36, 8, False), (48, 12, True), (44, 22, True)]
)
def test_a_column_three_times_as_high_as_wide_with_loops_is_a_chain(height: int, looped: int, chain: bool) -> None:
    mask = np.zeros((height, 12), np.bool_)
    mask[:, 0] = True
    mask[:looped, 11] = True
    mask[height - 1] = True
    assert is_chain(mask) is chain


@pytest.mark.parametrize(("width", "stack"), [(20, True), (21, False), (5, False), (6, True)])
def test_two_upright_parts_one_above_the_other_are_a_stack(width: int, stack: bool) -> None:
    mask = np.ones((39, width), np.bool_)
    mask[19] = False
    assert is_stack(mask) is stack


@pytest.mark.parametrize(("off", "framed"), [(24, True), (25, False)])
def test_a_frame_has_nearly_one_level(off: int, framed: bool) -> None:
    grey = np.full((60, 60), 100, np.uint8)
    grey[4:56, 4:56] = 220
    grey[7:53, 7:53] = 100
    grey[25:35, 28:31] = 0
    for side in (grey[0], grey[-1], grey[:, 0], grey[:, -1]):
        side[5:29] = 100 - off
    assert (crop_frames(grey).shape != grey.shape) is framed
