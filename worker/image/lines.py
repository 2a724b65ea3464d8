"""What is printed on the paper and not written by hand: ruling, squares, and frames around the whole picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Grey = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

#: Ruling and ruled squares are thinner than this part of the picture's shorter side, or than so many pixels ...
THIN, LEAST_THIN = 0.03, 2
#: ... they lean by at most this much (5.7 degrees), since a person holds paper and camera nearly straight ...
LEAN = 0.1
#: ... and are inked along this much of their way; print is pale, and noise and light make holes in it.
INKED = 0.8
#: ... a line that leaves the picture sideways counts from this part of the width on.
SHORTEST = 0.15
#: So many lines are squares or a frame, whose other lines then need not be seen from border to border.
SQUARES = 2
#: With more marks than this on one side the picture is noise and not ruled.
MOST = 48
#: Smaller pictures are taken as they are: a stroke may be a pixel there, and a frame would leave no digit.
LEAST_SIDE = 48
#: A picture is noisy if this part of its pixels differs from all four neighbours by more than so many levels.
NOISY, ALONE = 0.01, 24
#: A frame is a border of one level, give or take this, all along ...
EVEN = 24
#: ... but for this part: corners are round, and the digit may touch.
ALONG = 0.9


def calmed(grey: Grey) -> tuple[Grey, bool]:
    """The picture without the worst of its noise, and whether it had any: pixels that stand out from all neighbours."""
    if min(grey.shape) < LEAST_SIDE:
        return grey, False
    levels = grey.astype(np.int16)
    middle = levels[1:-1:3, 1:-1]  # a third of the rows is enough to tell
    count = len(middle)
    around = levels[:-2:3, 1:-1], levels[2::3, 1:-1][:count], levels[1:-1:3, :-2], levels[1:-1:3, 2:]
    high, low = np.maximum.reduce(around), np.minimum.reduce(around)
    share = np.count_nonzero((middle > high + ALONE) | (middle < low - ALONE)) / middle.size
    if share < NOISY:
        return grey, False
    image = Image.fromarray(grey).filter(ImageFilter.MedianFilter(3))
    if share > 4 * NOISY:
        image = image.filter(ImageFilter.GaussianBlur(1.2))
    return np.asarray(image), True


def unframed(grey: Grey) -> Grey:
    """The picture within its frames, uint8 [h, w]: whatever the levels, a ring of one level around a ring of another.

    A digit's own ring is none: the corners of its box are paper, or within it nothing is drawn.
    """
    inner = grey
    if min(grey.shape) < LEAST_SIDE:
        return grey
    for _ in range(4):  # a margin, a frame, a second margin, a second frame
        cut = _within_ring(inner)
        if cut is None:
            break
        inner = cut
    return inner if inner is not grey and int(inner.max()) - int(inner.min()) > EVEN else grey


def _within_ring(grey: Grey) -> Grey | None:
    """What the outermost ring of one level surrounds, if it is surrounded like a sheet by a frame, else None."""
    edge = _edge(grey)
    level = int(np.sort(edge)[edge.size // 2])
    if np.count_nonzero(np.abs(edge.astype(np.int16) - level) <= EVEN) < ALONG * edge.size:
        return None
    other = np.abs(grey.astype(np.int16) - level) > EVEN
    rows, columns = np.flatnonzero(other.any(axis=1)), np.flatnonzero(other.any(axis=0))
    if not rows.size or min(np.ptp(rows), np.ptp(columns)) < 0.5 * min(grey.shape):
        return None
    inset = max(grey.shape) // 100  # the soft edge of what a camera or a JPEG has seen
    top, bottom, left, right = rows[0] + inset, rows[-1] + 1 - inset, columns[0] + inset, columns[-1] + 1 - inset
    ring = _edge(other[top:bottom, left:right])
    return grey[top:bottom, left:right] if np.count_nonzero(ring) >= ALONG * ring.size else None


def _edge(levels: NDArray[np.generic]) -> NDArray[np.generic]:
    return np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])


def ruling(mask: Mask) -> Mask | None:
    """The pixels of `mask` that are ruling, bool [H, W]: thin straight lines from border to border; None if none.

    What crosses a line stays whole: of a line only those pixels go whose run across it is as short as the line is thin.
    """
    if min(mask.shape) < LEAST_SIDE:
        return None
    lean, count = _lean(mask)
    other, other_count = _lean(mask.T)
    if count + other_count >= SQUARES:  # squares are rigid: the direction that is seen better tells the other
        lean, other = (lean, -lean) if count >= other_count else (-other, other)
        count = other_count = SQUARES
    across = _lines(mask, lean) if count else np.zeros_like(mask)
    down = _lines((mask & ~across).T, other).T if other_count else np.zeros_like(mask)
    found = across | down
    return found if found.any() else None


def _lean(mask: Mask) -> tuple[float, int]:
    """In rows per column, the lean of straight thin lines from left to right, the middle one's, and their number."""
    width, thin = mask.shape[1], _thin(mask)
    edge = width // 20
    begin, left = _marks(mask[:, :edge], thin)
    end, right = _marks(mask[:, -edge:], thin)
    end += width - edge
    if max(left.size, right.size) > MOST:
        return 0.0, 0
    leans = (right - left[:, None]) / (end - begin)
    starts = left[:, None] - leans * begin
    near = np.abs(leans) <= LEAN
    leans, starts = leans[near], starts[near]
    share, typical, _ = _followed(mask, leans, starts)
    leans = np.sort(leans[(share >= INKED) & (typical <= thin)])
    return (float(leans[leans.size // 2]), leans.size) if leans.size else (0.0, 0)


def _lines(mask: Mask, lean: float) -> Mask:
    """The pixels of all lines of this lean, those included that leave the picture above or below."""
    height, width = mask.shape
    starts = np.arange(min(0, -lean * width), height - min(0, lean * width))
    share, typical, inside = _followed(mask, np.full(starts.size, lean), starts)
    columns, lengths = np.arange(width), _runs_down(mask)
    found = np.zeros_like(mask)
    for line in np.flatnonzero((share >= INKED) & (typical <= _thin(mask)) & (inside >= SHORTEST * width)):
        way = np.rint(starts[line] + lean * columns).astype(np.intp)
        for step in range(-typical[line], typical[line] + 1):
            rows = (way + step).clip(0, height - 1)
            run = lengths[rows, columns]
            found[rows, columns] |= (run > 0) & (run <= 1.5 * typical[line] + 1)
    return found


def _followed(mask: Mask, leans: Floats, starts: Floats) -> tuple[Floats, NDArray[np.intp], NDArray[np.intp]]:
    """For each line its inked part, a quartile of the vertical runs that it meets, its columns in the picture."""
    height, width = mask.shape
    columns = np.arange(width)
    ways = np.rint(starts[:, None] + leans[:, None] * columns).astype(np.intp)
    within = (ways >= 0) & (ways < height)
    lengths = np.pad(_runs_down(mask), ((1, 1), (0, 0)))
    ways = ways.clip(0, height - 1) + 1
    runs = np.maximum(np.maximum(lengths[ways - 1, columns], lengths[ways + 1, columns]), lengths[ways, columns])
    runs = np.sort(np.where(within, runs, 0), axis=1)
    inked, inside = np.count_nonzero(runs, axis=1), np.count_nonzero(within, axis=1)
    typical = np.take_along_axis(runs, (width - 1 - 3 * inked // 4)[:, None], axis=1)[:, 0]
    return inked / np.maximum(inside, 1), typical, inside


def _thin(mask: Mask) -> int:
    height, width = mask.shape
    return int(max(LEAST_THIN, round(THIN * min(height, width))))


def _marks(edge: Mask, thin: int) -> tuple[int, NDArray[np.intp]]:
    """The column that meets the most lines, and the middles of its runs that are at most twice as long as `thin`."""
    column = int(np.count_nonzero(edge[1:] != edge[:-1], axis=0).argmax())
    ends = np.flatnonzero(np.diff(np.concatenate([[False], edge[:, column], [False]])))
    starts, stops = ends[::2], ends[1::2]
    return column, ((starts + stops - 1) // 2)[stops - starts <= 2 * thin]


def _runs_down(mask: Mask) -> NDArray[np.intp]:
    """For each inked pixel the length of the vertical run of ink that it is in, 0 elsewhere."""
    columns = np.zeros((mask.shape[1], mask.shape[0] + 1), np.bool_)
    columns[:, :-1] = mask.T
    line = columns.ravel()
    edges = np.flatnonzero(np.diff(line, prepend=False))
    lengths = np.zeros(line.size, np.intp)
    runs = edges[1::2] - edges[::2]
    lengths[line] = np.repeat(runs, runs)
    return lengths.reshape(columns.shape)[:, :-1].T
