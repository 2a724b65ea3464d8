"""Modules of the page alone: in a browser, but without a server."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

import producer.web
from tests.chromium import Troubles

STATIC = Path(producer.web.__file__).parent / "static"
ORIGIN = "http://digitq.test"
#: What modules look for when they are imported.
PARTS = ("say", "banner", "undo", "undo-text", "undo-button", "progress", "progress-text")
BODY = "<!doctype html><progress id='progress-bar'></progress>" + "".join(f"<div id='{id}'></div>" for id in PARTS)
#: Asks with `insist` and returns how often, and the pauses that were told.
INSIST = """async () => {
  const { insist } = await import("/static/api.js"), told = [];
  setTimeout = ((later) => (done, ms, ...rest) => later(done, 0, ...rest))(setTimeout);
  let now = 0;
  performance.now = () => (now += 100);
  try {
    return { text: await (await insist("/asked", {}, (seconds) => told.push(seconds))).text(), told };
  } catch (problem) {
    return { code: problem.code, told };
  }
}"""


@pytest.fixture
def page(chrome: Browser) -> Iterator[Page]:
    """A page that may import the modules, and asks nobody."""
    with chrome.new_context(base_url=ORIGIN) as context:
        page, troubles = context.new_page(), Troubles()
        troubles.watch(page)
        page.route(f"{ORIGIN}/", lambda route: route.fulfill(content_type="text/html", body=BODY))
        page.route(f"{ORIGIN}/static/**", module)
        page.goto("/")
        yield page
        assert troubles.unexpected() == []


def module(route: Route) -> None:
    name = route.request.url.removeprefix(f"{ORIGIN}/static/")
    route.fulfill(content_type="text/javascript", body=(STATIC / name).read_text())


def answered(page: Page, *answers: dict[str, Any] | None) -> list[str]:
    """Let the server answer this, once each and the last for ever; None is no answer. Returns what it was asked."""
    left, asked = list(answers), list[str]()

    def answer(route: Route) -> None:
        asked.append(route.request.method)
        one = left.pop(0) if len(left) > 1 else left[0]
        route.fulfill(**one) if one else route.abort()

    page.route(f"{ORIGIN}/asked", answer)
    return asked


def problem(status: int, **headers: str) -> dict[str, Any]:
    return {"status": status, "headers": headers, "json": {"code": f"code_{status}", "title": "No", "status": status}}


# ---------------------------------------------------------------------- asking again


@pytest.mark.parametrize("first", [None, problem(429), problem(502), problem(503), problem(504)])
def test_what_may_pass_is_asked_for_again(page: Page, first: dict[str, Any] | None) -> None:
    asked = answered(page, first, first, {"body": "there"})
    assert page.evaluate(INSIST)["text"] == "there"
    assert len(asked) == 3


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422, 500])
def test_what_stays_is_asked_for_once(page: Page, status: int) -> None:
    asked = answered(page, problem(status))
    assert page.evaluate(INSIST) == {"code": f"code_{status}", "told": []}
    assert len(asked) == 1


def test_it_asks_again_after_pauses_that_grow_to_a_quarter_of_a_minute_and_gives_up_in_the_end(page: Page) -> None:
    asked = answered(page, problem(503))
    found = page.evaluate(INSIST)
    assert (found["code"], len(asked)) == ("code_503", 40)
    assert found["told"][0] == 1 and 8 <= max(found["told"]) <= 15


def test_a_pause_is_as_long_as_the_server_asks(page: Page) -> None:
    answered(page, problem(503, **{"Retry-After": "30"}), {"body": "there"})
    assert 30 <= page.evaluate(INSIST)["told"][0] <= 40


def test_an_answer_without_a_problem_is_told_in_words(page: Page) -> None:
    answered(page, {"status": 413, "body": "<h1>Too large</h1>"})
    words = page.evaluate("import('/static/api.js').then((api) => api.call('/asked')).catch((error) => error.message)")
    assert words == "The file is too large for the proxy in front of the server."


@pytest.mark.parametrize(("status", "fails"), [(204, False), (404, False), (410, False), (409, True), (503, True)])
def test_what_is_gone_already_is_deleted(page: Page, status: int, fails: bool) -> None:
    asked = answered(page, problem(status) if status >= 400 else {"status": status})
    deleted = "import('/static/api.js').then((api) => api.remove('/asked')).then(() => false, () => true)"
    assert page.evaluate(deleted) is fails
    assert asked == ["DELETE"]


def test_a_few_uploads_run_at_a_time_and_one_that_fails_makes_room(page: Page) -> None:
    most = page.evaluate(
        """async () => {
          const { UploadQueue } = await import("/static/api.js"), queue = new UploadQueue(3);
          let now = 0, most = 0, failed = 0;
          const task = (fails) => async () => {
            most = Math.max(most, ++now);
            await new Promise((done) => setTimeout(done, 1));
            now--;
            if (fails) throw new Error();
          };
          await Promise.all([...Array(20).keys()].map((n) => queue.run(task(n % 2)).catch(() => failed++)));
          await queue.run(task(false));
          return [most, failed];
        }"""
    )
    assert most == [3, 10]


def test_keys_of_uploads_are_long_and_differ(page: Page) -> None:
    keys = page.evaluate("import('/static/api.js').then((api) => [...Array(100)].map(() => api.newKey()))")
    assert len(set(keys)) == 100 and {len(key) for key in keys} == {32}


# ---------------------------------------------------------------------- what is exported


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"), ("+1", "'+1"), ("-1", "'-1"), ("@a", "'@a"), ("\t1", "'\t1"), ("a=1", "a=1"),
        ("\uff1d1", "'\uff1d1"),
        ('say "7"', '"say ""7"""'), ("a,b", '"a,b"'), ("a\nb", '"a\nb"'), ("a\rb", '"a\rb"'), (None, ""), (0, "0"),
    ],
)  # fmt: skip
def test_a_cell_of_csv_is_no_formula_and_quoted_where_it_must_be(page: Page, value: object, cell: str) -> None:
    text = page.evaluate("(value) => import('/static/later/csv.js').then(({ csv }) => csv([[value, 1]]))", value)
    assert text == f"\ufeff{cell},1\r\n"


