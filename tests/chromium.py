"""A real Chromium, driven by playwright."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.tools import tool

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Digits as somebody draws them: strokes of points from 0 to 1.
STROKES: list[list[list[tuple[float, float]]]] = [
    [[(.5, .15), (.3, .25), (.24, .5), (.3, .75), (.5, .86), (.7, .75), (.76, .5), (.7, .25), (.5, .15)]],
    [[(.5, .14), (.5, .86)]],
    [[(.28, .3), (.4, .17), (.6, .17), (.72, .32), (.62, .52), (.42, .7), (.27, .84), (.74, .84)]],
    [[(.3, .2), (.5, .14), (.68, .26), (.62, .42), (.46, .49), (.66, .56), (.72, .72), (.54, .86), (.3, .8)]],
    [[(.52, .15), (.25, .58), (.78, .58)], [(.62, .38), (.6, .87)]],
    [[(.7, .16), (.36, .16), (.33, .46), (.52, .42), (.69, .54), (.69, .74), (.52, .86), (.3, .8)]],
    [[(.62, .14), (.42, .32), (.3, .58), (.34, .78), (.5, .87), (.66, .78), (.67, .62), (.52, .53), (.33, .64)]],
    [[(.27, .17), (.74, .17), (.6, .45), (.46, .86)]],
    [[(.66, .24), (.5, .14), (.34, .25), (.38, .4), (.6, .55), (.68, .72), (.5, .86), (.33, .72), (.42, .55), (.62, .4),
      (.66, .24)]],
    [[(.68, .3), (.52, .16), (.34, .28), (.36, .45), (.54, .5), (.67, .38), (.68, .3), (.66, .6), (.58, .86)]],
]  # fmt: skip


@contextmanager
def browser() -> Iterator[Browser]:
    path = tool("chromium", *NAMES)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield running
        running.close()


class Troubles(list[str]):
    """Errors of the page; a refused request is named by its status and may be expected."""

    def watch(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.append(str(error)))
        page.on("console", self._hear)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.append(message.text)

    def unexpected(self) -> list[str]:
        return [text for text in self if not text.startswith("Failed to load resource")]


def draw(page: Page, strokes: Sequence[Sequence[tuple[float, float]]]) -> None:
    """With the mouse, on the sheet."""
    box = page.locator("#pad-canvas").bounding_box()
    assert box
    for stroke in strokes:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=2)
        page.mouse.up()
