"""Pictures with several digits, and a double of the server that answers them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import BrowserContext, Error, Locator, Page, Route, expect

from shared.numbers import Box, FoundDigit, FoundGrid, FoundNumber, PageReading, weakest

#: Width and height of a digit that is written here, and the step to the next one, in pixels.
WIDE, HIGH, STEP = 30, 44, 40


def number(text: str, left: int, top: int, decision: str = "accept", confidence: float = 0.98) -> FoundNumber:
    """A number whose last digit has the decision; the others are accepted."""
    last = len(text) - 1
    return FoundNumber(
        tuple(
            FoundDigit(
                int(one), *((confidence, decision) if at == last else (0.999, "accept")), digit_box(left, top, at)
            )
            for at, one in enumerate(text)
        )
    )


def digit_box(left: int, top: int, at: int) -> Box:
    return left + STEP * at, top, WIDE, HIGH


def sudoku(lines: Sequence[str], side: int = 60) -> PageReading:
    """A ruled table with square cells; `.` is an empty one."""
    boxes = tuple(
        tuple((side * column, side * row, side, side) for column in range(len(line))) for row, line in enumerate(lines)
    )
    numbers = tuple(
        number(text, side * column + 15, side * row + 8)
        for row, line in enumerate(lines)
        for column, text in enumerate(line)
        if text != "."
    )
    return PageReading(numbers, FoundGrid(tuple(tuple(text.strip(".") for text in line) for line in lines), boxes))


def picture_of(reading: PageReading, width: int, height: int) -> bytes:
    """A PNG with the digits in their boxes, and the lines of the table."""
    image = Image.new("L", (width, height), 245)
    draw = ImageDraw.Draw(image)
    for row in reading.grid.boxes if reading.grid else ():
        for left, top, wide, high in row:
            draw.rectangle((left, top, left + wide, top + high), outline=90)
    font = ImageFont.load_default(HIGH)
    for digit in reading.digits:
        left, top, wide, high = digit.box
        draw.text((left + wide / 2, top + high / 2), str(digit.digit), 30, font, anchor="mm")
    out = BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def prediction_of(id: str, filename: str, reading: PageReading) -> dict[str, Any]:
    """The prediction of a page as the API has it."""
    grid = reading.grid.to_json() if reading.grid else None
    return {
        "id": id, "state": "succeeded", "filename": filename, "digit": None, "confidence": None, "probabilities": None,
        "decision": weakest([one.decision for one in reading.digits]),
        "reason": None if reading.digits else "not_a_digit",
        "numbers": [one.to_json() for one in reading.numbers], "grid": grid, "rotated": reading.rotated,
        "warnings": list(reading.warnings), "model": "test", "batch": {"size": 1, "position": 0},
        "timings_ms": {"queue": 1, "preprocess": 20, "inference": 4, "store": 1, "total": 26},
        "links": {"self": f"/v1/predictions/{id}", "image": f"/v1/predictions/{id}/image"}, "error": None,
    }  # fmt: skip


class Answers:
    """Answers what the page asks about uploads with these file names, and leaves the rest to the server."""

    def __init__(self, context: BrowserContext) -> None:
        self._readings: dict[str, tuple[PageReading, bytes]] = {}
        self._pictures: dict[str, tuple[dict[str, Any], bytes]] = {}
        context.route("**/v1/predictions?*filename=*", self._submit)
        context.route("**/v1/predictions?limit=*", self._history)
        context.route("**/v1/predictions/double-**", self._ask)

    def expect(self, filename: str, reading: PageReading, image: bytes) -> None:
        self._readings[filename] = reading, image

    def _submit(self, route: Route) -> None:
        asked = parse_qs(urlsplit(route.request.url).query)
        [filename] = asked["filename"]
        if filename not in self._readings:
            return route.fallback()
        assert asked["read"] == ["numbers"]
        reading, image = self._readings[filename]
        prediction = prediction_of(f"double-{len(self._pictures)}", filename, reading)
        self._pictures[prediction["id"]] = prediction, image
        return route.fulfill(json=prediction)

    def _ask(self, route: Route) -> None:
        id, _, rest = urlsplit(route.request.url).path.removeprefix("/v1/predictions/").partition("/")
        if route.request.method == "DELETE":
            del self._pictures[id]
            return route.fulfill(status=204)
        prediction, image = self._pictures[id]
        return route.fulfill(body=image, content_type="image/png") if rest else route.fulfill(json=prediction)

    def _history(self, route: Route) -> None:
        with suppress(Error):  # the page is closed meanwhile
            page = route.fetch().json()
            page["predictions"] = [one for one, _ in reversed(self._pictures.values())] + page["predictions"]
            route.fulfill(status=200, content_type="application/json", body=json.dumps(page))


#: Two rows: of the first number the last digit is to be checked, of the last one it was rejected.
ROWS = PageReading(
    (number("735426", 20, 20), number("12", 400, 24, "review", 0.71), number("908", 20, 120, "reject", 0.4))
)
LINE = PageReading((number("31415", 20, 20),))
SUDOKU = sudoku(["53..7....", "6..195...", ".98....6.", "8...6...3", "4..8.3..1", "7...2...6", ".6....28.", "...419..5",
                 "....8..79"])  # fmt: skip
WORD = PageReading((number("4", 20, 20, "reject", 0.3), number("0", 90, 20, "reject", 0.3)))
STATES = {"rows.png": ROWS, "line.png": LINE, "sudoku.png": SUDOKU, "word.png": WORD, "blank.png": PageReading()}


def upload(page: Page, answers: Answers, *names: str) -> Locator:
    """Upload pictures, and return the card of the last one."""
    for name in names:
        image = picture_of(STATES[name], 580, 580)
        answers.expect(name, STATES[name], image)
        page.set_input_files("#file", [{"name": name, "mimeType": "image/png", "buffer": image}])
        expect(page.locator(".card[data-state=succeeded]", has_text=name)).to_be_visible()
    return page.locator(".card", has_text=names[-1])


def boxes(card: Locator) -> list[str | None]:
    return [box.get_attribute("aria-label") for box in card.locator(".box").all()]


def copied(page: Page) -> str:
    return str(page.evaluate("navigator.clipboard.readText()"))


def saved(page: Page, button: Locator) -> str:
    with page.expect_download() as download:
        button.click()
    return Path(download.value.path()).read_text("utf-8-sig")


def has_no_barrier(page: Page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, re.sub(r"\n+", "\n", found.generate_report())