def test_a_zip_of_the_page_is_one(page: Page) -> None:
    files = [["ä.txt", list(b"one")], ["pictures/7.png", list(range(256))]]
    data = page.evaluate(
        """async (files) => {
          const { zip } = await import("/static/later/zip.js");
          const bytes = files.map(([name, data]) => [name, Uint8Array.from(data)]);
          const blob = zip(bytes, new Date(2026, 10, 30, 22, 51, 8));
          return [...new Uint8Array(await blob.arrayBuffer())];
        }""",
        files,
    )
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as found:
        assert found.testzip() is None
        assert [(one.filename, list(found.read(one))) for one in found.filelist] == [tuple(file) for file in files]
        assert {one.date_time for one in found.filelist} == {(2026, 11, 30, 22, 51, 8)}


# ---------------------------------------------------------------------- drawing

PAD = """async () => {
  const one = (name) => document.body.appendChild(Object.assign(document.createElement(name), { textContent: "" }));
  const ui = { canvas: one("canvas"), width: Object.assign(one("input"), { value: 8 }), answer: one("div") };
  ui.canvas.style = "position: fixed; top: 0; left: 0; width: 200px; height: 200px";
  for (const name of ["undo", "clear", "keep"]) ui[name] = one("button");
  for (const name of ["bars", "digit", "text", "why"]) ui[name] = one("div");
  ui.digit.id = "digit";
  const { Pad } = await import("/static/pad.js");
  new Pad(ui, () => {});
}"""


class Reader:
    """Reads drawings when it is told to; the first is a 0, the next a 1, and so on."""

    def __init__(self, page: Page) -> None:
        self.held: list[Route] = []
        self.deleted: list[str] = []
        page.route("**/v1/predictions?*", lambda route: self.held.append(route))
        page.route("**/v1/predictions/*", self._delete)

    def _delete(self, route: Route) -> None:
        self.deleted.append(route.request.url.rpartition("/")[2])
        route.fulfill(status=204)

    def answer(self, digit: int) -> None:
        chances = [0.99 if digit == other else 0.001 for other in range(10)]
        facts = {"id": f"draft-{digit}", "state": "succeeded", "decision": "accept", "reason": None, "warnings": []}
        self.held[digit].fulfill(
            json={**facts, "digit": digit, "confidence": 0.99, "probabilities": chances, "numbers": None}
        )


def stroke(page: Page, at: int) -> None:
    page.mouse.move(20 + at, 20)
    page.mouse.down()
    page.mouse.move(20 + at, 150)
    page.mouse.up()


