"""Draws what is read from a page of numbers: the upload with its digits, rows and cells, and the numbers as text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from shared.numbers import Box, FoundNumber, PageReading, around
from shared.prediction import Outcome
from worker.decoding.decode import decode_page
from worker.image.arrays import Floats64
from worker.inference.explain import ACCENT, COLOURS, GAP, INK, PAPER, SOFT, TITLE, WIDTH, explain, font, short, upload
from worker.inference.numbers_classifier import NumbersClassifier
from worker.page.layout import Layout, lay_out

#: The drawn page, in pixels, is at most this high; the height of a line of text; the most lines.
PAGE_HEIGHT, LINE, MOST_LINES = 1600, 34, 60


def explain_page(data: bytes, name: str, classifier: NumbersClassifier) -> tuple[Outcome, Image.Image]:
    """Read the picture `data`, called `name`; return the outcome, and a drawing of it, 1200 pixels wide.

    A single digit is drawn as such. Raises the classifier's error for a picture that it cannot read.
    """
    [outcome] = classifier([data]).results
    if isinstance(outcome, Exception):
        raise outcome
    page = outcome.page or PageReading()
    if outcome.probabilities is not None:
        return outcome, explain(data, name, classifier.digits)[1]
    decoded = decode_page(data, max_pixels=classifier.digits.max_pixels)
    by_cell = page.grid is not None and all(len(text) < 2 for row in page.grid.cells for text in row)
    cuts = cuts_of(lay_out(decoded.grey, page.rotated // 90)) if not by_cell else np.empty((0, 2))
    drawn = _page(upload(data), page, cuts * np.array(decoded.size) / decoded.grey.shape[::-1])
    rows = page.rows[:MOST_LINES]
    height = TITLE + drawn.height + GAP + LINE * (len(rows) + 2)
    sheet = Image.new("RGB", (WIDTH, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, TITLE / 2), f"What {short(name)} says", INK, font(28), "lm")
    draw.text((WIDTH - GAP, TITLE / 2), f"model {classifier.digits.model.version}", SOFT, font(17), "rm")
    sheet.paste(drawn, ((WIDTH - drawn.width) // 2, TITLE))
    top = TITLE + drawn.height + GAP
    draw.text((GAP, top), _summary(outcome, page), SOFT, font(17), "la")
    for at, row in enumerate(rows, 1):
        _text(draw, top + LINE * at, row)
    return outcome, sheet


def cuts_of(layout: Layout) -> Floats64:
    """Return the places at which marks were cut: x and y in pixels of the page [n, 2]."""
    found = [np.empty((0, 2))]
    ink = layout.marks.labels > 0
    for part in (part for row in layout.rows for part in row.parts):
        rows = np.flatnonzero(part.mask.any(axis=1))
        x, y = part.mask[rows].argmax(axis=1) + part.box[0], rows + part.box[1]
        inside = (x > 0) & ink[y, x - 1]  # ink goes on to the left of the part
        found.append(np.stack([x[inside], y[inside]], axis=1).astype(np.float64))
    return np.pad(np.concatenate(found), ((0, 0), (0, 1)), constant_values=1.0) @ layout.back.T


def _page(image: Image.Image, page: PageReading, cuts: Floats64) -> Image.Image:
    """Draw cells, rows, digits and cuts on the upload, which is scaled to fit the sheet."""
    fitted = ImageOps.contain(image.convert("RGB"), (WIDTH - 2 * GAP, PAGE_HEIGHT), Image.Resampling.LANCZOS)
    draw, scale = ImageDraw.Draw(fitted), fitted.width / image.width

    def outline(box: Box, colour: str, margin: float, width: int) -> None:
        left, top = box[0] * scale - margin, box[1] * scale - margin
        right, bottom = (box[0] + box[2]) * scale + margin, (box[1] + box[3]) * scale + margin
        draw.rectangle((left, top, right, bottom), outline=colour, width=width)

    for cell in (cell for row in (page.grid.boxes if page.grid else ()) for cell in row):
        outline(cell, SOFT, 0, 1)
    for row in page.rows if page.grid is None else ():
        outline(around([number.box for number in row]), ACCENT, 6, 1)
    for x, y in (cuts * scale).tolist():
        draw.rectangle((x - 1, y - 1, x + 1, y + 1), fill=ACCENT)
    for digit in page.digits:
        outline(digit.box, COLOURS[digit.decision], 2, 2)
        place = digit.box[0] * scale, digit.box[1] * scale - 3
        draw.text(place, str(digit.digit), COLOURS[digit.decision], font(16), "ls")
    return fitted


def _text(draw: ImageDraw.ImageDraw, top: float, row: Sequence[FoundNumber]) -> None:
    """Write the numbers of a row, each in the colour of its decision and with its confidence."""
    left = float(GAP)
    for number in row:
        for text, size, colour in (
            (number.text or "?", 24, COLOURS[number.decision]),
            (f" {100 * number.confidence:.1f} %    ", 15, SOFT),
        ):
            draw.text((left, top + LINE / 2), text, colour, font(size), "lm")
            left += draw.textlength(text, font(size))


def _summary(outcome: Outcome, page: PageReading) -> str:
    """Return how much was found, and the warnings, in a line."""
    noticed = dict.fromkeys(filter(None, (outcome.reason, *outcome.warnings)))
    parts = [f"digits {len(page.digits)}, numbers {len(page.numbers)}", outcome.decision]
    if page.grid:
        parts.append(f"a table of {len(page.grid.cells)} x {len(page.grid.cells[0])} cells")
    if page.rotated:
        parts.append(f"turned by {page.rotated} degrees")
    return ", ".join([*parts, *(name.replace("_", " ") for name in noticed)])
