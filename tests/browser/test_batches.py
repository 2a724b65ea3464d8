"""Batches on the page: zips that are dropped on it, and what other programs have sent."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.browser.answers import has_no_barrier, saved
from tests.browser.test_page import drop_paths
from tests.pages import page as two_digits_as_png
from tests.pictures import seven
from tests.stack import Stack


@pytest.fixture(autouse=True)
def without_batches(served: Stack) -> Iterator[None]:
    yield
    for batch in httpx2.get(f"{served.url}/v1/batches").json()["batches"]:
        httpx2.delete(f"{served.url}{batch['links']['self']}")


def scans() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("one.png", seven(56))
        archive.writestr("two.png", two_digits_as_png())
        archive.writestr("cut.png", seven(200)[:-60])
        archive.writestr("notes.txt", "no picture")
    return out.getvalue()


def test_a_dropped_zip_is_a_batch_with_its_digits(page: Page, tmp_path: Path) -> None:
    (tmp_path / "scans.zip").write_bytes(scans())
    drop_paths(page, tmp_path / "scans.zip")
    batch = page.locator(".batch")
    expect(batch).to_contain_text("scans.zip")
    expect(batch.locator("[data-part=state]")).to_have_text("2 pictures read, 1 failed, 1 file skipped.")
    assert page.locator(".card").count() == 0
    batch.locator("summary").click()
    rows = batch.locator("tbody tr")
    expect(rows).to_have_count(3)
    assert rows.nth(0).locator("th, td").all_text_contents() == ["one.png", "7", "Accepted"]
    assert rows.nth(2).locator("td").all_text_contents() == [
        "–",
        "The picture is damaged or cut off, so it cannot be read.",
    ]
    assert saved(page, batch.get_by_role("button", name="CSV")).splitlines()[1].startswith("0,one.png,succeeded,7")
    assert '"two.png"' in saved(page, batch.get_by_role("button", name="JSON")).splitlines()[1]


def test_a_zip_that_is_refused_says_why(page: Page) -> None:
    page.set_input_files("#file", [{"name": "no.zip", "mimeType": "application/zip", "buffer": b"hello"}])
    expect(page.locator(".batch[data-state=failed] [data-part=state]")).to_contain_text("This is text")
    page.get_by_role("button", name="Remove no.zip").click()
    expect(page.locator("#batches")).to_be_hidden()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (320, "light")])
def test_batches_of_others_are_listed_deleted_and_undone(width: int, scheme: Any, page: Page, served: Stack) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": width, "height": 800})
    form = [("file", (f"{n}.png", seven(56 + n), "image/png")) for n in range(3)]
    httpx2.post(f"{served.url}/v1/batches", files=form, headers={"Prefer": "wait=30"}).raise_for_status()
    page.reload()
    batch = page.locator(".batch")
    expect(batch.locator("[data-part=state]")).to_have_text("3 pictures read.")
    batch.locator("summary").press("Enter")
    expect(batch.locator("tbody tr")).to_have_count(3)
    has_no_barrier(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    delete = page.get_by_role("button", name="Delete batch 3 pictures")
    delete.press("Enter")
    expect(batch).to_have_count(0)
    page.locator("#undo-button").click()
    expect(delete).to_be_focused()
    delete.press("Enter")
    expect(page.locator("#undo")).to_be_hidden()
    assert httpx2.get(f"{served.url}/v1/batches").json()["batches"] == []
