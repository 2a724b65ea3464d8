"""The page in a browser: the whole stack with the real model, and a Chromium."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.answers import Answers
from tests.chromium import Troubles, browser
from tests.stack import LEAN, Stack, up

#: Longest that anything on the page may take on a busy machine, in ms.
PATIENCE = 20_000


@pytest.fixture(scope="module")
def served() -> Iterator[Stack]:
    """A stack of our own: its Redis is stopped and killed."""
    with tempfile.TemporaryDirectory(prefix="digitq-") as folder, up(Path(folder), workers=1, **LEAN) as stack:
        yield stack


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE)
    with browser() as running:
        yield running


@pytest.fixture
def context(chrome: Browser, served: Stack) -> Iterator[BrowserContext]:
    with chrome.new_context(base_url=served.url, viewport={"width": 1280, "height": 900}) as context:
        context.set_default_timeout(PATIENCE)
        yield context


@pytest.fixture
def page(context: BrowserContext, served: Stack) -> Iterator[Page]:
    """The page, opened, on an empty history; in the end it must not have complained."""
    page, troubles = context.new_page(), Troubles()
    troubles.watch(page)
    start(page)
    yield page
    empty(served.url)
    assert troubles.unexpected() == []


def empty(url: str) -> None:
    """Delete all pictures, each once it has ended."""
    end = time.monotonic() + PATIENCE / 1000
    with httpx2.Client(base_url=url, timeout=PATIENCE / 1000) as http:
        while cards := http.get("/v1/predictions?limit=100").json()["predictions"]:
            assert time.monotonic() < end, f"{len(cards)} pictures do not end"
            for card in cards:
                http.delete(card["links"]["self"])


def start(page: Page, url: str = "/", state: str = "good") -> None:
    """Open the page, until its dot has a state.

    Other processes may change this machine's network; Chromium then drops all requests.
    """
    for attempt in range(5):
        page.goto(url)
        with suppress(AssertionError):
            seconds = 5 * (attempt + 1)
            expect(page.locator("#live-dot")).to_have_attribute("data-state", state, timeout=1000 * seconds)
            return
    pytest.fail("the page does not start")


@pytest.fixture
def answers(context: BrowserContext) -> Answers:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    return Answers(context)


@pytest.fixture
def opened(answers: Answers, page: Page) -> Page:
    """The page, whose server is doubled before it is asked for anything."""
    return page
