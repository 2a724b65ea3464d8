"""Lists what may be one digit on a line of text: a part, or several neighbouring ones together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from shared.numbers import Box, around
from worker.image.arrays import Floats32, Grey, Mask
from worker.image.mnist_format import BOX, ink_levels, normalise_strokes, place
from worker.page.cuts import cut
from worker.page.lines import Line
from worker.page.marks import Marks
from worker.page.opencv import opencv

#: One digit has at most MOST_PARTS parts, is at most WIDEST digit heights wide, and HIGHEST high, ...
MOST_PARTS, WIDEST, HIGHEST = 4, 1.35, 1.9
#: ... its parts are at most APART digit heights apart, ...
APART = 0.3
#: ... and two marks beside each other that are both at least WHOLE digit heights high are two.
WHOLE, BESIDE = 0.6, 0.04
#: A candidate is at least this many digit heights high.
LOWEST = 0.25
#: Pieces are reduced to at most this many pixels before they are placed.
LARGE = 4 * BOX


class Part(NamedTuple):
    """A mark or a piece of one."""

    box: Box
    mask: Mask  # [height, width] of the box
    mark: int  # the position of the mark that it is of


class Candidate(NamedTuple):
    """Parts `start` to `stop` (not included) of a line, taken as one digit."""

    start: int
    stop: int
    box: Box


@dataclass(slots=True)
class Row:
    """A line of text with all that may be digits on it."""

    height: float  # of a digit, in pixels
    parts: list[Part]
    candidates: list[Candidate] = field(default_factory=list)


def find_candidates(line: Line, marks: Marks) -> Row:
    """Cut the wide marks of a line and list the candidates."""
    parts: list[Part] = []
    for mark in line.marks.tolist():
        left, top = int(marks.left[mark]), int(marks.top[mark])
        mask = marks.labels[top : int(marks.bottom[mark]), left : int(marks.right[mark])] == marks.number[mark]
        parts += [_part(piece, left, top, mark) for piece in cut(mask, line.height)]
    parts.sort(key=lambda part: 2 * part.box[0] + part.box[2])
    row = Row(line.height, parts)
    for start in range(len(parts)):
        for stop in range(start + 1, min(start + MOST_PARTS, len(parts)) + 1):
            if stop - start > 1 and not _belong_together(parts, start, stop, line.height):
                break
            box = around([part.box for part in parts[start:stop]])
            if box[2] > WIDEST * line.height and stop - start > 1:
                break
            if box[3] >= LOWEST * line.height and box[3] <= HIGHEST * line.height and box[2] <= 1.8 * box[3]:
                row.candidates.append(Candidate(start, stop, box))
    return row


def model_input(level: Grey, parts: list[Part], box: Box) -> Floats32:
    """Bring the parts within the box, of a page with ink `level`, to the model's input, float32 [28, 28]."""
    left, top, width, height = box
    mask = np.zeros((height, width), np.bool_)
    for part in parts:
        x, y = part.box[0] - left, part.box[1] - top
        mask[y : y + part.box[3], x : x + part.box[2]] |= part.mask
    ink = level[top : top + height, left : left + width]
    if max(width, height) > LARGE:
        cv = opencv()
        scale = LARGE / max(width, height)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        ink = cv.resize(ink, size, interpolation=cv.INTER_AREA)
        mask = cv.resize(mask.view(np.uint8) * 255, size, interpolation=cv.INTER_AREA) > 127
        if not mask.any():
            mask = ink >= ink.max()
    # One pixel more on each side: the soft edge of the ink.
    pixels, _ = normalise_strokes(place(ink_levels(np.pad(ink, 1), np.pad(mask, 1), 0), np.pad(mask, 1)))
    return pixels


def _part(piece: Mask, left: int, top: int, mark: int) -> Part:
    rows, columns = np.flatnonzero(piece.any(axis=1)), np.flatnonzero(piece.any(axis=0))
    first, last, begin, end = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    return Part((left + begin, top + first, end - begin, last - first), piece[first:last, begin:end], mark)


def _belong_together(parts: list[Part], start: int, stop: int, height: float) -> bool:
    """Tell whether the last of these parts may belong to the same digit as those before it."""
    last, before = parts[stop - 1], parts[start : stop - 1]
    gap = last.box[0] - max(part.box[0] + part.box[2] for part in before)
    if gap > APART * height:
        return False
    large = [part for part in before if part.box[3] >= WHOLE * height and part.mark != last.mark]
    return not (large and last.box[3] >= WHOLE * height and gap > BESIDE * height)
