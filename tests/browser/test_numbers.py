"""Pictures with several digits on the page: boxes, text and tables."""

from __future__ import annotations

import io

import pytest
from PIL import ExifTags, Image
from playwright.sync_api import Browser, Page, expect

from shared.numbers import PageReading
from tests.browser.answers import (
    LINE,
    Answers,
    boxes,
    copied,
    has_no_barrier,
    number,
    picture_of,
    upload,
)  # fmt: skip
from tests.pages import page as two_digits_as_png
from tests.pictures import seven
from tests.stack import Stack

# ---------------------------------------------------------------------- boxes


def test_each_digit_has_a_box_at_its_position_with_its_reading(opened: Page, answers: Answers) -> None:
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


def test_boxes_are_on_the_digits_of_a_photo_that_its_camera_has_turned(opened: Page, answers: Answers) -> None:
    lying, photo = Image.open(io.BytesIO(picture_of(LINE, 580, 200))).transpose(Image.Transpose.ROTATE_90), io.BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned clockwise
    lying.save(photo, "JPEG", exif=exif)
    answers.expect("photo.jpg", LINE, photo.getvalue())
    opened.set_input_files("#file", [{"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": photo.getvalue()}])
    card = opened.locator(".card", has_text="photo.jpg")
    expect(card.locator(".box").last).to_be_visible()
    picture, box = card.locator(".stage img").bounding_box(), card.locator(".box").last.bounding_box()
    assert picture and box and picture["width"] / picture["height"] == pytest.approx(580 / 200, rel=0.02)
    assert (box["x"] - picture["x"]) / picture["width"] == pytest.approx(180 / 580, abs=0.01)


def test_the_rows_of_a_page_that_was_read_turned_are_its_columns(opened: Page, answers: Answers) -> None:
    """It is shown as uploaded, and its numbers stand in the order in which they were read."""
    turned = PageReading((number("1", 20, 400), number("2", 20, 100), number("3", 200, 400)), rotated=90)
    image = picture_of(turned, 580, 580)
    answers.expect("turned.png", turned, image)
    opened.set_input_files("#file", [{"name": "turned.png", "mimeType": "image/png", "buffer": image}])
    opened.get_by_role("button", name="Copy all").click()
    assert copied(opened) == "1 2\n3"


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
    weight = "(all) => all.map((one) => getComputedStyle(one).fontWeight)"
    assert card.locator(".sureness").evaluate_all(weight) == ["400", "600", "600"]
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
    expect(card.locator("[data-part=bars] > span")).to_have_count(10)
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
