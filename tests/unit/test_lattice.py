"""The lines of a table in a view from straight above, and what is no table."""

from __future__ import annotations

import numpy as np
import pytest

from worker.page.grid.frames import line_pieces, outlines
from worker.page.grid.lattice import lattice_of
from worker.page.grid.ruled_lines import STEP, STRETCH, bridged, evidence, follow_lines, inked, unbroken

View = np.ndarray
SIDE, MARGIN = 400, 40
ENDS = MARGIN, SIDE - MARGIN


def ruled(across: list[int], down: list[int], dark: int = 60) -> View:
    """Level lines at these rows, and upright ones at these columns, three pixels wide, from margin to margin."""
    view = np.zeros((SIDE, SIDE), np.uint8)
    for row in across:
        view[row - 1 : row + 2, ENDS[0] : ENDS[1]] = dark
    for column in down:
        view[ENDS[0] : ENDS[1], column - 1 : column + 2] = dark
    return view


FOUR = [40, 147, 253, 359]


def lines_of(view: View) -> tuple[list[int], list[int]] | None:
    """The rows and columns of the lines of the table in a view, to whole pixels."""
    found = lattice_of(view, MARGIN)
    if found is None:
        return None
    return np.rint(found[:, :, 1].mean(axis=1)).astype(int).tolist(), np.rint(found[:, :, 0].mean(axis=0)).tolist()


def assert_table(view: View, across: list[int], down: list[int]) -> None:
    found = lines_of(view)
    assert found is not None
    assert found[0] == pytest.approx(across, abs=3)
    assert found[1] == pytest.approx(down, abs=3)


def test_lines_bound_cells():
    assert_table(ruled(FOUR, FOUR), FOUR, FOUR)


def test_a_line_that_the_others_do_not_reach_bounds_no_cells():
    view = ruled(FOUR, FOUR)
    view[ENDS[0] : 140, 60:] = 0
    view[39:42, ENDS[0] : ENDS[1]] = 60
    assert_table(view, FOUR[1:], FOUR)


def test_a_line_that_is_open_between_crossings_bounds_no_cells():
    down = [40, 120, 200, 280, 359]
    view = ruled(FOUR, down)
    view[150:250, 190:210] = 0
    view[256:340, 190:210] = 0
    assert_table(view, FOUR, [40, 120, 280, 359])


def test_lines_that_go_on_are_those_of_squared_paper():
    view = ruled([120, 200, 280], [120, 200, 280])
    assert lines_of(view) is None


def test_two_lines_in_one_direction_make_no_table():
    assert lines_of(ruled([40, 359], FOUR)) is None
    assert lines_of(ruled(FOUR, [40, 359])) is None


def test_lines_that_waver_are_no_ruling():
    view = ruled(FOUR, FOUR)
    for left in range(ENDS[0], ENDS[1], 48):
        view[:, left : left + 24] = np.roll(view[:, left : left + 24], 7, axis=0)
    assert lines_of(view) is None


def test_digits_are_not_written_across_lines():
    view = ruled(FOUR, FOUR)
    for column in range(50, 350, 30):
        view[240:267, column : column + 8] = 90
        view[134:161, column : column + 8] = 90
    assert lines_of(view) is None


def test_digits_may_stand_close_to_lines():
    view = ruled(FOUR, FOUR)
    for column in range(50, 350, 30):
        view[235:246, column : column + 8] = view[261:272, column : column + 8] = 90
        view[129:140, column : column + 8] = view[155:166, column : column + 8] = 90
    assert_table(view, FOUR, FOUR)


def test_a_thin_line_shows_between_digits():
    view = ruled([200], [], dark=40)
    view[180:194], view[207:220] = 200, 200
    assert (evidence(view)[200, 8:-8] >= 0.5).all()


def test_what_stands_on_a_line_does_not_cross_it():
    view = ruled(FOUR, FOUR)
    for column in range(50, 350, 30):
        view[235:252, column : column + 8] = view[129:146, column : column + 8] = 90
    assert_table(view, FOUR, FOUR)


def test_a_line_may_fade():
    view = ruled(FOUR, FOUR)
    view[146:149, 60:175] = 14
    assert_table(view, FOUR, FOUR)


def test_a_thick_line_shows():
    view = np.zeros((SIDE, SIDE), np.uint8)
    view[194:206] = 60
    assert (evidence(view)[200, 8:-8] >= 0.5).all()


def test_an_edge_is_no_line():
    view = np.zeros((SIDE, SIDE), np.uint8)
    view[200:] = 60
    assert not (evidence(view) >= 0.5).any()


def test_short_stretches_are_no_line_and_gaps_are_bridged_straight():
    lines = np.full((2, 40), 100, np.float32)
    lines[1, 15:22] = 110
    shown = np.zeros((200, 40), np.float32)
    shown[100, 10 : 9 + STRETCH] = 1
    runs = unbroken(shown, lines[:1])
    assert not runs.any()
    shown[100, 10 : 10 + STRETCH] = 1
    assert unbroken(shown, lines[:1])[0].sum() == STRETCH
    seen = np.ones((1, 40), bool)
    seen[0, 15:22] = False
    np.testing.assert_allclose(bridged(lines[1:], seen), 100)


def test_a_line_has_its_own_darkness_and_digits_are_darker():
    view = np.zeros((100, 400), np.uint8)
    view[49:52] = 60
    view[49:52, 100:200] = 150
    view[49:52, 200:300] = 10
    on = inked(view, np.full((1, 400 // STEP), 50, np.float32))
    shares = [on[0, left + 10 : left + 90].mean() for left in range(0, 400, 100)]
    assert shares == [1, 0, 0, 1]


def test_a_pale_stretch_that_shows_is_of_the_line():
    view = np.zeros((100, 400), np.uint8)
    view[49:52] = 60
    view[49:52, 200:300] = 10
    lines = np.full((1, 400 // STEP), 50, np.float32)
    assert inked(view, lines, np.ones(lines.shape, bool)).all()


def test_the_best_path_follows_a_line_that_bends():
    view = np.zeros((120, 400), np.uint8)
    rows = np.rint(60 + 12 * np.sin(np.linspace(0, np.pi, 400))).astype(int)
    for column, row in enumerate(rows):
        view[row - 1 : row + 2, column] = 60
    [path] = follow_lines(evidence(view))
    assert path == pytest.approx(rows[STEP // 2 :: STEP], abs=2)


def test_pieces_of_lines_show_in_grain_and_dots_do_not():
    dark = np.random.default_rng(0).normal(20, 3, (400, 500))
    dark[199:202, 50:450] += 9
    dark[50:350, 99:102] += 9
    dark[300:304, 200:204] += 20
    pieces = line_pieces(dark.clip(0, 255).astype(np.uint8)) > 0
    assert pieces[199:202, 60:440].any(axis=0).mean() > 0.9
    assert pieces[60:340, 99:102].any(axis=1).mean() > 0.9
    assert not pieces[290:310, 195:225].any()


def test_the_outline_of_scattered_pieces_of_lines_is_looked_at():
    dark = np.zeros((400, 500), np.uint8)
    for row in (50, 200, 350):
        for left in range(60, 440, 80):
            dark[row - 1 : row + 2, left : left + 60] = 60
    around = [[60, 49], [439, 49], [439, 351], [60, 351]]
    assert any(np.abs(corners - around).max() < 10 for corners in outlines(dark))


def test_a_single_line_has_no_outline():
    dark = np.zeros((400, 500), np.uint8)
    dark[200, 50:450] = 60
    [whole] = outlines(dark)
    assert np.ptp(whole, axis=0).tolist() == [500, 400]
