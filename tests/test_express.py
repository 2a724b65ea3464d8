"""The express lane answers as the views do, and leaves to them what it does not know."""

from __future__ import annotations

import json
import re
import threading
import time
from asyncio import AbstractEventLoop
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pytest
from flask import Flask

from producer.middleware.metrics import REQUESTS
from producer.serving import bodies
from producer.serving.express import Lanes
from producer.web.app import create_app
from shared.errors import RedisUnavailable
from shared.ids import new_id
from shared.store import Store
from tests.pictures import png_header, seven
from tests.rsgi import Served, served
from tests.test_cli_submit import idx
from tests.test_counts import answer_one
from tests.web import sevens

PATH, READ = "/v1/predictions", "/v1/predictions/<id>"
WAITS = {"Prefer": "wait=20"}


@contextmanager
def lanes(store: Store, **changes: Any) -> Iterator[tuple[Flask, Served]]:
    app = create_app(Store(store.client, replace(store.settings, **changes)))
    express = Lanes(app, threads=8)
    app.extensions["test_threads"], app.extensions["test_lanes"] = express._threads.pool, express

    def made(loop: AbstractEventLoop) -> Any:
        express.__rsgi_init__(loop)
        return express.__rsgi__

    with served(made) as one:
        yield app, one
    express.close()
    app.extensions["digitq_waiters"].close()


@pytest.fixture
def both(store: Store) -> Iterator[tuple[Flask, Served]]:
    with lanes(store) as found:
        yield found


@contextmanager
def without_views(app: Flask) -> Iterator[None]:
    """Whatever goes to a view fails."""
    app.wsgi_app, before = _broken, app.wsgi_app  # type: ignore[method-assign,assignment]
    yield
    app.wsgi_app = before  # type: ignore[method-assign]


def _broken(*_: Any) -> Any:
    raise AssertionError("this went to a view")


#: Different each time.
FRESH = re.compile(r"A[\w-]{23}|\d{4}-\d\d-\d\dT[\d:.]+Z|00-[0-9a-f]{32}-[0-9a-f]{16}-00")


def plain(status: int, headers: Any, body: bytes) -> tuple[int, list[tuple[str, str]], Any]:
    """An answer without what is different each time."""
    kept = [(name.lower(), FRESH.sub("*", value)) for name, value in headers]
    return status, sorted(kept), json.loads(FRESH.sub("*", body.decode()) or "null")


@pytest.mark.parametrize(
    ("body", "query", "headers", "status"),
    [
        (seven(), "", {}, 202),
        (seven(), "filename=../../%C3%A9+7.png&priority=high", {"Content-Type": "image/png"}, 202),
        (seven(), "", {"Prefer": "wait=0"}, 202),
        (seven(), "", {"X-Request-ID": "mine", "traceparent": f"00-{32 * 'a'}-{16 * 'b'}-01"}, 202),
        (seven(), "", {"X-Request-ID": "not mine"}, 202),
        (seven(), "", {"Content-Type": "application/x-www-form-urlencoded"}, 202),
        (seven(), "", {"Idempotency-Key": "x" * 256}, 400),
        (seven(), "priority=urgent", {}, 400),
        (b"", "", {}, 400),
        (b"hello", "", {}, 415),
        (png_header(0, 10), "", {}, 422),
        (png_header(20_000, 20_000), "", {}, 422),
        (seven(), "", {"Origin": "https://evil.example"}, 403),
        (seven(), "", {"Sec-Fetch-Site": "cross-site"}, 403),
        (seven(), "", {"Host": "evil.example"}, 403),
    ],
)
def test_it_answers_as_the_view_does(
    both: tuple[Flask, Served], body: bytes, query: str, headers: dict[str, str], status: int
) -> None:
    app, here = both
    sent = {"Host": "127.0.0.1:8000", **headers}
    view = app.test_client().post(PATH, data=body, query_string=query, headers=sent)
    with without_views(app):
        express = here.ask("POST", PATH, body, headers, query)
    assert express.status == status
    assert plain(express.status, express.headers, express.body()) == plain(view.status_code, view.headers, view.data)


