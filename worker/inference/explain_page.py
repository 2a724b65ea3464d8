"""Draws what is read from a page of numbers: the upload with its digits, rows and cells, and the numbers as text."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageOps

from shared.numbers import Box, FoundNumber, PageReading, around
from shared.prediction import Outcome
from worker.inference.explain import ACCENT, COLOURS, GAP, INK, PAPER, SOFT, TITLE, WIDTH, explain, font, short, upload
from worker.inference.numbers_classifier import NumbersClassifier

#: The drawn page, in pixels, is at most this high; the height of a line of text; the most lines.
PAGE_HEIGHT, LINE, MOST_LINES = 1600, 34, 60


def explain_page(data: bytes, name: str, classifier: NumbersClassifier) -> tuple[Outcome, Image.Image]:
    """Read the picture `data`, called `name`; return the outcome, and a drawing of it, 1200 pixels wide.

    What was read as a single digit is drawn as such. Raises the classifier's error for a picture that it cannot read.
    """
    [outcome] = classifier([data]).results
    if isinstance(outcome, Exception):
        raise outcome
    page = outcome.page or PageReading()
    if outcome.probabilities is not None:
        return outcome, explain(data, name, classifier.digits)[1]
    drawn = _page(upload(data), page)
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


def _page(image: Image.Image, page: PageReading) -> Image.Image:
    """Draw cells, rows and digits on the upload, which is scaled to fit the sheet."""
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
    """Return how much was found, and what was noticed, in a line."""
    noticed = dict.fromkeys(filter(None, (outcome.reason, *outcome.warnings)))
    parts = [f"digits {len(page.digits)}, numbers {len(page.numbers)}", outcome.decision]
    if page.grid:
        parts.append(f"a table of {len(page.grid.cells)} x {len(page.grid.cells[0])} cells")
    if page.rotated:
        parts.append(f"turned by {page.rotated} degrees")
    return ", ".join([*parts, *(name.replace("_", " ") for name in noticed)])
