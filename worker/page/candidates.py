"""Lists what may be one digit on a line of text: a part, or several neighbouring ones together."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from shared.numbers import Box, around
from worker.image.arrays import Mask
from worker.page.cuts import cut
from worker.page.lines import Line
from worker.page.marks import Marks

#: One digit has at most MOST_PARTS parts, is at most WIDEST digit heights wide, and HIGHEST high, ...
MOST_PARTS, WIDEST, HIGHEST = 5, 1.35, 1.9
#: ... its parts are at most APART digit heights apart, ...
APART = 0.2
#: ... and two marks beside each other that are both at least WHOLE digit heights high are two.
WHOLE, BESIDE = 0.6, 0.1
#: Touching digits may have a stroke in common: a candidate may go on for this many digit heights beyond a cut.
SHARED = 0.18
#: A candidate is at least this many digit heights high.
LOWEST = 0.25
#: Costs of a candidate, beside that of its reading: of each side at which it was cut off a mark, ...
CUT_COST = 0.4
#: ... of a stroke that it shares with its neighbour, ...
SHARED_COST = 1.0
#: ... of a gap between its parts, for each digit height, ...
GAP_COST = 4.0
#: ... of a comma: a small mark at the foot of the others that ends FOOT digit heights below them, or of a dash or dot:
#: a mark of at most FLAT digit heights, beside the others and below the upper TOP of them, ...
SIGN_COST, FOOT, FLAT, TOP = 3.0, 0.05, 0.35, 0.3
#: ... and of a height that differs by this factor, as a logarithm, from the line's; half of that of its square.
HEIGHT_SPREAD = 0.4


class Part(NamedTuple):
    """A mark or a piece of one."""

    box: Box
    mask: Mask  # [height, width] of the box
    mark: int  # the position of the mark that it is of
    area: int  # of its ink, in pixels


class Candidate(NamedTuple):
    """Parts `start` to `stop` (not included) of a line, taken as one digit."""

    start: int
    stop: int
    box: Box
    cost: float  # by its shape and place: minus the logarithm of a probability
    cut_off: bool = False  # whether another part is of the same mark
    shared: Part | None = None  # a strip of the neighbouring part that belongs to it too


@dataclass(slots=True)
class Row:
    """A line of text with all that may be digits on it."""

    height: float  # of a digit, in pixels
    parts: list[Part]
    candidates: list[Candidate] = field(default_factory=list)


def whole_marks(marks: Marks, height: float = 1.0) -> Row:
    """Return a row, with digits of this height, whose candidates are all of the marks, one by one."""
    parts = [
        _part(marks.mask(mark), int(marks.left[mark]), int(marks.top[mark]), mark) for mark in range(len(marks.number))
    ]
    return Row(height, parts, [Candidate(at, at + 1, part.box, 0.0) for at, part in enumerate(parts)])


def find_candidates(line: Line, marks: Marks) -> Row:
    """Cut the wide marks of a line and list the candidates: their number grows with that of the cuts."""
    parts: list[Part] = []
    for mark in line.marks.tolist():
        left, top = int(marks.left[mark]), int(marks.top[mark])
        parts += [_part(piece, left, top, mark) for piece in cut(marks.mask(mark), line.height)]
    parts.sort(key=lambda part: 2 * part.box[0] + part.box[2])
    row = Row(line.height, parts)
    ends = {part.mark: at + 1 for at, part in enumerate(parts)}
    for start, part in enumerate(parts):
        stops = list(range(start + 1, min(start + MOST_PARTS, len(parts)) + 1))
        if ends[part.mark] > stops[-1] and (start == 0 or parts[start - 1].mark != part.mark):
            stops.append(ends[part.mark])  # a mark as it is, however many cuts it has
        for stop in stops:
            gap = _gap(parts, start, stop)
            if stop - start > 1 and not _belong_together(parts, start, stop, gap, line.height):
                break
            box = around([part.box for part in parts[start:stop]])
            if box[2] > WIDEST * line.height and stop - start > 1:
                break
            if LOWEST * line.height <= box[3] <= HIGHEST * line.height and box[2] <= 1.8 * box[3]:
                one = _candidate(parts, start, stop, box, line.height)
                row.candidates += [one, *_sharing(one, parts, line.height)]
    return row


def _sharing(one: Candidate, parts: list[Part], height: float) -> list[Candidate]:
    """Return the candidate with a strip of the part before and after it, where it was cut off that."""
    strip = max(2, round(SHARED * height))
    found = []
    for at, own in ((one.start - 1, one.start), (one.stop, one.stop - 1)):
        if not 0 <= at < len(parts) or parts[at].mark != parts[own].mark or parts[at].box[2] <= strip:
            continue
        left, top, width, _ = parts[at].box
        first = width - strip if at < own else 0
        mask = parts[at].mask[:, first : first + strip]
        if mask.any() and one.box[2] + strip <= WIDEST * height:
            part = _part(mask, left + first, top, parts[at].mark)
            box = around([one.box, part.box])
            found.append(one._replace(box=box, cost=one.cost + SHARED_COST, shared=part))
    return found


def _candidate(parts: list[Part], start: int, stop: int, box: Box, height: float) -> Candidate:
    """Return parts as one digit, with their cost."""
    own = {part.mark for part in parts[start:stop]}
    before = any(part.mark in own for part in parts[max(0, start - MOST_PARTS) : start])
    after = any(part.mark in own for part in parts[stop : stop + MOST_PARTS])
    gaps = sum(max(0, _gap(parts, start, end)) for end in range(start + 2, stop + 1))
    off = math.log(box[3] / height) / HEIGHT_SPREAD
    cost = CUT_COST * (before + after) + GAP_COST * gaps / height + off * off / 2
    if stop - start > 1 and _has_sign(parts[start:stop], height):
        cost += SIGN_COST
    return Candidate(start, stop, box, cost, before or after)


def _has_sign(parts: list[Part], height: float) -> bool:
    """Tell whether one of these parts is a comma or a dot at the foot of the others, or a dash or a dot beside them."""
    for one in parts:
        rest = [part.box for part in parts if part.mark != one.mark]
        if not rest or one.box[3] >= WHOLE * height:
            continue
        (left, top, width, high), (x, y, wide, low) = around(rest), one.box
        middle, beside = (y + low / 2 - top) / high, max(left - x - wide, x - left - width)
        comma = y > top + high / 2 and y + low > top + high + FOOT * height
        if comma or (low <= FLAT * height and beside > -0.1 * wide and middle > TOP):
            return True
    return False


def mask_of(row: Row, one: Candidate) -> Mask:
    """Return the ink of a candidate of a row within its box: bool [height, width]."""
    left, top, width, height = one.box
    parts = row.parts[one.start : one.stop]
    if one.shared is not None:
        parts = [*parts, one.shared]
    if len(parts) == 1:
        return parts[0].mask
    mask = np.zeros((height, width), np.bool_)
    for part in parts:
        x, y = part.box[0] - left, part.box[1] - top
        mask[y : y + part.box[3], x : x + part.box[2]] |= part.mask
    return mask


def _part(piece: Mask, left: int, top: int, mark: int) -> Part:
    rows, columns = np.flatnonzero(piece.any(axis=1)), np.flatnonzero(piece.any(axis=0))
    first, last, begin, end = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    return Part(
        (left + begin, top + first, end - begin, last - first), piece[first:last, begin:end], mark, int(piece.sum())
    )


def _gap(parts: list[Part], start: int, stop: int) -> int:
    """Return the gap between the last of these parts and those before it, in pixels; negative where they overlap."""
    if stop - start < 2:
        return 0
    return parts[stop - 1].box[0] - max(part.box[0] + part.box[2] for part in parts[start : stop - 1])


def _belong_together(parts: list[Part], start: int, stop: int, gap: int, height: float) -> bool:
    """Tell whether the last of these parts may belong to the same digit as those before it."""
    if gap > APART * height:
        return False
    last = parts[stop - 1]
    large = [part for part in parts[start : stop - 1] if part.box[3] >= WHOLE * height and part.mark != last.mark]
    return not (large and last.box[3] >= WHOLE * height and gap > BESIDE * height)