def is_so(page: Page, what: Any) -> None:
    """Wait until something is so."""
    for _ in range(400):
        if what():
            return
        page.wait_for_timeout(25)
    pytest.fail("it does not come")


def reading_two(page: Page) -> Reader:
    """A reader that has been asked for two drawings and has answered none."""
    reader = Reader(page)
    page.evaluate(PAD)
    for number in range(2):
        stroke(page, 40 * number)
        is_so(page, lambda number=number: len(reader.held) == number + 1)
    return reader


def test_a_late_answer_never_replaces_that_to_a_newer_drawing(page: Page) -> None:
    reader = reading_two(page)
    reader.answer(1)
    expect(page.locator("#digit")).to_have_text("1")
    reader.answer(0)
    is_so(page, lambda: sorted(reader.deleted) == ["draft-0", "draft-1"])  # unfinished drawings leave no trace
    assert page.locator("#digit").text_content() == "1"


def test_two_drawings_are_read_at_a_time_and_then_the_newest(page: Page) -> None:
    reader = reading_two(page)
    for number in (2, 3):
        stroke(page, 40 * number)
        page.evaluate("new Promise((done) => setTimeout(done, 30))")  # SETTLE is 5 ms
    assert len(reader.held) == 2
    reader.answer(0)
    is_so(page, lambda: len(reader.held) == 3)
    reader.answer(2)
    expect(page.locator("#digit")).to_have_text("2")
    reader.answer(1)
    is_so(page, lambda: len(reader.deleted) == 3)
    assert page.locator("#digit").text_content() == "2" and len(reader.held) == 3


# ---------------------------------------------------------------------- the clock

LIVE = """async () => {
  [window.sources, window.told] = [[], []];
  window.EventSource = class extends EventTarget {
    static CLOSED = 2;
    readyState = 1;
    constructor() { super(); sources.push(this); }
    close() { this.readyState = 2; }
  };
  const { listen } = await import("/static/live.js");
  const tell = (name) => () => told.push(name);
  const connected = (there) => told.push(there);
  listen({ prediction: tell("prediction"), status: tell("status"), reset: tell("reset"), connected });
}"""
EMIT = """([kind, readyState]) => {
  const source = Object.assign(sources.at(-1), { readyState });
  source.dispatchEvent(Object.assign(new Event(kind), { data: "{}" }));
}"""


@pytest.fixture
def timed(page: Page) -> Page:
    """The page with a clock that stands still."""
    page.clock.install(time=0)
    page.clock.pause_at(1000)
    return page


def emit(page: Page, kind: str, state: int = 1) -> None:
    page.evaluate(EMIT, [kind, state])


def test_a_stream_that_falls_silent_is_told_and_opened_anew(timed: Page) -> None:
    timed.evaluate(LIVE)
    emit(timed, "open")
    for _ in range(3):
        timed.clock.run_for(2800)
        emit(timed, "status")
    assert timed.evaluate("told") == [True, "status", "status", "status"]
    timed.clock.run_for(3000)
    assert timed.evaluate("[told.at(-1), sources.length, sources[0].readyState]") == [False, 2, 2]


def test_a_short_break_is_not_told_and_further_errors_do_not_put_a_long_one_off(timed: Page) -> None:
    timed.evaluate(LIVE)
    emit(timed, "open")
    emit(timed, "error", 0)
    timed.clock.run_for(2000)
    emit(timed, "open")
    assert False not in timed.evaluate("told")
    emit(timed, "error", 0)
    timed.clock.run_for(2000)
    emit(timed, "error", 0)
    timed.clock.run_for(600)
    assert timed.evaluate("told.at(-1)") is False


@pytest.mark.parametrize(("refused", "early", "late"), [(True, 3900, 8100), (False, 9900, 10_100)])
def test_a_stream_that_is_refused_or_not_answered_is_asked_for_again(
    timed: Page, refused: bool, early: int, late: int
) -> None:
    timed.evaluate(LIVE)
    if refused:
        emit(timed, "error", 2)
    timed.clock.run_for(early)
    assert timed.evaluate("sources.length") == 1
    timed.clock.run_for(late - early)
    assert timed.evaluate("sources.length") == 2


