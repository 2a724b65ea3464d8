"""Pictures with several digits on the page: boxes, text, tables, corrections and files."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from shared.numbers import PageReading
from tests.browser.answers import Answers, number, picture_of, sudoku
from tests.chromium import Troubles
from tests.pages import page as two_digits_as_png
from tests.pictures import seven
from tests.stack import Stack

#: Two rows: of the first number the last digit is to be checked, of the last one it was rejected.
ROWS = PageReading(
    (number("735426", 20, 20), number("12", 400, 24, "review", 0.71), number("908", 20, 120, "reject", 0.4))
)
LINE = PageReading((number("31415", 20, 20),))
SUDOKU = sudoku(["53..7....", "6..195...", ".98....6.", "8...6...3", "4..8.3..1", "7...2...6", ".6....28.", "...419..5",
                 "....8..79"])  # fmt: skip
WORD = PageReading((number("4", 20, 20, "reject", 0.3), number("0", 90, 20, "reject", 0.3)))
STATES = {"rows.png": ROWS, "line.png": LINE, "sudoku.png": SUDOKU, "word.png": WORD, "blank.png": PageReading()}


@pytest.fixture
def answers(context: BrowserContext) -> Answers:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    return Answers(context)


@pytest.fixture
def opened(answers: Answers, page: Page) -> Page:
    """The page, whose server is doubled before it is asked for anything."""
    return page


def upload(page: Page, answers: Answers, *names: str) -> Locator:
    """Uploads pictures, and returns the card of the last one."""
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


# ---------------------------------------------------------------------- boxes


def test_each_digit_has_a_box_where_it_is_that_says_what_was_read(opened: Page, answers: Answers) -> None:
    card = upload(opened, answers, "rows.png")
    expect(card.locator(".box")).to_have_count(11)
    assert boxes(card)[:1] == ["7, 99.9 %, accepted"]
    assert boxes(card)[7] == "2, 71 %, to be checked" and boxes(card)[10] == "Maybe 8, 40 %, not sure"
    picture, box = card.locator(".stage img").bounding_box(), card.locator(".box").nth(6).bounding_box()
    assert picture and box
    scale = picture["width"] / 580
    for found, true in ((box["x"] - picture["x"], 400), (box["y"] - picture["y"], 24), (box["height"], 44)):
        assert found == pytest.approx(true * scale, abs=2)
    looks = card.locator(".box").evaluate_all("(all) => all.map((one) => getComputedStyle(one).borderStyle)")
    assert (looks[0], looks[7], looks[10]) == ("solid", "dashed", "dotted")


def test_the_boxes_stay_on_the_digits_of_an_upload_that_was_turned(opened: Page, answers: Answers) -> None:
    """The box of a picture with an EXIF tag is one of the picture as the browser shows it."""
    card = upload(opened, answers, "line.png")
    opened.set_viewport_size({"width": 400, "height": 800})
    picture, box = card.locator(".stage img").bounding_box(), card.locator(".box").first.bounding_box()
    assert picture and box and (box["x"] - picture["x"]) / picture["width"] == pytest.approx(20 / 580, abs=0.01)


def test_arrow_keys_move_between_the_boxes_and_one_tab_leaves_them(opened: Page, answers: Answers) -> None:
    card = upload(opened, answers, "rows.png")
    box = card.locator(".box")
    expect(card.locator(".box[tabindex='0']")).to_have_count(1)
    box.first.focus()
    for key, reached in (
        ("ArrowRight", 1),
        ("End", 10),
        ("ArrowUp", 2),
        ("ArrowDown", 10),
        ("ArrowLeft", 9),
        ("Home", 0),
    ):
        opened.keyboard.press(key)
        expect(box.nth(reached)).to_be_focused()
    opened.keyboard.press("Tab")
    expect(card.get_by_role("button", name="Copy 735426")).to_be_focused()


def test_a_picture_that_the_browser_cannot_show_has_its_digits_on_plain_paper(opened: Page, answers: Answers) -> None:
    answers.expect("line.heic", LINE, b"not for browsers")
    opened.set_input_files("#file", [{"name": "line.heic", "mimeType": "image/heic", "buffer": b"not for browsers"}])
    card = opened.locator(".card", has_text="line.heic")
    expect(card.locator(".stage.unseen .box")).to_have_count(5)
    box = card.locator(".box").last.bounding_box()
    assert box and box["width"] > 10


# ---------------------------------------------------------------------- text


def test_the_numbers_are_text_to_copy_row_by_row(opened: Page, answers: Answers) -> None:
    card = upload(opened, answers, "rows.png")
    expect(card.locator(".numbers li")).to_have_count(2)
    assert card.locator(".number .text").all_text_contents() == ["735426", "12", "90?"]
    expect(card.locator(".number").nth(1)).to_contain_text("71 %, please check")
    expect(card.locator(".sum")).to_have_text("3 numbers with 10 digits, 1 to be checked, 1 mark not read.")
    card.get_by_role("button", name="Copy 735426").click()
    assert copied(opened) == "735426"
    card.get_by_role("button", name="Copy all").click()
    assert copied(opened) == "735426 12\n90?"
    expect(opened.locator("#say")).to_contain_text("Copied 735426 12")


def test_where_the_clipboard_is_forbidden_the_old_way_copies(opened: Page, answers: Answers) -> None:
    card = upload(opened, answers, "line.png")
    opened.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('not here')); }")
    card.get_by_role("button", name="Copy 31415").click()
    expect(card.get_by_role("button", name="Copy 31415")).to_be_focused()
    assert copied(opened) == "31415"


def test_a_card_is_announced_in_one_sentence(opened: Page, answers: Answers) -> None:
    upload(opened, answers, "line.png")
    expect(opened.locator("#say")).to_have_text("line.png: 1 number, 31415, with 5 digits.")


def test_a_table_has_its_cells_and_empty_ones_are_empty(opened: Page, answers: Answers) -> None:
    card = upload(opened, answers, "sudoku.png")
    rows = card.locator("table tr")
    expect(rows).to_have_count(9)
    assert rows.nth(1).locator("td").all_text_contents() == ["6", "", "", "1", "9", "5", "", "", ""]
    expect(card.locator(".sum")).to_have_text("A table of 9 × 9 cells with 30 digits.")
    expect(card.locator(".number")).to_have_count(0)
    card.get_by_role("button", name="Copy all").click()
    assert copied(opened).splitlines()[0] == "5\t3\t\t\t7\t\t\t\t"


def test_what_has_no_digit_says_so(opened: Page, answers: Answers) -> None:
    card = upload(opened, answers, "blank.png", "word.png")
    expect(card.locator(".sum")).to_have_text("No digits could be read in 2 marks.")
    expect(card.get_by_role("button", name="Copy all")).to_be_hidden()
    blank = opened.locator(".card", has_text="blank.png")
    expect(blank.locator("[data-part=chip]")).to_have_text("No digit")
    expect(blank.locator(".bars")).to_be_hidden()


def test_a_single_digit_is_shown_as_before(opened: Page, answers: Answers) -> None:
    opened.set_input_files("#file", [{"name": "one.png", "mimeType": "image/png", "buffer": seven(56)}])
    card = opened.locator(".card")
    expect(card.locator("[data-part=digit]")).to_have_text("7")
    expect(card.locator("[data-part=bars] li")).to_have_count(10)
    expect(card.locator(".box")).to_have_count(0)


def test_the_worker_reads_the_digits_that_are_boxed(page: Page, chrome: Browser, served: Stack) -> None:
    """Without a double, and the page of the prediction without JavaScript."""
    page.set_input_files("#file", [{"name": "two.png", "mimeType": "image/png", "buffer": two_digits_as_png()}])
    card = page.locator(".card", has_text="two.png")
    expect(card.locator(".box")).to_have_count(2)
    assert [(name or "").strip("Maybe ")[0] for name in boxes(card)] == ["7", "4"]
    [picture, box] = [card.locator(what).first.bounding_box() for what in (".stage img", ".box")]
    assert picture and box and (box["x"] - picture["x"]) / picture["width"] == pytest.approx(38 / 300, abs=0.05)
    page.reload()
    expect(card.locator(".box")).to_have_count(2)
    own = card.locator("[data-part=name]").get_attribute("href") or ""
    page.goto(own)
    has_no_barrier(page)
    with chrome.new_context(base_url=served.url, java_script_enabled=False) as context:
        plain = context.new_page()
        plain.goto(own)
        expect(plain.locator(".list th[scope=row]").first).to_contain_text("7")


# ---------------------------------------------------------------------- corrections and files


def test_a_digit_is_corrected_in_its_box_kept_and_exported(opened: Page, answers: Answers) -> None:
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
        assert list(csv.DictReader(io.TextIOWrapper(archive.open("index.csv"), "utf-8-sig"))) == []


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


def test_what_was_read_is_saved_as_csv_and_json(opened: Page, answers: Answers) -> None:
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


def has_no_barrier(page: Page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, re.sub(r"\n+", "\n", found.generate_report())


def test_the_page_complains_about_nothing(opened: Page, answers: Answers) -> None:
    troubles = Troubles()
    troubles.watch(opened)
    upload(opened, answers, *STATES)
    opened.reload()
    expect(opened.locator(".card[data-state=succeeded]")).to_have_count(len(STATES))
    expect(opened.locator(".box").first).to_be_visible()
    assert troubles == []
