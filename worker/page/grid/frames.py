"""Finds the outlines of what may be a ruled table in a picture, and views them from straight above."""

from __future__ import annotations

import numpy as np

from worker.image.arrays import Floats32, Grey
from worker.page.opencv import opencv

#: Pictures are searched at this length of their longer side, in pixels.
SEARCHED = 1000
#: A table's outline covers at least this share of the picture ...
LEAST_AREA = 0.08
#: ... and at most this many are looked at.
MOST_OUTLINES = 3
#: Pieces of lines are at least this long, as a share of the picture's longer side.
LEAST_PIECE = 0.06
#: Darkness is averaged over LONG pixels along them. They are darker than THICK pixels above and below: CLEAR times as
#: much as half of the paper's pixels are, judged by one in SOME both ways, and by LEAST_DARK 255ths of its level.
LONG, THICK, CLEAR, SOME, LEAST_DARK = 15, 6, 3, 5, 2.5
#: The side of a straightened square table in pixels; another has the same area and is at most LONGEST pixels long.
#: Around it is a margin, as a share of its longer side.
STRAIGHT, LONGEST, MARGIN = 640, 1100, 0.05


def darkness(grey: Grey) -> Grey:
    """Return how much darker each pixel is than the paper around it, in 255ths of the paper's level.

    The paper is the closing by a square: things narrower than a 24th of the picture are ink.
    """
    cv = opencv()
    soft = cv.GaussianBlur(grey, (3, 3), 0)
    side = max(grey.shape) // 24 | 1
    paper = cv.blur(cv.morphologyEx(soft, cv.MORPH_CLOSE, np.ones((side, side), np.uint8)), (side, side))
    ratio = cv.divide(soft, cv.max(paper, 1), scale=255)
    return np.asarray(255 - ratio, np.uint8)


def outlines(dark: Grey) -> list[Floats32]:
    """Return the quadrilaterals [4, 2] around large pieces of connected ink, the largest first.

    Corners run clockwise from the upper left one, x before y. Faint lines need a low level of ink, which in other
    pictures joins everything: several are tried. The lines of a table may be broken into many pieces, or too pale to
    be connected: last are the outline of all pieces of lines, and the whole picture.
    """
    cv = opencv()
    found: list[tuple[float, Floats32]] = []
    least = LEAST_AREA * dark.size
    for level in _levels(dark):
        mask = cv.morphologyEx((dark > level).astype(np.uint8), cv.MORPH_CLOSE, np.ones((3, 3), np.uint8))
        _, labels, stats, _ = cv.connectedComponentsWithStats(mask, connectivity=8)
        for part in np.argsort(-stats[1:, 2] * stats[1:, 3])[:MOST_OUTLINES] + 1:
            if stats[part, 2] * stats[part, 3] < least:
                break
            corners = _quadrilateral((labels == part).astype(np.uint8))
            area = float(cv.contourArea(corners))
            if least <= area <= dark.size and not any(_alike(corners, other) for _, other in found):
                found.append((area, corners))
    chosen = [corners for _, corners in sorted(found, key=lambda one: -one[0])[:MOST_OUTLINES]]
    height, width = dark.shape
    whole = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    pieces = line_pieces(dark)
    around = [_quadrilateral(pieces)] if pieces.any() else []
    for last in [*around, whole]:
        if cv.contourArea(last) >= least and not any(_alike(last, other) for other in chosen):
            chosen.append(last)
    return chosen


def line_pieces(dark: Grey) -> Grey:
    """Return where there are straight pieces of nearly level or upright lines: 1, elsewhere 0, both uint8 [H, W].

    They may be paler than the grain of the paper: darkness is averaged along them.
    """
    cv = opencv()
    found = np.zeros_like(dark)
    least = np.ones((1, round(LEAST_PIECE * max(dark.shape))), np.uint8)
    for view, pieces in ((dark, found), (dark.T, found.T)):
        along = cv.blur(np.ascontiguousarray(view), (LONG, 3), borderType=cv.BORDER_REPLICATE).astype(np.int16)
        beside = np.pad(along, ((THICK, THICK), (0, 0)), "edge")
        ridge = along - np.maximum(beside[: -2 * THICK], beside[2 * THICK :])
        noise = float(np.median(np.abs(ridge[::SOME, ::SOME])))
        shown = (ridge > max(LEAST_DARK, CLEAR * noise)).astype(np.uint8)
        wide = cv.dilate(shown, np.ones((3, 1), np.uint8))  # lines lean, and waver by a pixel
        pieces |= cv.morphologyEx(wide, cv.MORPH_OPEN, least) & shown
    return found


def _levels(dark: Grey) -> list[float]:
    """Return levels of darkness above which pixels are ink, from one that finds pale lines upwards."""
    cv = opencv()
    split = cv.threshold(dark[dark > 6], 0, 255, cv.THRESH_OTSU)[0] if np.any(dark > 6) else 12.0
    return [max(8.0, 0.25 * split), max(10.0, 0.5 * split), max(14.0, split)]


def _quadrilateral(mask: Grey) -> Floats32:
    """Return the quadrilateral [4, 2] that the convex hull of the mask resembles: its four extreme corners."""
    cv = opencv()
    contours, _ = cv.findContours(mask, cv.RETR_EXTERNAL, cv.CHAIN_APPROX_SIMPLE)
    hull = cv.convexHull(np.concatenate(contours))
    around = cv.arcLength(hull, True)
    for share in (0.02, 0.04, 0.06, 0.08, 0.1, 0.12):
        corners = cv.approxPolyDP(hull, share * around, True)
        if len(corners) <= 4:
            break
    if len(corners) != 4:
        corners = cv.boxPoints(cv.minAreaRect(hull))
    return _in_order(np.asarray(corners, np.float32).reshape(4, 2))


def _in_order(corners: Floats32) -> Floats32:
    """Order corners clockwise, the upper left one first."""
    middle = corners.mean(axis=0)
    angles = np.arctan2(corners[:, 1] - middle[1], corners[:, 0] - middle[0])
    corners = corners[np.argsort(angles)]
    return np.roll(corners, -int(corners.sum(axis=1).argmin()), axis=0)


def _alike(one: Floats32, other: Floats32) -> bool:
    """Tell whether two outlines are the same within three hundredths of their size."""
    return float(np.abs(one - other).max()) < 0.03 * float(np.ptp(one, axis=0).max())


def straightened(dark: Grey, corners: Floats32) -> tuple[Grey, int, Floats32]:
    """View the outline [4, 2] from straight above, with a margin around it.

    Returns the view [H, W], its margin in pixels, and the matrix [3, 3] from there back to `dark`.
    """
    cv = opencv()
    sides = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1)
    width, height = float(sides[::2].mean()), float(sides[1::2].mean())
    scale = min(STRAIGHT / (width * height) ** 0.5, LONGEST / max(width, height))
    width, height = max(width * scale, STRAIGHT / 6), max(height * scale, STRAIGHT / 6)
    margin = round(MARGIN * max(width, height))
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32) + np.float32(margin)
    back = cv.getPerspectiveTransform(target, corners)
    size = round(width + 2 * margin), round(height + 2 * margin)
    flat = cv.warpPerspective(dark, back, size, flags=cv.INTER_LINEAR | cv.WARP_INVERSE_MAP)
    return np.asarray(flat, np.uint8), margin, np.asarray(back, np.float32)
