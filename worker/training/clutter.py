"""Further things that are no digit, drawn to fit the digitness with: what people hand in by mistake or by the way.

Empty cells of forms, digits one above the other, digits of other scripts, bars of displays, corners of frames. As in
`nondigits`, nothing is drawn that may be a digit: no lone upright or slanting line, no corner like that of a 7.
"""

from __future__ import annotations

from functools import partial
from itertools import combinations

import cv2
import numpy as np
from PIL import Image, ImageFilter, ImageFont

from worker.training import nondigits, scenes
from worker.training.camera import Picture
from worker.training.idx import Images
from worker.training.letters import SIZE, fonts, print_
from worker.training.nondigits import Kind, _alone, _cut, _one_of, _photo, _scaled, _slanted, bent

#: The digits 2 to 8 of Arabic, 4 to 6 of Persian, and letters that are not Latin and look like no digit.
FOREIGN = "٢٣٤٥٦٧٨۴۵۶ДЖИЛФЦШЩЪЫЮЯджлфцшщюяΓΔΛΞΠΣΦΨΩλμπχψω"
#: The bars of a display, each by its ends on a grid of 2 x 3 corners (x, y), and the sets of them that are digits, small noughts too.
BARS = {"a": (0, 0, 1, 0), "b": (1, 0, 1, 1), "c": (1, 1, 1, 2), "d": (0, 2, 1, 2), "e": (0, 1, 0, 2),
        "f": (0, 0, 0, 1), "g": (0, 1, 1, 1)}  # fmt: skip
DIGITS = {"abcdef", "bc", "ef", "abdeg", "abcdg", "bcfg", "acdfg", "acdefg", "cdefg", "abc", "abcf", "abcdefg",
          "abcdfg", "abcfg", "abfg", "cdeg"}  # fmt: skip
OTHERS = [bars for n in (2, 3, 4, 5) for bars in map("".join, combinations(BARS, n)) if bars not in DIGITS]


def cell(rng: np.random.Generator) -> Picture:
    """An empty cell: its lines along one to four sides, soft or sharp, at an angle, on uneven and grainy paper."""
    side = int(rng.integers(28, 130))
    fine = 4 if side < 64 else 2  # lines are drawn finer than they end up, for smooth edges
    lines = Image.new("L", (side * fine, side * fine))
    drawn = np.asarray(lines).copy()
    tilt = rng.normal(0, 0.03)
    for turns in np.flatnonzero(rng.random(4) < rng.choice([0.3, 0.6, 0.95])):
        for _ in range(2 if rng.random() < 0.1 else 1):
            at, thick = rng.uniform(-0.02, 0.2) * rng.uniform(0.2, 1), rng.uniform(0.01, 0.11)
            begin, stop = (0.0, 1.0) if rng.random() < 0.8 else tuple(np.sort(rng.uniform(-0.2, 1.2, 2)))
            ends = np.array([(at - tilt / 2, begin), (at + tilt / 2, stop)]) * side * fine
            view = np.ascontiguousarray(np.rot90(drawn, int(turns)))
            level = int(rng.integers(110, 256))
            cv2.line(view, *np.rint(ends).astype(int).tolist(), level, max(1, round(thick * side * fine)), cv2.LINE_AA)
            drawn = np.ascontiguousarray(np.rot90(view, -int(turns)))
    soft = Image.fromarray(drawn).reduce(fine).filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.04) * side))
    ink = np.asarray(soft, np.float32) / 255 * rng.uniform(0.1, 0.95)
    paper = rng.uniform(90, 250) * (1 + rng.uniform(0, 0.25) * scenes._slope(side, side, rng))
    paper += rng.uniform(0, 8) * scenes.smooth(side, side, int(rng.integers(2, 12)), rng)
    return scenes._finished(paper * (1 - ink), rng.uniform(0, 5), rng)


def _stacked(images: Images, rng: np.random.Generator) -> Picture:
    """Two to four digits one above the other or along a diagonal, so near that serving takes them for one thing."""
    parts = [_scaled(_cut(images[i]), int(rng.integers(30, 44))) for i in rng.integers(0, len(images), rng.integers(2, 5))]
    gap, aside = rng.uniform(-0.1, 0.25), 0.0 if rng.random() < 0.7 else rng.uniform(0.3, 1) * rng.choice([-1, 1])
    canvas = np.zeros((300, 400), np.uint8)
    x, y = 180.0, 4.0
    for part in parts:
        height, width = part.shape
        left = int(np.clip(x + rng.normal(0, 2), 0, 400 - width))
        place = canvas[int(y) : int(y) + height, left : left + width]
        np.maximum(place, part[: len(place)], out=place)
        y, x = y + max(3, height * (1 + gap)), x + aside * width
        if y > 250:
            break
    return _cut(canvas)


def _foreign(_: Images, rng: np.random.Generator) -> Picture:
    """A digit or letter of another script, as printed or as written by a hand that follows the print."""
    faces = [face for face in fonts(held_out=False) if _has(face)]
    return bent(_slanted(print_(_one_of(FOREIGN, rng), _one_of(faces, rng)), rng), rng) if faces else _corner(_, rng)


def _has(font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> bool:
    """Whether the font has the digits: one that lacks them draws the same box for each."""
    return isinstance(font, ImageFont.FreeTypeFont) and bytes(font.getmask("٥")) != bytes(font.getmask("٦"))


def _display(_: Images, rng: np.random.Generator) -> Picture:
    """Some bars of a display that are no digit, with gaps between the bars or without."""
    bars, thickness, gap = _one_of(OTHERS, rng), int(rng.integers(3, 11)), rng.uniform(0, 0.9)
    picture, lean = np.zeros((SIZE + 24, SIZE + 12), np.uint8), rng.normal(0, 0.1)
    for name in bars:
        ends = np.array(BARS[name], float).reshape(2, 2) * (SIZE * 0.55, SIZE / 2)
        step = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
        ends += np.array([step, -step]) * gap * thickness
        ends[:, 0] += 18 - lean * ends[:, 1]
        cv2.line(picture, *np.rint(ends + (0, 12)).astype(int).tolist(), 255, thickness, cv2.LINE_AA)
    return _cut(picture)


def _corner(_: Images, rng: np.random.Generator) -> Picture:
    """Two or three straight lines that meet as those of frames do: like an L, a T, a U or an H, and no 7, 1 or 4."""
    form = _one_of(("0010 0001", "0010 0001 0111", "0001 0111", "0001 0111 1011", "0010 1011 0111",
                    "0001 1011 0515", "0010 5051", "0111 5051", "0515 5051", "0001 0515"), rng)  # fmt: skip
    width, height = rng.uniform(25, 60, 2)
    picture, thickness = np.zeros((80, 80), np.uint8), int(rng.integers(2, 9))
    for stroke in form.split():
        at = [0.5 if c == "5" else float(c) for c in stroke]
        ends = np.array([(at[0] * width, at[1] * height), (at[2] * width, at[3] * height)]) + 10
        cv2.line(picture, *np.rint(ends).astype(int).tolist(), 255, thickness, cv2.LINE_AA)
    return bent(_slanted(_cut(picture), rng), rng)


_INKS: dict[str, Kind] = {"stacked": _stacked, "foreign": _foreign, "displays": _display, "corners": _corner}
#: Name -> the kind: those of `nondigits`, and these.
KINDS: dict[str, Kind] = {
    **nondigits.KINDS,
    "cells": partial(_alone, of=cell),
    **{name: partial(_photo, ink=ink) for name, ink in _INKS.items()},
}