@pytest.mark.parametrize("headers", [{}, {"Host": "evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_it_says_that_it_lives_as_the_view_does(both: tuple[Flask, Served], headers: dict[str, str]) -> None:
    app, here = both
    view = app.test_client().get("/healthz", headers={"Host": "127.0.0.1:8000", **headers})
    with without_views(app):
        express = here.ask("GET", "/healthz", headers=headers)
    assert plain(express.status, express.headers, express.body()) == plain(view.status_code, view.headers, view.data)


def test_it_lives_and_takes_large_bodies_while_all_threads_are_taken(store: Store) -> None:
    with lanes(store) as (app, here):
        free = threading.Event()
        threads = app.extensions["test_threads"]
        for _ in range(8):
            threads.submit(free.wait, 20)
        slow = [here.begin("POST", path, pieces=[bytes(100_000)], stalls=True) for path in (PATH, "/v1/batches") * 8]
        assert here.ask("GET", "/healthz").status == 200
        assert here.ask("POST", PATH, seven() + bytes(100_000)).status == 202
        assert not any(one.done() for one in slow)
        free.set()
        for one in slow:
            one.cancel()


def test_a_body_that_may_not_come_is_not_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "PATIENCE_SECONDS", 0.01)
    key = "k" * 24
    with lanes(store, api_keys=f"me:{key}", batch_max_bytes=2_000_000) as (_, here):
        assert here.ask("POST", PATH, pieces=[], stalls=True).status == 401
        for path in (PATH, "/v1/batches"):
            much = {"X-API-Key": key, "Content-Length": "99999999"}
            assert here.ask("POST", path, pieces=[], stalls=True, headers=much).status == 413
            unsaid = here.ask("POST", path, pieces=[bytes(1_000_000)] * 17, stalls=True, headers={"X-API-Key": key})
            assert unsaid.status == 413  # as soon as it is too long


@pytest.mark.parametrize(
    ("headers", "status", "heard"),
    [
        ({"X-API-Key": "no"}, 401, True),
        ({"X-API-Key": "k" * 24}, 413, True),
        ({"X-API-Key": "k" * 24, "Content-Length": ""}, 413, True),
        ({"X-API-Key": "no", "Content-Length": ""}, 401, True),
        ({"X-API-Key": "no", "Expect": "100-continue"}, 401, False),  # it waits for a word before it sends
        ({"X-API-Key": "no", "Content-Length": "999999999"}, 401, False),
    ],
)
@pytest.mark.parametrize("path", [PATH, "/v1/batches", "/"])
def test_who_is_refused_while_sending_is_heard_out(
    store: Store, path: str, headers: dict[str, str], status: int, heard: bool
) -> None:
    read: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number in range(40):
            read.append(number)
            yield bytes(1_000_000)

    length = headers.get("Content-Length", "40000000")
    headers = {**headers, "Content-Length": length} if length else {"X-API-Key": headers["X-API-Key"]}
    with lanes(store, api_keys=f"me:{'k' * 24}", batch_max_bytes=2_000_000) as (_, here):
        assert here.ask("POST", path, pieces=pieces(), headers=headers).status == status
    assert len(read) == (40 if heard else 0)


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_an_upload_by_another_method_is_refused_as_such_whatever_its_size(
    both: tuple[Flask, Served], method: str
) -> None:
    for size in (100, 1_000_000, 30_000_000):
        assert both[1].ask(method, PATH, bytes(size)).status == 405


def test_an_upload_that_finds_no_room_is_heard_out(store: Store) -> None:
    pieces = iter([bytes(1_000_000)] * 40)
    with lanes(store) as (app, here):
        express = app.extensions["test_lanes"]
        express._spool.most = 3_000_000
        assert here.ask("POST", "/v1/batches", pieces=pieces).status == 503
        assert express._spool.used == 0
    assert not list(pieces)


def test_a_client_that_leaves_is_not_waited_for(both: tuple[Flask, Served], store: Store) -> None:
    app, here = both
    id = json.loads(here.ask("POST", PATH, seven()).body())["id"]
    batch = json.loads(here.ask("POST", "/v1/batches", idx(1)).body())["id"]
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="7"\r\n\r\n' + seven() + b"\r\n--x--\r\n"
    ways: list[tuple[Any, ...]] = [
        ("GET", f"{PATH}/{id}", b"", {}, "wait=30"),
        ("POST", PATH, seven(), {"Prefer": "wait=30"}),
        ("POST", PATH, form, {"Prefer": "wait=30", "Content-Type": "multipart/form-data; boundary=x"}),
        ("GET", f"/v1/batches/{batch}", b"", {}, "wait=30"),
    ]
    began = time.monotonic()
    waiting = [here.begin(*way, leaves=0.6) for way in ways]
    assert [one.result(20).status for one in waiting] == [200, 202, 202, 200]
    assert time.monotonic() - began < 20
    assert not app.extensions["digitq_waiters"]._inboxes


def test_it_asks_for_keys_as_the_view_does(store: Store) -> None:
    key = "k" * 24
    with lanes(store, api_keys=f"me:{key}") as (app, here):
        for headers in ({}, {"X-API-Key": "other"}, {"Authorization": f"Bearer {key}"}, {"X-API-Key": key}):
            view = app.test_client().post(PATH, data=seven(), headers=headers)
            express = here.ask("POST", PATH, seven(), headers)
            answers = [plain(express.status, express.headers, express.body())]
            assert answers == [plain(view.status_code, view.headers, view.data)]
        id = json.loads(express.body())["id"]
        assert store.fetch(id, owner="me").id == id  # theirs alone


def test_it_refuses_as_the_view_does_when_the_queue_is_full_or_somebody_sends_too_much(store: Store) -> None:
    for changes, status in (({"queue_max_length": 1}, 503), ({"rate_limit": "1/hour"}, 429)):
        with lanes(store, **changes) as (app, here):
            here.ask("POST", PATH, seven())
            view, express = app.test_client().post(PATH, data=seven()), here.ask("POST", PATH, seven())
            assert express.status == status
            expected = plain(view.status_code, view.headers, view.data)
            assert plain(express.status, express.headers, express.body()) == expected


@pytest.mark.parametrize(
    ("which", "query", "headers", "status"),
    [
        ("queued", "", {}, 200),
        ("ended", "", {"X-Request-ID": "mine"}, 200),
        ("ended", "wait=1", {}, 200),
        ("queued", "wait=x", {}, 400),
        ("queued", "wait=nan", {}, 400),
        ("forgotten", "", {}, 404),
        ("nothing", "", {}, 404),
        ("a%2Fb", "", {}, 404),
        ("", "", {}, 404),
        ("expired", "", {}, 410),
        ("lost", "", {}, 410),
        ("queued", "", {"Host": "evil.example"}, 403),
        ("queued", "", {"Sec-Fetch-Site": "cross-site"}, 200),
    ],
)
def test_it_tells_how_a_prediction_stands_as_the_view_does(
    both: tuple[Flask, Served], store: Store, which: str, query: str, headers: dict[str, str], status: int
) -> None:
    app, here = both
    ids = {"expired": new_id(now=5), "lost": new_id(), "ended": store.submit(seven()).id}
    answer_one(store)
    ids |= {"queued": store.submit(seven()).id, "forgotten": store.submit(seven()).id}
    store.cancel(ids["forgotten"])
    store.cancel(ids["forgotten"])  # cancelled, then forgotten
    path = f"{PATH}/{ids.get(which, which)}"
    view = app.test_client().get(path, query_string=query, headers={"Host": "127.0.0.1:8000", **headers})
    with without_views(app) if which not in ("a%2Fb", "") else nullcontext():
        express = here.ask("GET", unquote(path), headers=headers, query=query)
    assert express.status == status
    assert plain(express.status, express.headers, express.body()) == plain(view.status_code, view.headers, view.data)


def test_who_has_the_answer_already_is_told_so(both: tuple[Flask, Served], store: Store) -> None:
    app, here = both
    path = f"{PATH}/{store.submit(seven()).id}"
    answer_one(store)
    tag = dict(here.ask("GET", path).headers)["etag"]
    again = here.ask("GET", path, headers={"If-None-Match": tag})
    view = app.test_client().get(path, headers={"Host": "127.0.0.1:8000", "If-None-Match": tag})
    assert (again.status, again.body()) == (304, b"")
    assert plain(again.status, again.headers, again.body()) == plain(view.status_code, view.headers, view.data)


def test_polls_that_come_together_are_one_round_trip(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [store.submit(seven(), str(n)).id for n in range(9)]
    calls, go, before = list[int](), threading.Event(), Store.fetch_all

    def slow(self: Store, ids: list[str]) -> Any:
        calls.append(len(ids))
        go.wait(10)
        return before(self, ids)

    monkeypatch.setattr(Store, "fetch_all", slow)
    with lanes(store) as (app, here):
        first = here.begin("GET", f"{PATH}/{ids[0]}")
        wait_for(lambda: bool(calls))
        rest = [here.begin("GET", f"{PATH}/{id}") for id in ids[1:]]
        looks = app.extensions["digitq_waiters"].looks
        wait_for(lambda: looks.waiting() == 8)
        go.set()
        answers = [json.loads(one.result(10).body()) for one in (first, *rest)]
    assert [one["filename"] for one in answers] == [str(n) for n in range(9)]
    assert calls == [1, 8]


def wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not what():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_who_waits_for_the_end_of_a_prediction_hears_of_it(both: tuple[Flask, Served], store: Store) -> None:
    _, here = both
    id = store.submit(seven()).id
    asked = here.begin("GET", f"{PATH}/{id}", query="wait=20")
    time.sleep(0.2)
    answer_one(store)
    answer = asked.result(30)
    assert (answer.status, json.loads(answer.body())["digit"]) == (200, 7)


def test_who_waits_is_answered_at_the_end_and_keeps_no_seat(store: Store) -> None:
    with lanes(store, web_threads=4) as (app, here), without_views(app), sevens(store):
        asked = [here.begin("POST", PATH, seven(), WAITS) for _ in range(50)]  # far more than threads
        answers = [one.result(30) for one in asked]
        assert {(one.status, json.loads(one.body())["digit"]) for one in answers} == {(200, 7)}
        assert len({json.loads(one.body())["id"] for one in answers}) == 50


def test_who_has_waited_long_enough_is_told_how_it_stands(both: tuple[Flask, Served]) -> None:
    _, here = both
    began = time.monotonic()
    answer = here.ask("POST", PATH, seven(), {"Prefer": "wait=1"})
    assert (answer.status, json.loads(answer.body())["state"]) == (202, "queued")
    assert 0.9 <= time.monotonic() - began < 10
    assert dict(answer.headers)["preference-applied"] == "wait=1"


def test_a_repeated_upload_waits_for_the_first_one_under_its_key(both: tuple[Flask, Served], store: Store) -> None:
    _, here = both
    first = json.loads(here.ask("POST", PATH, seven(), {"Idempotency-Key": "k"}).body())["id"]
    answering = threading.Thread(target=answer_one, args=(store,))
    answering.start()
    again = here.ask("POST", PATH, seven(), {"Idempotency-Key": "k", **WAITS})
    answering.join()
    assert (again.status, json.loads(again.body())["id"]) == (200, first)
    other = here.ask("POST", PATH, seven(56), {"Idempotency-Key": "k"})
    assert (other.status, json.loads(other.body())["code"]) == (422, "idempotency_mismatch")


def test_who_waits_is_answered_when_the_process_stops(both: tuple[Flask, Served]) -> None:
    app, here = both
    asked = here.begin("POST", PATH, seven(), WAITS)
    time.sleep(0.3)
    app.extensions["digitq_waiters"].stop()
    assert asked.result(10).status == 202


def test_a_redis_that_goes_away_is_a_503_whether_it_is_noticed_before_or_after(
    both: tuple[Flask, Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    app, here = both
    asked = here.begin("POST", PATH, seven(), WAITS)
    time.sleep(0.3)

    def away(*_: Any) -> Any:
        raise RedisUnavailable(retry_after_seconds=1)

    monkeypatch.setattr(Store, "run", away)
    app.extensions["digitq_waiters"]._tell_all_to_look()
    for answer in (asked.result(10), here.ask("POST", PATH, seven())):
        assert (answer.status, json.loads(answer.body())["code"]) == (503, "redis_unavailable")
        assert dict(answer.headers)["retry-after"] == "1"


def test_a_mistake_of_ours_is_a_500_without_a_traceback(
    both: tuple[Flask, Served], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app, here = both
    monkeypatch.setattr(app.extensions["digitq_waiters"], "hand_in", None)
    answer = here.ask("POST", PATH, seven(), {"X-Request-ID": "mine"})
    assert (answer.status, json.loads(answer.body())["code"]) == (500, "internal_error")
    assert b"NoneType" not in answer.body()
    [logged] = [line for line in caplog.records if line.levelname == "ERROR"]
    assert logged.exc_info and logged.request_id == "mine"  # type: ignore[attr-defined]


def test_it_is_counted_as_the_view_is(both: tuple[Flask, Served]) -> None:
    app, here = both
    counter = REQUESTS.labels("POST", PATH, "202")
    before = counter._value.get()
    path = app.test_client().post(PATH, data=seven()).headers["Location"]
    here.ask("POST", PATH, seven())
    assert counter._value.get() == before + 2
    counter = REQUESTS.labels("GET", READ, "200")
    before = counter._value.get()
    app.test_client().get(path)
    here.ask("GET", path)
    assert counter._value.get() == before + 2


def test_a_client_that_goes_away_in_the_middle_of_its_upload_leaves_nothing(
    both: tuple[Flask, Served], store: Store
) -> None:
    _, here = both
    cut = here.ask("POST", PATH, seven(), gone=True)
    long = here.ask("POST", PATH, headers={"Content-Length": "100000"}, pieces=[bytes(50_000)])
    for one in (cut, long):  # it may be listening still
        assert (one.status, json.loads(one.body())["code"]) == (400, "bad_request")
    assert store.recent(10)[0] == []


# ---------------------------------------------------------------------- what goes to the views


@pytest.mark.parametrize(
    ("headers", "query"),
    [({"Content-Type": "Multipart/Form-Data; boundary=x"}, ""), ({}, "callback_url=https://a.example/"),
     ({}, "callback%5Furl=https://a.example/")],
)  # fmt: skip
def test_forms_and_callbacks_are_the_views_business(
    both: tuple[Flask, Served], headers: dict[str, str], query: str
) -> None:
    _, here = both
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + seven() + b"\r\n--x--\r\n"
    answer = here.ask("POST", PATH, body if headers else seven(), headers, query)
    assert (answer.status, json.loads(answer.body()).get("filename")) == ((202, "a.png") if headers else (400, None))


def test_a_large_upload_and_one_without_a_length_are_read_piece_by_piece(both: tuple[Flask, Served]) -> None:
    _, here = both
    large = seven() + bytes(400_000)  # what is behind the picture nobody looks at
    for asked in (here.ask("POST", PATH, large), here.ask("POST", PATH, pieces=[large[:9], b"", large[9:]])):
        assert asked.status == 202
    refused = here.ask("POST", PATH, bytes(30_000_000))
    assert (refused.status, json.loads(refused.body())["code"]) == (413, "too_large")


def test_the_picture_counts_and_not_what_it_is_written_in(store: Store) -> None:
    picture = seven() + bytes(600_000)
    url = b"data:image/png;base64," + b64encode(picture)
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + url + b"\r\n--x--\r\n"
    ways = [(url, ""), (json.dumps({"image": url.decode()}).encode(), "application/json"),
            (form, "multipart/form-data; boundary=x")]  # fmt: skip
    for most, status in ((len(picture), 202), (len(picture) - 1, 413)):
        with lanes(store, max_upload_bytes=most) as (_, here):
            for body, type in ways:
                for pieces in (None, [body[:9], body[9:]]):
                    asked = here.ask("POST", PATH, body, {"Content-Type": type}, pieces=pieces)
                    assert asked.status == status, (type, asked.body())
