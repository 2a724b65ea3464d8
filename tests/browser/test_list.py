"""The list of pictures: what the server counts and filters, what is said where there is none, and deletions."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.browser.answers import has_no_barrier
from tests.browser.conftest import start
from tests.browser.test_page import PICTURES, has_answers, upload_pictures
from tests.pictures import seven
from tests.stack import Stack
from tests.waits import until


def plant(served: Stack, count: int) -> None:
    """Pictures of another client, read to the last one."""
    with httpx2.Client(base_url=served.url, timeout=60) as http:
        for n in range(count):
            http.post(f"/v1/predictions?filename={n}.png", content=seven(56), headers={"Prefer": "wait=30"})


def on_server(served: Stack) -> int:
    return int(httpx2.get(f"{served.url}/v1/predictions?limit=1").json()["total"])


def title(page: Page) -> Any:
    return expect(page.locator("#list-title"))


# ---------------------------------------------------------------------- numbers and filters


def test_numbers_and_filters_are_the_servers(page: Page, served: Stack) -> None:
    plant(served, 30)
    page.reload()
    has_answers(page, 24)
    expect(page.locator("#list-count")).to_have_text("(30)")
    page.locator("#list-digit").select_option("7")
    expect(page.locator("#list-count")).to_have_text("(30 of 30)")
    page.locator("#list-older").click()
    has_answers(page, 30)
    page.locator("#list-decision").select_option("review")
    title(page).to_have_text("No picture matches the filter.")
    expect(page.locator("#list-count")).to_have_text("(0 of 30)")
    page.locator("#list-reset").click()
    has_answers(page, 24)


def test_a_count_that_arrives_after_another_filter_was_chosen_is_not_shown(page: Page) -> None:
    held: list[Route] = []
    page.route("**/v1/predictions?limit=1", lambda route: held.append(route))
    with page.expect_request("**/v1/predictions?limit=1"):
        upload_pictures(page, PICTURES[0])
    has_answers(page, 1)
    page.locator("#list-digit").select_option("4")
    expect(page.locator("#list-count")).to_have_text("(0 of 1)")
    for route in held:
        route.fulfill(json={"predictions": [], "next_cursor": None, "total": 9, "matching": 9})
    page.evaluate("fetch('/healthz').then((answer) => answer.text())")  # the page has heard the count by then
    expect(page.locator("#list-count")).to_have_text("(0 of 1)")


def test_an_upload_is_seen_whatever_was_filtered(page: Page) -> None:
    page.locator("#list-digit").select_option("4")
    title(page).to_have_text("No picture matches the filter.")
    upload_pictures(page, PICTURES[0])
    has_answers(page, 1)
    expect(page.locator("#list-digit")).to_have_value("")


def test_empty_loading_and_failed_say_which_they_are(page: Page) -> None:
    title(page).to_have_text("Nothing here yet.")
    body = '{"title": "Redis is unavailable", "status": 503, "code": "redis_unavailable", "detail": "Redis is away"}'
    held: list[Route] = []

    def first_held(route: Route) -> None:
        if held:
            return route.fulfill(status=503, body=body)
        return held.append(route)

    page.route("**/v1/predictions?limit=24&*", first_held)  # the list, not its count
    page.locator("#list-digit").select_option("4")
    title(page).to_have_text("Loading…")
    held[0].fulfill(status=503, body=body)
    title(page).to_have_text("The pictures cannot be shown.")
    said = r"^The service is temporarily unavailable: Redis is away\. Trying again in \d+\u00a0s…$"
    expect(page.locator("#list-text")).to_have_text(re.compile(said))
    page.unroute("**/v1/predictions?limit=24&*")
    title(page).to_have_text("No picture matches the filter.")


def test_own_uploads_are_no_news_also_if_they_are_read_before_their_answer_comes(page: Page) -> None:
    def late(route: Route) -> None:
        response = route.fetch()
        page.wait_for_timeout(2500)  # it is read, and told to all who listen
        route.fulfill(response=response)

    page.route("**/v1/predictions?*filename=*", late)
    upload_pictures(page, PICTURES[0])
    for _ in range(6):
        page.wait_for_timeout(500)
        expect(page.locator("#list-newer")).to_be_hidden()
    has_answers(page, 1)


def test_news_do_not_move_the_cards(page: Page, served: Stack) -> None:
    upload_pictures(page, PICTURES[0])
    has_answers(page, 1)
    before = page.locator(".card").bounding_box()
    plant(served, 1)
    expect(page.locator("#list-newer")).to_be_visible()
    assert page.locator(".card").bounding_box() == before


# ---------------------------------------------------------------------- deletions


def test_a_deletion_is_undone_with_its_correction(page: Page, served: Stack) -> None:
    upload_pictures(page, *PICTURES)
    has_answers(page, 3)
    page.locator(".card select").nth(1).select_option("1")
    for undo in (lambda: page.locator("#undo-button").click(), lambda: page.keyboard.press("Control+z")):
        page.locator("[data-part=remove]").nth(1).click()
        expect(page.locator(".card")).to_have_count(2)
        expect(page.locator("#list-count")).to_have_text("(2)")
        expect(page.locator("#undo-text")).to_have_text("im1.png deleted.")
        undo()
        expect(page.locator(".card")).to_have_count(3)
        expect(page.locator(".card").nth(1)).to_be_focused()
    expect(page.locator(".card select").nth(1)).to_have_value("1")
    expect(page.locator("#undo")).to_be_hidden()
    assert on_server(served) == 3


def test_a_deletion_is_carried_out_after_a_while_or_when_the_page_is_left(page: Page, served: Stack) -> None:
    upload_pictures(page, *PICTURES)
    has_answers(page, 3)
    page.locator("[data-part=remove]").first.click()
    expect(page.locator("#undo")).to_be_hidden()
    expect(page.locator("#list-count")).to_have_text("(2)")
    assert on_server(served) == 2
    page.locator("[data-part=remove]").first.click()
    page.goto("/docs")
    until(lambda: on_server(served) == 1, 20)


def test_a_picture_that_cannot_be_deleted_comes_back(page: Page) -> None:
    upload_pictures(page, PICTURES[0])
    has_answers(page, 1)
    body = '{"title": "It is running", "status": 409, "code": "still_running"}'
    page.route("**/v1/predictions/*", lambda route: route.fulfill(status=409, body=body))
    page.locator("[data-part=remove]").click()
    expect(page.locator(".card")).to_have_count(0)
    expect(page.locator("#banner")).to_contain_text("im0.png was not deleted. A worker is reading it right now")
    expect(page.locator(".card")).to_have_count(1)


def test_all_are_deleted_also_those_that_are_not_loaded(page: Page, served: Stack) -> None:
    plant(served, 30)
    page.reload()
    has_answers(page, 24)
    page.locator("#list-wipe").click()
    expect(page.locator("#wipe-title")).to_have_text("Delete all 30 pictures?")
    page.get_by_role("button", name="Delete 30 pictures").click()
    expect(page.locator("#undo-text")).to_have_text("30 pictures deleted.")
    page.locator("#undo-button").click()
    expect(page.locator(".card")).to_have_count(24)
    page.locator("#list-wipe").click()
    page.get_by_role("button", name="Delete 30 pictures").click()
    expect(page.locator("#undo")).to_be_hidden()
    title(page).to_have_text("Nothing here yet.")
    expect(page.locator("#list-count")).to_have_text("(0)")
    assert on_server(served) == 0


# ---------------------------------------------------------------------- many at once

BARE = """async (pictures) => {
  const ids = new Set(), read = new Set(), events = new EventSource("/v1/events");
  events.addEventListener("prediction", ({ data }) => read.add(JSON.parse(data).id));
  await new Promise((opened) => (events.onopen = opened));
  const bodies = pictures.map((bytes) => new Blob([new Uint8Array(bytes)], { type: "image/png" }));
  const began = performance.now();
  await Promise.all(bodies.map(async (body, at) => {
    const response = await fetch(`/v1/predictions?filename=bare${at}.png&read=numbers`, { method: "POST", body });
    ids.add((await response.json()).id);
  }));
  const heard = (resolve) => events.addEventListener("prediction", resolve, { once: true });
  while ([...ids].some((id) => !read.has(id))) await new Promise(heard);
  events.close();
  return performance.now() - began;
}"""
#: The page counts as quiet after eight times as long: on a busy machine nothing may come for half a second.
QUIET_LATER = """() => {
  const later = window.setTimeout;
  window.setTimeout = (call, ms, ...rest) => later(call, ms === 500 ? 4000 : ms, ...rest);
}"""
THROUGH_THE_PAGE = """(pictures) => new Promise((done) => {
  const [input, progress] = ["file", "progress-text"].map((id) => document.getElementById(id));
  const files = new DataTransfer();
  const file = (bytes, at) => new File([new Uint8Array(bytes)], `${at}.png`, { type: "image/png" });
  pictures.forEach((bytes, at) => files.items.add(file(bytes, at)));
  const began = performance.now(), drawn = () => document.querySelectorAll(".card[data-state=succeeded]").length;
  const answered = (card) => card.getBoundingClientRect().top > innerHeight || card.dataset.state === "succeeded";
  input.files = files.files;
  input.dispatchEvent(new Event("change"));
  const look = setInterval(() => {
    if (!progress.textContent.includes(" read.")) return;
    if (![...document.getElementById("list-cards").children].every(answered)) return;
    clearInterval(look);
    done([performance.now() - began, drawn()]);
  }, 20);
})"""


def test_three_hundred_pictures_have_one_progress_and_take_hardly_longer_than_their_requests(page: Page) -> None:
    """Both until the last is read. The bound is for a busy machine, the ratio that is printed for a quiet one."""
    pictures = [list(seven(28 + n % 100) + n.to_bytes(2, "big")) for n in range(300)]
    page.set_default_timeout(120_000)
    bare = page.evaluate(BARE, pictures)
    page.reload()
    expect(page.locator("#list-count")).to_have_text("(300)")
    page.evaluate("document.getElementById('list-cards').replaceChildren()")
    page.evaluate(QUIET_LATER)
    through, drawn = page.evaluate(THROUGH_THE_PAGE, pictures)
    expect(page.locator("#progress-text")).to_have_text("300 pictures read.")
    expect(page.locator("#say")).to_contain_text("pictures have been read")
    print(f"300 pictures: bare {bare:.0f} ms, page {through:.0f} ms, {through / bare:.2f} times")
    assert through < 2 * bare + 2000
    assert drawn < 150, "cards out of sight are drawn before the last picture is read"
    expect(page.locator(".card[data-state=succeeded]")).to_have_count(300)


def test_uploads_let_pass_what_the_page_asks_for_meanwhile(page: Page) -> None:
    """Many of them wait for a connection in the browser, which takes requests of equal priority one after the other."""
    page.evaluate(
        """() => {
          const send = window.fetch;
          window.asked = [];
          window.fetch = (path, options = {}) => {
            window.asked.push([options.method ?? "GET", options.priority ?? "auto"]);
            return send(path, options);
          };
        }"""
    )
    upload_pictures(page, *PICTURES)
    has_answers(page, 3)
    expect(page.locator("#list-count")).to_have_text("(3)")
    asked = page.evaluate("window.asked")
    assert {priority for method, priority in asked if method == "POST"} == {"low"}
    assert {priority for method, priority in asked if method == "GET"} == {"auto"}


def test_another_tab_shows_many_uploads_as_they_arrived(page: Page, context: BrowserContext, served: Stack) -> None:
    other = context.new_page()
    start(other)
    names = [f"{n}.png" for n in range(8)]
    upload_pictures(page, *({**PICTURES[0], "name": name} for name in names))
    for tab in (page, other):
        has_answers(tab, 8)
        expect(tab.locator("#list-newer")).to_be_hidden()
    expect(page.locator("[data-part=name]")).to_have_text(names)
    # Several are uploaded at once: two may arrive in either order.
    arrived = [one["filename"] for one in httpx2.get(f"{served.url}/v1/predictions?limit=8").json()["predictions"]]
    assert sorted(arrived) == names
    expect(other.locator("[data-part=name]")).to_have_text(arrived)
    other.close()


# ---------------------------------------------------------------------- for everybody


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (320, "dark")])
def test_no_state_has_a_barrier(width: int, scheme: Any, page: Page) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": width, "height": 800})
    title(page).to_have_text("Nothing here yet.")
    has_no_barrier(page)
    upload_pictures(page, *PICTURES, {"name": "notes.png", "mimeType": "image/png", "buffer": b"hello"})
    has_answers(page, 3)
    has_no_barrier(page)
    page.locator("#list-digit").select_option("4")
    title(page).to_have_text("No picture matches the filter.")
    has_no_barrier(page)
    page.locator("#list-reset").click()
    has_answers(page, 3)
    page.locator("#list-wipe").click()
    expect(page.locator("#wipe-title")).to_be_visible()
    has_no_barrier(page)
    page.keyboard.press("Escape")
    page.locator("[data-part=remove]").first.click()
    expect(page.locator("#undo")).to_be_visible()
    has_no_barrier(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_what_is_shared_is_said_and_the_documentation_is_linked(page: Page) -> None:
    expect(page.locator("#shared")).to_have_text(
        "Everybody who can open this page sees these pictures, and can delete them. They are kept for 1 day."
    )
    page.get_by_role("link", name="API documentation").click()
    expect(page.locator("h1")).to_contain_text("The API of digitq")


def test_the_page_of_a_prediction_corrects_and_deletes_it(page: Page, served: Stack) -> None:
    upload_pictures(page, PICTURES[0])
    has_answers(page, 1)
    page.locator("[data-part=name]").click()
    page.get_by_label("Correct answer:").select_option("none")
    has_no_barrier(page)
    page.get_by_role("link", name="All pictures").click()
    expect(page.locator(".card select")).to_have_value("none")
    page.locator("[data-part=name]").click()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete").click()
    title(page).to_have_text("Nothing here yet.")
    assert on_server(served) == 0
    expect(page.locator("#export")).to_be_disabled()
