"""The page, in a real browser, against the whole stack with the real model."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import statistics
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect

from shared.numbers import PageReading
from tests.browser.answers import prediction_of
from tests.browser.conftest import PATIENCE, start
from tests.chromium import STROKES, Troubles, draw
from tests.loading import loading_server
from tests.pictures import seven
from tests.receiver import until
from tests.stack import Stack
from tests.web import free_port, web_process

#: Seconds until a stopped server is told, three and what a busy machine adds; a browser alone notices later or never.
TOLD_WITHIN = 8
PICTURES = [{"name": f"im{i}.png", "mimeType": "image/png", "buffer": seven(56 + 4 * i)} for i in range(3)]


def upload_pictures(page: Page, *pictures: dict[str, Any]) -> None:
    page.set_input_files("#file", list(pictures))


def digits(page: Page) -> list[str]:
    return page.locator(".card:visible [data-part=digit]").all_text_contents()


def has_answers(page: Page, count: int) -> None:
    expect(page.locator(".card[data-state=succeeded]")).to_have_count(count)


# ---------------------------------------------------------------------- the first look


def test_the_first_load_is_small_quiet_and_steady(context: BrowserContext) -> None:
    page, troubles = context.new_page(), Troubles()
    troubles.watch(page)
    page.goto("/")
    expect(page.locator("#list-title")).to_have_text("Nothing here yet.")
    figures = page.evaluate(
        """() => new Promise((done) => {
          let shift = 0;
          new PerformanceObserver((list) => list.getEntries().forEach((one) => (shift += one.value)))
            .observe({ type: "layout-shift", buffered: true });
          const loads = [...performance.getEntriesByType("resource"), ...performance.getEntriesByType("navigation")];
          setTimeout(() => done({
            shift, bytes: loads.reduce((sum, one) => sum + one.encodedBodySize, 0), names: loads.map((one) => one.name),
            paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime,
          }), 300);
        })"""
    )
    print(f"first paint {figures['paint']:.0f} ms, {figures['bytes']} bytes")
    assert 20_000 < figures["bytes"] <= 60_000
    assert figures["shift"] < 0.02
    assert all(name.startswith(page.url) for name in figures["names"])
    assert troubles == []


def test_the_policy_forbids_everything_inline_and_foreign(served: Stack) -> None:
    policy = httpx2.get(served.url).headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_colours_of_the_system(scheme: Any, page: Page) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    bright = "(at) => getComputedStyle(document.querySelector(at)).{}.match(/\\d+/g)[0] > 128"
    assert page.evaluate(bright.format("backgroundColor"), "body") is (scheme == "light")
    assert page.evaluate(bright.format("color"), "#pad-canvas") is (scheme == "dark")


# ---------------------------------------------------------------------- pictures come in


def test_pictures_become_cards_and_survive_a_reload(page: Page) -> None:
    upload_pictures(page, *PICTURES)
    expect(page.locator(".card")).to_have_count(3)
    has_answers(page, 3)
    assert digits(page) == ["7", "7", "7"]
    assert page.locator(".card [data-part=name]").all_text_contents() == ["im0.png", "im1.png", "im2.png"]
    first = page.locator(".card").first
    expect(first.locator("[data-part=bars] > span")).to_have_count(10)
    expect(first.locator("[data-part=bars] .best")).to_have_text("7")
    sentence = re.compile(r"^7, accepted: 7, [\d.]+ %; next \d, [\d.]+ %\.$")
    expect(first.locator("[data-part=row]")).to_have_attribute("aria-label", sentence)
    assert first.locator("[data-part=seen]").evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 28
    first.locator("summary").click()
    for stage in ("in the queue", "preparing", "reading", "storing", "in all"):
        expect(first.locator("dl")).to_contain_text(stage)
    page.reload()
    has_answers(page, 3)
    assert page.locator(".card").first.locator("[data-part=picture]").get_attribute("src").startswith("/v1/")


def test_pictures_can_be_dropped_and_pasted(page: Page) -> None:
    for kind, field in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        page.evaluate(
            """([kind, field, bytes]) => {
              const data = new DataTransfer();
              data.items.add(new File([new Uint8Array(bytes)], "image.png", { type: "image/png" }));
              const Kind = kind === "drop" ? DragEvent : ClipboardEvent;
              document.body.dispatchEvent(new Kind(kind, { [field]: data, bubbles: true, cancelable: true }));
            }""",
            [kind, field, list(seven(56))],
        )
    has_answers(page, 2)
    assert sorted(page.locator(".card [data-part=name]").all_text_contents()) == ["image.png", "pasted.png"]
    assert digits(page) == ["7", "7"]


def drop_paths(page: Page, *paths: Path) -> None:
    """As a file manager drops files and folders."""
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": data})
    session.detach()


def test_of_a_dropped_folder_the_pictures_are_taken_and_the_rest_is_told(page: Page, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    (scans / "deep" / "er").mkdir(parents=True)
    for name in ("10.png", "9.PNG", "deep/er/3.png"):
        (scans / name).write_bytes(seven(56))
    for name in ("notes.txt", ".DS_Store", "deep/Thumbs.db", "._9.png"):
        (scans / name).write_bytes(b"x")
    (tmp_path / "alone.png").write_bytes(seven(60))
    drop_paths(page, scans, tmp_path / "alone.png")
    has_answers(page, 4)
    names = page.locator(".card [data-part=name]").all_text_contents()
    assert names == ["alone.png", "9.PNG", "10.png", "3.png"]
    expect(page.locator("#banner")).to_have_text("4 files skipped: not pictures.")


def test_what_is_told_of_a_drop_is_not_hidden_by_what_holds_anyway(
    chrome: Browser, redis_url: str, tmp_path: Path
) -> None:
    page, port = chrome.new_page(), free_port()
    (tmp_path / "empty").mkdir()
    with web_process(redis_url, port):
        page.goto(f"http://127.0.0.1:{port}/")
        expect(page.locator("#banner")).to_contain_text("No worker is running")
        drop_paths(page, tmp_path / "empty")
        expect(page.locator("#banner")).to_contain_text("There are no pictures")
    page.close()


def test_a_folder_without_pictures_is_told_and_of_many_a_part_is_taken(page: Page, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    drop_paths(page, tmp_path / "empty")
    expect(page.locator("#banner")).to_have_text("There are no pictures in what you dropped.")
    assert page.locator(".card").count() == 0
    taken = page.evaluate(
        """async () => {
          const { MOST, picturesIn } = await import("/static/later/dropped.js");
          const entry = (n) => ({ isFile: true, name: `${n}.png`, file: (done) => done(new File([], `${n}.png`)) });
          const reader = (pieces) => ({ readEntries: (done) => done(pieces.shift() ?? []) });
          const full = [...Array(MOST + 1).keys()].map(entry), endless = { isDirectory: true, name: "loop" };
          endless.createReader = () => reader([[endless]]);
          const locked = { isDirectory: true, createReader: () => ({ readEntries: (_, fail) => fail(new Error()) }) };
          const gone = { isFile: true, name: "gone.png", file: (_, fail) => fail(new Error()) };
          const many = { isDirectory: true, createReader: () => reader([full.slice(0, 100), full.slice(100)]) };
          return Promise.all([many, endless, locked, gone].map(async (one) => {
            const { files, unread, more } = await picturesIn([one]);
            return [files.length, unread, more];
          }));
        }"""
    )
    assert taken == [[500, 0, True], [0, 0, True], [0, 1, False], [0, 1, False]]


def test_what_cannot_be_opened_is_told_at_once_and_not_tried_again(page: Page, tmp_path: Path) -> None:
    tries: list[str] = []
    page.on("request", lambda request: tries.append(request.url) if "filename=" in request.url else None)
    file = tmp_path / "gone.png"
    file.write_bytes(seven(56))
    page.route("**/v1/predictions?*filename=*", lambda route: (file.unlink(), route.continue_()))  # type: ignore[func-returns-value]
    page.set_input_files("#file", file)
    card = page.locator(".card")
    expect(card).to_have_attribute("data-state", "failed")
    expect(card).to_contain_text("cannot be opened")
    expect(card.locator("[data-part=again]")).to_be_hidden()
    assert len(tries) == 1


def test_every_digit_can_be_drawn(page: Page) -> None:
    read = []
    for digit, strokes in enumerate(STROKES):
        draw(page, strokes)
        with suppress(AssertionError):  # of ten drawn with a mouse, one may be read otherwise
            expect(page.locator("#pad-digit")).to_have_text(str(digit), timeout=5_000)
        read.append(page.locator("#pad-digit").text_content())
        page.locator("#pad-clear").click()
    took = page.evaluate("performance.getEntriesByName('draw-to-answer').map((one) => one.duration)")
    print(f"drawn {read}, draw to answer median {statistics.median(took):.0f} ms of {len(took)}")
    assert sum(text == str(digit) for digit, text in enumerate(read)) >= 9
    assert statistics.median(took) < 2000


def test_a_drawing_can_be_undone_and_kept(page: Page) -> None:
    draw(page, STROKES[4])
    expect(page.locator("#pad-digit")).to_have_text("4")
    page.locator("#pad-undo").click()
    page.locator("#pad-undo").click()
    expect(page.locator("#pad-digit")).to_have_text("")
    expect(page.locator("#pad-undo")).to_be_disabled()
    draw(page, STROKES[7])
    expect(page.locator("#pad-digit")).to_have_text("7")
    page.locator("#pad-canvas").press("Enter")
    has_answers(page, 1)
    assert digits(page) == ["7"]
    expect(page.locator("#pad-digit")).to_have_text("")
    page.wait_for_timeout(300)
    page.reload()  # unfinished drawings have left no trace
    has_answers(page, 1)


# ---------------------------------------------------------------------- with the answers


def test_answers_are_corrected_filtered_exported_and_deleted(page: Page) -> None:
    upload_pictures(page, *PICTURES)
    has_answers(page, 3)
    card = page.locator(".card")
    card.filter(has_text="im0.png").locator("select").select_option("1")
    card.filter(has_text="im1.png").locator("select").select_option("none")
    page.locator("#list-digit").select_option("1")  # as what it was read, not as what it was corrected
    expect(page.locator(".card:visible")).to_have_count(0)
    page.locator("#list-digit").select_option("")
    page.locator("#list-decision").select_option("corrected")
    expect(page.locator(".card:visible")).to_have_count(2)
    page.reload()
    has_answers(page, 3)
    expect(card.filter(has_text="im0.png").locator("select")).to_have_value("1")
    with page.expect_download() as download:
        page.locator("#export").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.testzip() is None and archive.read("index.csv").startswith("\ufeff".encode())
        [row] = csv.DictReader(io.TextIOWrapper(archive.open("index.csv"), "utf-8-sig"))
        assert (row["label"], row["read"], row["filename"]) == ("1", "7", "im0.png")
        assert archive.read(row["path"]) == PICTURES[0]["buffer"]
        assert "im1.png" in archive.read("not_digits.csv").decode()
    page.locator(".card").first.locator("[data-part=remove]").click()
    expect(page.locator(".card")).to_have_count(2)
    expect(page.locator("#undo")).to_be_hidden()
    page.reload()
    has_answers(page, 2)


def test_earlier_pictures_come_when_asked_for_and_the_keyboard_goes_on_there(page: Page, served: Stack) -> None:
    with httpx2.Client(base_url=served.url) as http:
        for n in range(30):
            http.post(f"/v1/predictions?filename={n}.png", content=seven(56)).raise_for_status()
    page.reload()
    has_answers(page, 24)
    page.locator("#list-older").press("Enter")
    has_answers(page, 30)
    expect(page.locator(".card").nth(24)).to_be_focused()
    page.locator("#list-digit").select_option("4")
    expect(page.locator("#list-count")).to_have_text("(0 of 30)")


def test_a_queued_picture_shows_its_queue_position(page: Page, served: Stack) -> None:
    [worker] = served.pids("digitq worker")
    os.kill(worker, signal.SIGSTOP)
    try:
        upload_pictures(page, *PICTURES)
        # They are sent side by side, so which of them came first is not told by where it stands.
        expect(page.locator(".card", has_text="In the queue, 2 pictures ahead")).to_have_count(1)
        expect(page.locator(".card", has_text="In the queue, next in line")).to_have_count(1)
        expect(page.locator("#live-queued")).to_contain_text("3")
    finally:
        os.kill(worker, signal.SIGCONT)
    has_answers(page, 3)


def test_what_cannot_be_read_is_said_in_plain_words(page: Page) -> None:
    upload_pictures(page, {"name": "notes.png", "mimeType": "image/png", "buffer": b"hello"})
    expect(page.locator(".card[data-state=failed]").first).to_contain_text(
        "This is text, which is not supported: send an image"
    )
    cut = {"name": "cut.png", "mimeType": "image/png", "buffer": seven(200)[:-60]}
    upload_pictures(page, cut)
    expect(page.locator(".card[data-state=failed]").first).to_contain_text("damaged or cut off")
    page.locator("#list-decision").select_option("failed")
    expect(page.locator(".card:visible")).to_have_count(2)
    # A card stays until the server has deleted it: a click before that would hit the same one again.
    for left in (1, 0):
        page.locator("[data-part=remove]").first.click()
        expect(page.locator(".card")).to_have_count(left)


# ---------------------------------------------------------------------- trouble


def test_redis_gone_is_told_and_nothing_is_lost(page: Page, served: Stack) -> None:
    [server] = served.pids("redis.sock")
    os.kill(server, signal.SIGSTOP)
    try:
        upload_pictures(page, PICTURES[0])
        expect(page.locator(".card[data-state=retrying]")).to_contain_text(re.compile(r"Redis .*\. Trying again in"))
        expect(page.locator("#banner")).to_contain_text("temporarily unavailable: Redis")
    finally:
        os.kill(server, signal.SIGKILL)  # `digitq up` starts it again
    has_answers(page, 1)
    assert digits(page) == ["7"]
    expect(page.locator("#banner")).to_have_text("")
    expect(page.locator("#live-dot")).to_have_attribute("data-state", "good")


def test_a_service_that_loads_its_data_says_so(chrome: Browser) -> None:
    page, port = chrome.new_page(), free_port()
    with loading_server() as loading, web_process(loading, port):
        start(page, f"http://127.0.0.1:{port}/", state="bad")
        expect(page.locator("#banner")).to_contain_text("The service is loading its data after a start.")
        expect(page.locator("#list-text")).to_contain_text("The service is loading its data after a start.")
        expect(page.locator("#list-title")).to_have_text("The pictures cannot be shown.")
    page.close()


def test_a_server_that_is_stopped_is_told_within_three_seconds_and_found_again(chrome: Browser, redis_url: str) -> None:
    port = free_port()
    page = chrome.new_page()
    dot, banner = page.locator("#live-dot"), page.locator("#banner")
    with web_process(redis_url, port):
        start(page, f"http://127.0.0.1:{port}/", state="warn")  # no worker
    stopped = time.monotonic()
    expect(banner).to_contain_text("The server does not answer")
    assert time.monotonic() - stopped < TOLD_WITHIN
    expect(dot).to_have_attribute("data-state", "bad")
    with web_process(redis_url, port):
        expect(banner).not_to_contain_text("The server does not answer")
        expect(dot).to_have_attribute("data-state", "warn")
    page.close()


def test_a_server_that_falls_silent_is_told_and_found_again(chrome: Browser, redis_url: str) -> None:
    port = free_port()
    page = chrome.new_page()
    with web_process(redis_url, port) as process:
        start(page, f"http://127.0.0.1:{port}/", state="warn")
        os.killpg(process.pid, signal.SIGSTOP)  # its connections stay open
        stopped = time.monotonic()
        expect(page.locator("#banner")).to_contain_text("The server does not answer")
        assert time.monotonic() - stopped < TOLD_WITHIN
        os.killpg(process.pid, signal.SIGCONT)
        expect(page.locator("#banner")).not_to_contain_text("The server does not answer")
        expect(page.locator("#live-dot")).to_have_attribute("data-state", "warn")
    page.close()


def test_offline_is_shown_and_pictures_are_uploaded_later(page: Page, context: BrowserContext) -> None:
    context.set_offline(True)
    expect(page.locator("#banner")).to_contain_text("offline")
    expect(page.locator("#live-dot")).to_have_attribute("data-state", "bad")
    upload_pictures(page, PICTURES[0])
    expect(page.locator(".card[data-state=retrying]")).to_contain_text("offline")
    context.set_offline(False)
    has_answers(page, 1)
    expect(page.locator("#banner")).to_have_text("")


def test_a_refused_and_a_lost_answer_are_asked_for_again_under_the_same_key(page: Page, served: Stack) -> None:
    keys: list[str] = []

    def trouble(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            body = '{"title": "The queue is full", "status": 503, "code": "queue_full"}'
            headers = {"Retry-After": "1", "Content-Type": "application/problem+json"}
            return route.fulfill(status=503, body=body, headers=headers)
        if len(keys) == 2:
            route.fetch()  # it arrives, and its answer does not
            return route.abort()
        return route.continue_()

    page.route("**/v1/predictions?*filename=*", trouble)
    upload_pictures(page, PICTURES[0])
    expect(page.locator(".card")).to_contain_text("The queue is full. Trying again in")
    has_answers(page, 1)
    assert len(keys) == 3 and len(set(keys)) == 1
    assert len(httpx2.get(f"{served.url}/v1/predictions").json()["predictions"]) == 1


def test_a_model_that_comes_into_service_is_named_and_its_thresholds_are_asked_for(
    context: BrowserContext,
) -> None:
    def status(**models: int) -> str:
        workers = {"alive": 2, "busy": 0, "needed": 1, "models": models, "refusing": len(models) - 1}
        return (
            f"event: status\ndata: {json.dumps({'redis': True, 'queued': 0, 'workers': workers, 'per_second': 0})}\n\n"
        )

    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url) if request.url.endswith("/v1/model") else None)
    page, stream = context.new_page(), [status(old=2)]
    page.route(
        "**/v1/events", lambda route: route.fulfill(content_type="text/event-stream", body=f"retry: 200\n\n{stream[0]}")
    )
    page.goto("/")
    workers = page.locator("#live-workers")
    expect(workers).to_have_attribute("title", "Model old")
    assert len(asked) == 1
    stream[0] = status(new=1, old=1)
    expect(workers).to_have_attribute("title", "Model new (1 worker), old (1 worker); a newer one is refused")
    until(lambda: page.wait_for_timeout(20) or len(asked) == 2, PATIENCE / 1000)


# ---------------------------------------------------------------------- for everybody


def test_a_page_opened_before_any_worker_runs_has_no_error_in_its_console(
    chrome: Browser, redis_url: str, client: redis.Redis
) -> None:
    port, troubles = free_port(), Troubles()
    with web_process(redis_url, port), chrome.new_page() as page:
        troubles.watch(page)
        start(page, f"http://127.0.0.1:{port}", "warn")
        expect(page.locator("#banner")).to_have_text("No worker is running. Pictures stay queued until one starts.")
        expect(page.locator("#list-title")).to_have_text("Nothing here yet.")
        assert troubles == []


def test_a_card_says_which_confidence_is_needed_also_if_the_page_learns_it_later(page: Page) -> None:
    held: list[Route] = []
    page.route("**/v1/model", lambda route: held.append(route))
    page.route("**/v1/predictions?limit=*", lambda route: route.fulfill(json=doubtful()))
    with page.expect_request("**/v1/model"):  # once the server has told of a worker
        page.goto("/")
    expect(page.locator(".why")).to_have_text("It is unusual: compare it with the picture.")
    held[0].fulfill(json={"thresholds": {"accept": 0.988}})
    expect(page.locator(".why")).to_have_text("Just below the 98.8 % needed.")


def doubtful() -> dict[str, Any]:
    """A history with one digit that is just not accepted."""
    one = prediction_of("doubtful", "7.png", PageReading()) | {
        "digit": 7, "confidence": 0.985, "probabilities": [0.0] * 7 + [0.985, 0, 0.015], "decision": "review",
        "reason": "low_confidence", "numbers": None,
    }  # fmt: skip
    return {"predictions": [one], "next_cursor": None, "total": 1, "matching": 1}


def test_two_tabs_show_the_same(page: Page, context: BrowserContext) -> None:
    other = context.new_page()
    other.goto("/")
    upload_pictures(page, PICTURES[0])
    has_answers(page, 1)
    has_answers(other, 1)
    other.locator(".card select").select_option("3")
    expect(page.locator(".card select")).to_have_value("3")
    other.locator("[data-part=remove]").click()
    expect(page.locator(".card")).to_have_count(0)
    other.close()


def test_pictures_of_other_clients_are_offered(page: Page, served: Stack) -> None:
    httpx2.post(f"{served.url}/v1/predictions?filename=script.png", content=seven(56), headers={"Prefer": "wait=10"})
    expect(page.locator("#list-newer")).to_have_text("Show 1 new picture")
    assert page.locator(".card").count() == 0
    page.locator("#list-newer").click()
    has_answers(page, 1)
    expect(page.locator("#list-newer")).to_be_hidden()


def test_a_small_phone_never_scrolls_sideways_and_shows_the_picture_that_was_chosen(
    chrome: Browser, page: Page
) -> None:
    upload_pictures(page, *PICTURES, {"name": "w" * 80 + ".png", "mimeType": "image/png", "buffer": b"no"})
    has_answers(page, 3)
    phone = chrome.new_page(viewport={"width": 320, "height": 640}, has_touch=True, is_mobile=True)
    phone.goto(page.url)
    has_answers(phone, 3)
    draw(phone, STROKES[4])
    expect(phone.locator("#pad-digit")).to_have_text("4")
    feet = phone.locator(".card[data-state=succeeded] .foot").all()
    assert all(on_one_line(foot.locator("summary"), foot.locator("[data-part=remove]")) for foot in feet)
    phone.locator("summary").first.click()
    assert phone.evaluate("document.documentElement.scrollWidth") == 320
    phone.evaluate("scrollTo(0, 0)")
    expect(phone.locator("label[for=camera]")).to_be_in_viewport()
    expect(phone.locator(".card").first).not_to_be_in_viewport()
    upload_pictures(phone, PICTURES[0])
    has_answers(phone, 4)
    expect(phone.locator(".card").first).to_be_in_viewport()
    phone.close()


def on_one_line(one: Locator, other: Locator) -> bool:
    first, second = one.bounding_box(), other.bounding_box()
    assert first and second
    return first["y"] < second["y"] + second["height"] and second["y"] < first["y"] + first["height"]


def test_what_a_proxy_refuses_is_told_in_words(page: Page) -> None:
    page.route("**/v1/predictions?*", lambda route: route.fulfill(status=413, content_type="text/html", body="<html>"))
    upload_pictures(page, PICTURES[0])
    state = page.locator(".card [data-part=state]")
    expect(state).to_have_text("The file is too large for the proxy in front of the server.")
    expect(page.get_by_role("button", name="Try again")).to_be_hidden()


def test_what_a_card_says_stays_within_it(page: Page) -> None:
    upload_pictures(page, PICTURES[0])
    has_answers(page, 1)
    page.locator(".sure").evaluate("(sure) => (sure.textContent = '99.9 % sure')")
    over = """() => {
      const range = document.createRange();
      range.selectNodeContents(document.querySelector(".card .sure"));
      return range.getBoundingClientRect().right - document.querySelector(".card .bars").getBoundingClientRect().right;
    }"""
    for width in (320, 760, 1100, 1440):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(over) <= 4, width


def test_the_keyboard_is_enough(page: Page) -> None:
    def tab_to(what: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("(what) => document.activeElement.matches(what)", what):
                return
        pytest.fail(f"the keyboard does not reach {what}")

    page.on("filechooser", lambda _: None)  # heard from here on: asked for with the key, it may come after it
    tab_to("#file")
    outline = "getComputedStyle(document.querySelector('label[for=file]')).outlineStyle"
    assert page.evaluate(outline) == "solid"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(PICTURES[:2])  # type: ignore[arg-type]
    has_answers(page, 2)
    expect(page.locator("#say")).to_contain_text("im0.png: 7")
    tab_to(".card select")
    page.keyboard.press("1")
    expect(page.locator(".card select").first).to_have_value("1")
    tab_to(".card [data-part=remove]")
    page.keyboard.press("Enter")
    expect(page.locator(".card")).to_have_count(1)
    assert page.evaluate("document.activeElement.matches('.card [data-part=remove]')")
    page.keyboard.press("Enter")
    expect(page.locator(".card")).to_have_count(0)
    assert page.evaluate("document.activeElement.id") == "file"


def test_everything_has_a_name(page: Page) -> None:
    upload_pictures(page, PICTURES[0])
    has_answers(page, 1)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, a, input, select, canvas, img, ol, section")]
          .filter((one) => one.checkVisibility())
          .filter((one) => !(one.labels?.length || one.textContent.trim() || one.ariaLabel || one.hasAttribute("alt")
            || one.getAttribute("aria-labelledby")))
          .map((one) => one.outerHTML)"""
    )
    assert nameless == []


def test_without_javascript_the_form_is_enough(chrome: Browser, served: Stack) -> None:
    with chrome.new_context(base_url=served.url, java_script_enabled=False) as context:
        plain = context.new_page()
        plain.goto("/")
        expect(plain.locator("#pad-canvas")).to_be_hidden()
        plain.set_input_files("#file", PICTURES[:1])  # type: ignore[arg-type]
        plain.get_by_role("button", name="Upload").click()
        expect(plain.get_by_role("heading", level=1)).to_have_text("The prediction is 7")