def test_a_hidden_tab_frees_its_connection_and_looks_at_the_history_when_it_is_seen_again(timed: Page) -> None:
    timed.evaluate(LIVE)
    hide = "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });" \
        " document.dispatchEvent(new Event('visibilitychange')); }"  # fmt: skip
    timed.evaluate(hide, True)
    for _ in range(9):
        emit(timed, "status")
        timed.clock.run_for(2000)
    assert timed.evaluate("[sources.length, sources[0].readyState]") == [1, 1]
    emit(timed, "status")
    timed.clock.run_for(2100)
    assert timed.evaluate("[sources.length, sources[0].readyState]") == [1, 2]
    timed.clock.run_for(60_000)
    assert timed.evaluate("sources.length") == 1
    timed.evaluate(hide, False)
    assert timed.evaluate("[sources.length, told.at(-1)]") == [2, "reset"]


DELETIONS = """async () => {
  window.told = [];
  const { offer } = await import("/static/undo.js");
  window.remove = (what) => offer({
    what, count: 1, undo: () => told.push(`undo ${what}`), commit: (closing) => told.push(`commit ${what} ${closing}`),
  });
}"""


def test_a_deletion_can_be_taken_back_for_ten_seconds_after_the_last_one(timed: Page) -> None:
    timed.evaluate(DELETIONS)
    timed.evaluate("remove('a')")
    timed.clock.run_for(9000)
    timed.evaluate("remove('b')")
    assert timed.locator("#undo-text").text_content() == "2 pictures deleted."
    timed.clock.run_for(9900)
    assert timed.evaluate("told") == []
    timed.clock.run_for(200)
    assert timed.evaluate("told") == ["commit a false", "commit b false"]


def test_deletions_are_taken_back_the_last_first_and_only_once(timed: Page) -> None:
    timed.evaluate(DELETIONS)
    timed.evaluate("remove('a'), remove('b')")
    for _ in range(2):
        timed.keyboard.press("Control+z")
    timed.clock.run_for(20_000)
    assert timed.evaluate("told") == ["undo b", "undo a"]


def test_a_deletion_is_carried_out_when_the_page_is_left(timed: Page) -> None:
    timed.evaluate(DELETIONS)
    timed.evaluate("remove('a'), dispatchEvent(new Event('pagehide'))")
    assert timed.evaluate("told") == ["commit a true"]


def test_a_few_uploads_have_no_progress_of_their_own(timed: Page) -> None:
    for count, shown in ((5, False), (1, True)):
        timed.evaluate("(count) => import('/static/progress.js').then((one) => one.begin(count))", count)
        timed.clock.run_for(400)
        assert timed.evaluate("!document.getElementById('progress').hidden") is shown
    timed.evaluate("import('/static/progress.js').then((one) => [1, 1, 1, 0, 1, 1].forEach((well) => one.ended(well)))")
    timed.clock.run_for(400)
    assert timed.locator("#progress-text").text_content() == "5 pictures read, 1 could not be read."
    timed.clock.run_for(8000)
    assert timed.evaluate("document.getElementById('progress').hidden")


# ---------------------------------------------------------------------- corrections


def test_corrections_are_kept_changed_and_removed(page: Page) -> None:
    found = page.evaluate(
        """async () => {
          const { fix, fixDigit, fixOf, digitFixesOf, unfix, countFixes } = await import("/static/fixes.js");
          const one = { id: "one", filename: "1.png", digit: 1, confidence: 0.9 }, two = { id: "two" };
          const boxed = (left, digit) => ({ box: [left, 0, 10, 20], digit, confidence: 0.5, decision: "review" });
          const states = [];
          const note = () => states.push([countFixes(), fixOf("one"), [...digitFixesOf("two").values()].join()]);
          for (const label of ["7", "none", ""]) (fix(one, label), note());
          for (const [left, label] of [[0, "4"], [20, "5"], [0, "6"], [0, ""], [20, ""]]) {
            fixDigit(two, boxed(left, 1), label);
            note();
          }
          fix(one, "3");
          const kept = Object.keys(JSON.parse(localStorage.getItem(Object.keys(localStorage)[0])));
          unfix(one);
          note();
          return { states, kept };
        }"""
    )
    assert found["states"] == [
        [1, "7", ""], [1, "none", ""], [0, "", ""], [1, "", "4"], [1, "", "4,5"], [1, "", "5,6"], [1, "", "5"],
        [0, "", ""], [0, "", ""],
    ]  # fmt: skip
    assert found["kept"] == ["one"]
