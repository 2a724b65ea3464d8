"""Pictures with several digits on the page: corrections, files, the enlarged view, and everybody's access."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from shared.numbers import PageReading
from tests.browser.answers import (
    ROWS,
    STATES,
    SUDOKU,
    Answers,
    boxes,
    copied,
    has_no_barrier,
    number,
    picture_of,
    saved,
    upload,
)  # fmt: skip
from tests.chromium import STROKES, Troubles, draw
from tests.stack import Stack
from worker.training.evaluation.evaluate_numbers import from_manifest

# ---------------------------------------------------------------------- corrections and files


def test_a_digit_is_corrected_in_its_box_kept_and_exported(opened: Page, answers: Answers, tmp_path: Path) -> None:
    card = upload(opened, answers, "rows.png")
    card.locator(".box").nth(7).click()
    expect(opened.locator("#picker")).to_contain_text("2, 71 %, to be checked")
    opened.locator("#picker").get_by_role("button", name="7", exact=True).click()
    card.locator(".box").nth(10).press("Enter")
    opened.keyboard.press("Delete")
    expect(card.locator(".box").nth(10)).to_be_focused()
    assert card.locator(".number .text").all_text_contents() == ["735426", "17", "90"]
    assert boxes(card)[7] == "7, corrected, read as 2" and boxes(card)[10] == "No digit, read as 8"
    expect(card.locator(".sum")).to_have_text("3 numbers with 10 digits.")
    opened.locator("#list-decision").select_option("corrected")
    expect(opened.locator(".card:visible")).to_have_count(1)
    opened.reload()
    expect(card.locator(".number .text").nth(1)).to_have_text("17")
    with opened.expect_download() as download:
        opened.locator("#export").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        first, second = csv.DictReader(io.TextIOWrapper(archive.open("digits.csv"), "utf-8-sig"))
        assert (first["label"], first["read"], first["left"], first["width"]) == ("7", "2", "440", "30")
        assert (second["label"], second["read"], second["decision"]) == ("none", "8", "reject")
        assert archive.read(first["path"]) == picture_of(ROWS, 580, 580)
        archive.extractall(tmp_path)
        assert list(csv.DictReader(io.TextIOWrapper(archive.open("index.csv"), "utf-8-sig"))) == []
    # Nothing is in doubt any more, so the page can tell how well others are read.
    [truth] = from_manifest(tmp_path)
    assert (truth.category, truth.lines) == ("rows", ("73542617", "90"))
    assert (tmp_path / truth.path).read_bytes() == picture_of(ROWS, 580, 580)


def test_a_digit_typed_on_its_box_corrects_it_and_undo_takes_it_back(opened: Page, answers: Answers) -> None:
    card = upload(opened, answers, "sudoku.png")
    card.locator(".box").nth(2).press("4")
    cell = card.locator("table tr").first.locator("td").nth(4)
    expect(cell).to_have_text("4")
    expect(opened.locator("#say")).to_contain_text("4, corrected, read as 7.")
    card.locator(".box").nth(2).press("Enter")
    expect(opened.locator("#picker-keys [aria-pressed=true]")).to_have_text("4")
    opened.get_by_role("button", name="Undo the correction").click()
    expect(cell).to_have_text("7")
    expect(opened.locator("#export")).to_be_disabled()


def test_a_reading_is_saved_as_csv_and_json(opened: Page, answers: Answers) -> None:
    card = upload(opened, answers, "sudoku.png", "rows.png")
    card.locator(".box").nth(7).press("7")
    rows = list(csv.DictReader(io.StringIO(saved(opened, card.get_by_role("button", name="CSV")))))
    assert [(one["row"], one["number"], one["decision"]) for one in rows] == [
        ("1", "735426", "accept"), ("1", "17", "corrected"), ("2", "90?", "reject"),
    ]  # fmt: skip
    page = json.loads(saved(opened, card.get_by_role("button", name="JSON")))
    assert [one["text"] for one in page["numbers"]] == ["735426", "17", "90"]
    assert page["numbers"][1]["digits"][1] == {
        "digit": 2, "confidence": 0.71, "decision": "review", "box": [440, 24, 30, 44], "corrected": "7"
    }  # fmt: skip
    table = opened.locator(".card", has_text="sudoku.png")
    assert saved(opened, table.get_by_role("button", name="CSV")).splitlines()[0] == "5,3,,,7,,,,"
    grid = json.loads(saved(opened, table.get_by_role("button", name="JSON")))["grid"]
    assert grid["cells"] == SUDOKU.grid.to_json()["cells"]  # type: ignore[union-attr]


# ---------------------------------------------------------------------- larger


def test_a_picture_is_enlarged_scaled_with_keys_and_corrected_there(opened: Page, answers: Answers) -> None:
    card = upload(opened, answers, "rows.png")
    enlarge = card.get_by_role("button", name="Enlarge")
    enlarge.click()
    zoom = opened.locator("#zoom")
    box = zoom.locator(".box").nth(7)
    before = box.bounding_box()
    opened.keyboard.press("+")
    after = box.bounding_box()
    assert before and after and after["width"] == pytest.approx(1.5 * before["width"], rel=0.1)
    box.press("7")
    assert box.get_attribute("aria-label") == "7, corrected, read as 2"
    opened.keyboard.press("Escape")
    expect(zoom).to_be_hidden()
    expect(enlarge).to_be_focused()
    expect(card.locator(".number .text").nth(1)).to_have_text("17")


def test_on_a_phone_a_small_box_enlarges_the_picture_and_two_fingers_scale_it(chrome: Browser, served: Stack) -> None:
    with chrome.new_context(
        base_url=served.url, viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True
    ) as context:
        answers, page = Answers(context), context.new_page()
        page.goto("/")
        small = PageReading((number("31", 1500, 1200),))
        image = picture_of(small, 3000, 2000)
        answers.expect("far.png", small, image)
        page.set_input_files("#file", [{"name": "far.png", "mimeType": "image/png", "buffer": image}])
        page.locator(".card .box").first.tap()
        expect(page.locator("#picker")).to_be_hidden()
        box = page.locator("#zoom .box").first
        expect(box).to_be_in_viewport()
        before = box.bounding_box()
        assert before and before["height"] > 30
        session = context.new_cdp_session(page)
        for kind, spread in (("touchStart", 20), ("touchMove", 30), ("touchMove", 40), ("touchEnd", None)):
            fingers = [] if spread is None else [{"x": 195 + side * spread, "y": 400} for side in (-1, 1)]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
        after = box.bounding_box()
        assert after and after["height"] == pytest.approx(2 * before["height"], rel=0.1)
        box.tap()
        expect(page.locator("#picker")).to_be_visible()


# ---------------------------------------------------------------------- for everybody


def test_the_keyboard_alone_corrects_and_copies(opened: Page, answers: Answers) -> None:
    upload(opened, answers, "line.png")

    def tab_to(what: str) -> None:
        for _ in range(30):
            opened.keyboard.press("Tab")
            if opened.evaluate("(what) => document.activeElement.matches(what)", what):
                return
        pytest.fail(f"the keyboard does not reach {what}")

    tab_to(".box")
    for key in ("ArrowRight", "Enter", "7"):
        opened.keyboard.press(key)
    expect(opened.locator("#picker")).to_be_hidden()
    tab_to(".copy")
    opened.keyboard.press("Enter")
    expect(opened.locator("#say")).to_contain_text("Copied 37415.")
    assert copied(opened) == "37415"


def test_a_number_can_be_drawn(page: Page) -> None:
    for at, digit in enumerate((4, 7)):
        draw(page, [[(0.4 * x + 0.1 + 0.4 * at, 0.5 * y + 0.2) for x, y in stroke] for stroke in STROKES[digit]])
    expect(page.locator("#pad-digit")).to_have_text("47")
    expect(page.locator("#pad-text")).to_contain_text("% sure")
    page.locator("#pad-keep").click()
    expect(page.locator(".card .box")).to_have_count(2)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark"), (320, "light")])
def test_every_state_fits_and_has_no_barrier(width: int, scheme: Any, opened: Page, answers: Answers) -> None:
    opened.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    opened.set_viewport_size({"width": width, "height": 800})
    upload(opened, answers, *STATES)
    opened.locator(".card", has_text="rows.png").locator(".box").nth(7).press("7")
    card = opened.locator(".card", has_text="rows.png")
    has_no_barrier(opened)
    card.locator(".box").first.press("Enter")
    has_no_barrier(opened)
    opened.keyboard.press("Escape")
    card.get_by_role("button", name="Enlarge").click()
    has_no_barrier(opened)
    opened.keyboard.press("Escape")
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    # A card contains its layout: what sticks out of it does not make the page wider.
    sticking_out = opened.evaluate(
        """() => {
          const right = (one) => one.getBoundingClientRect().right;
          return [...document.querySelectorAll(".card *:not(.sr, .box, .scroll *)")]
            .filter((one) => one.checkVisibility() && right(one) > right(one.closest(".card")))
            .map((one) => one.outerHTML);
        }"""
    )
    assert sticking_out == []


def test_the_page_complains_about_nothing(opened: Page, answers: Answers) -> None:
    troubles = Troubles()
    troubles.watch(opened)
    upload(opened, answers, *STATES)
    opened.reload()
    expect(opened.locator(".card[data-state=succeeded]")).to_have_count(len(STATES))
    expect(opened.locator(".box").first).to_be_visible()
    assert troubles == []
