"""The application as its server runs it: bodies, waits, disconnects and refusals."""

from __future__ import annotations

import json
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest

from producer.middleware.metrics import REQUESTS
from producer.middleware.request import add_request_id
from producer.serving import bodies
from producer.serving.line import LoopCalls
from shared.errors import RedisUnavailable
from shared.ids import new_id
from shared.store import Store
from tests.api import answer_one
from tests.pictures import idx, png_header, seven
from tests.served import WebClient, site
from tests.waits import until
from tests.web import sevens

PATH, READ = "/v1/predictions", "/v1/predictions/<id>"
WAITS = {"Prefer": "wait=20"}


@pytest.fixture
def web(store: Store) -> Iterator[WebClient]:
    with site(store) as client:
        yield client


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
def test_an_upload_is_answered_by_what_it_is(
    web: WebClient, body: bytes, query: str, headers: dict[str, str], status: int
) -> None:
    answer = web.here.ask("POST", PATH, body, headers, query)
    given = headers.get("X-Request-ID", "").replace("not mine", "")
    assert (answer.status, dict(answer.headers)["x-content-type-options"]) == (status, "nosniff")
    assert dict(answer.headers)["x-request-id"] == given or (
        not given and len(dict(answer.headers)["x-request-id"]) == 24
    )


def test_a_health_check_and_uploads_are_answered_while_all_threads_are_busy(store: Store) -> None:
    with site(store, web_threads=8) as web:
        free = threading.Event()
        assert web.app.pool
        for _ in range(8):
            web.app.pool.submit(free.wait, 20)
        slow = [
            web.here.begin("POST", path, pieces=[bytes(100_000)], stalls=True) for path in (PATH, "/v1/batches") * 8
        ]
        assert web.here.ask("GET", "/healthz").status == 200
        assert web.here.ask("POST", PATH, seven() + bytes(100_000)).status == 202
        assert not any(one.done() for one in slow)
        free.set()
        for one in slow:
            one.cancel()


def test_a_body_that_may_not_come_is_not_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "DRAIN_SECONDS", 0.01)
    key = "k" * 24
    with site(store, api_keys=f"me:{key}", batch_max_bytes=2_000_000) as web:
        assert web.here.ask("POST", PATH, pieces=[], stalls=True).status == 401
        for path in (PATH, "/v1/batches"):
            much = {"X-API-Key": key, "Content-Length": "99999999"}
            assert web.here.ask("POST", path, pieces=[], stalls=True, headers=much).status == 413
            unsaid = web.here.ask("POST", path, pieces=[bytes(1_000_000)] * 17, stalls=True, headers={"X-API-Key": key})
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
    with site(store, api_keys=f"me:{'k' * 24}", batch_max_bytes=2_000_000) as web:
        assert web.here.ask("POST", path, pieces=pieces(), headers=headers).status == status
    assert len(read) == (40 if heard else 0)


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_an_upload_by_another_method_is_refused_as_such_whatever_its_size(web: WebClient, method: str) -> None:
    for size in (100, 1_000_000, 30_000_000):
        assert web.here.ask(method, PATH, bytes(size)).status == 405


def test_an_upload_that_finds_no_room_is_heard_out(store: Store) -> None:
    pieces = iter([bytes(1_000_000)] * 40)
    with site(store) as web:
        web.app.spool.most = 3_000_000
        assert web.here.ask("POST", "/v1/batches", pieces=pieces).status == 503
        assert web.app.spool.used == 0
    assert not list(pieces)


def test_a_client_that_leaves_is_not_waited_for(web: WebClient, store: Store) -> None:
    id = json.loads(web.here.ask("POST", PATH, seven()).body())["id"]
    batch = json.loads(web.here.ask("POST", "/v1/batches", idx(1)).body())["id"]
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="7"\r\n\r\n' + seven() + b"\r\n--x--\r\n"
    ways: list[tuple[Any, ...]] = [
        ("GET", f"{PATH}/{id}", b"", {}, "wait=30"),
        ("POST", PATH, seven(), {"Prefer": "wait=30"}),
        ("POST", PATH, form, {"Prefer": "wait=30", "Content-Type": "multipart/form-data; boundary=x"}),
        ("GET", f"/v1/batches/{batch}", b"", {}, "wait=30"),
    ]
    began = time.monotonic()
    waiting = [web.here.begin(*way, leaves=0.6) for way in ways]
    assert [one.result(20).status for one in waiting] == [200, 202, 202, 200]
    assert time.monotonic() - began < 20
    assert not web.services.waiting._waiters


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
def test_a_poll_is_answered_by_how_the_prediction_stands(
    web: WebClient, store: Store, which: str, query: str, headers: dict[str, str], status: int
) -> None:
    ids = {"expired": new_id(now=5), "lost": new_id(), "ended": store.submit(seven()).id}
    answer_one(store)
    ids |= {"queued": store.submit(seven()).id, "forgotten": store.submit(seven()).id}
    store.cancel(ids["forgotten"])
    store.cancel(ids["forgotten"])  # cancelled, then forgotten
    path = f"{PATH}/{ids.get(which, which)}"
    assert web.here.ask("GET", unquote(path), headers=headers, query=query).status == status


def test_polls_that_come_together_are_one_round_trip(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [store.submit(seven(), str(n)).id for n in range(9)]
    calls, go = list[int](), threading.Event()
    fetch_all, fetch_call = Store.fetch_all, Store.fetch_call

    def slow(self: Store, ids: list[str]) -> Any:
        found = fetch_all(self, ids)
        go.wait(10)
        return found

    def counted(self: Store, ids: list[str], *fields: Any) -> Any:
        calls.append(len(ids))
        return fetch_call(self, ids, *fields)

    monkeypatch.setattr(Store, "fetch_all", slow)
    monkeypatch.setattr(Store, "fetch_call", counted)
    with site(store) as web:
        first = web.here.begin("GET", f"{PATH}/{ids[0]}")
        until(lambda: bool(calls), 10)
        rest = [web.here.begin("GET", f"{PATH}/{id}") for id in ids[1:]]
        looks = web.services.waiting.reads
        until(lambda: looks.gathered() == 8, 10)
        go.set()
        answers = [json.loads(one.result(10).body()) for one in (first, *rest)]
    assert [one["filename"] for one in answers] == [str(n) for n in range(9)]
    assert calls == [1, 8]


def test_a_waiting_request_gets_the_end_of_its_prediction(web: WebClient, store: Store) -> None:
    id = store.submit(seven()).id
    asked = web.here.begin("GET", f"{PATH}/{id}", query="wait=20")
    until(lambda: web.services.waiting._waiters)
    answer_one(store)
    answer = asked.result(30)
    assert (answer.status, json.loads(answer.body())["digit"]) == (200, 7)


def test_a_waiting_request_is_answered_at_the_end_and_releases_its_slot(store: Store) -> None:
    with site(store, web_threads=4) as web, sevens(store):
        asked = [web.here.begin("POST", PATH, seven(), WAITS) for _ in range(50)]  # far more than threads
        answers = [one.result(30) for one in asked]
        assert {(one.status, json.loads(one.body())["digit"]) for one in answers} == {(200, 7)}
        assert len({json.loads(one.body())["id"] for one in answers}) == 50


def test_who_has_waited_long_enough_is_told_how_it_stands(web: WebClient) -> None:
    began = time.monotonic()
    answer = web.here.ask("POST", PATH, seven(), {"Prefer": "wait=1"})
    assert (answer.status, json.loads(answer.body())["state"]) == (202, "queued")
    assert 0.9 <= time.monotonic() - began < 10
    assert dict(answer.headers)["preference-applied"] == "wait=1"


def test_a_repeated_upload_waits_for_the_first_one_under_its_key(web: WebClient, store: Store) -> None:
    first = json.loads(web.here.ask("POST", PATH, seven(), {"Idempotency-Key": "k"}).body())["id"]
    answering = threading.Thread(target=answer_one, args=(store,))
    answering.start()
    again = web.here.ask("POST", PATH, seven(), {"Idempotency-Key": "k", **WAITS})
    answering.join()
    assert (again.status, json.loads(again.body())["id"]) == (200, first)
    other = web.here.ask("POST", PATH, seven(56), {"Idempotency-Key": "k"})
    assert (other.status, json.loads(other.body())["code"]) == (422, "idempotency_mismatch")


def test_a_waiting_request_is_answered_when_the_process_stops(web: WebClient) -> None:
    asked = web.here.begin("POST", PATH, seven(), WAITS)
    until(lambda: web.services.waiting._waiters)
    web.call(web.services.waiting.stop)
    assert asked.result(10).status == 202


def test_a_redis_that_goes_away_is_a_503_whether_it_is_noticed_before_or_after(
    web: WebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = web.here.begin("POST", PATH, seven(), WAITS)
    until(lambda: web.services.waiting._waiters)

    def away(*_: Any) -> Any:
        raise RedisUnavailable(retry_after_seconds=1)

    monkeypatch.setattr(Store, "run", away)
    monkeypatch.setattr(LoopCalls, "ready", False)  # its connection is gone, too
    web.call(web.services.waiting._missed)
    for answer in (asked.result(10), web.here.ask("POST", PATH, seven())):
        assert (answer.status, json.loads(answer.body())["code"]) == (503, "redis_unavailable")
        assert dict(answer.headers)["retry-after"] == "1"


def test_a_mistake_of_ours_is_a_500_without_a_traceback(
    web: WebClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.addFilter(add_request_id)
    monkeypatch.setattr(web.services.waiting, "submit", None)
    answer = web.here.ask("POST", PATH, seven(), {"X-Request-ID": "mine"})
    assert (answer.status, json.loads(answer.body())["code"]) == (500, "internal_error")
    assert b"NoneType" not in answer.body()
    [logged] = [line for line in caplog.records if line.levelname == "ERROR"]
    assert logged.exc_info and logged.request_id == "mine"  # type: ignore[attr-defined]


@pytest.mark.parametrize(("method", "path"), [("GET", "/nowhere"), ("POST", PATH), ("POST", "/v1/batches")])
def test_who_is_refused_before_the_body_is_read_is_counted_under_the_route(
    web: WebClient, method: str, path: str
) -> None:
    route = "none" if path == "/nowhere" else path
    counter = REQUESTS.labels(method, route, "403")
    before = counter._value.get()
    web.here.ask(method, path, b"x", headers={"Host": "evil.example"})
    assert counter._value.get() == before + 1


def test_a_client_that_goes_away_in_the_middle_of_its_upload_leaves_nothing(web: WebClient, store: Store) -> None:
    cut = web.here.ask("POST", PATH, seven(), gone=True)
    long = web.here.ask("POST", PATH, headers={"Content-Length": "100000"}, pieces=[bytes(50_000)])
    for one in (cut, long):  # it may be listening still
        assert (one.status, json.loads(one.body())["code"]) == (400, "bad_request")
    assert store.recent(10)[0] == []


# ---------------------------------------------------------------------- what goes to the views


@pytest.mark.parametrize(
    ("headers", "query"),
    [({"Content-Type": "Multipart/Form-Data; boundary=x"}, ""), ({}, "callback_url=https://a.example/"),
     ({}, "callback%5Furl=https://a.example/")],
)  # fmt: skip
def test_forms_and_callbacks_are_the_views_business(web: WebClient, headers: dict[str, str], query: str) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + seven() + b"\r\n--x--\r\n"
    answer = web.here.ask("POST", PATH, body if headers else seven(), headers, query)
    assert (answer.status, json.loads(answer.body()).get("filename")) == ((202, "a.png") if headers else (400, None))


def test_a_large_upload_and_one_without_a_length_are_read_piece_by_piece(web: WebClient) -> None:
    large = seven() + bytes(400_000)  # what is behind the picture nobody looks at
    for asked in (web.here.ask("POST", PATH, large), web.here.ask("POST", PATH, pieces=[large[:9], b"", large[9:]])):
        assert asked.status == 202
    refused = web.here.ask("POST", PATH, bytes(30_000_000))
    assert (refused.status, json.loads(refused.body())["code"]) == (413, "too_large")


def test_the_picture_counts_and_not_what_it_is_written_in(store: Store) -> None:
    picture = seven() + bytes(600_000)
    url = b"data:image/png;base64," + b64encode(picture)
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + url + b"\r\n--x--\r\n"
    ways = [(url, ""), (json.dumps({"image": url.decode()}).encode(), "application/json"),
            (form, "multipart/form-data; boundary=x")]  # fmt: skip
    for most, status in ((len(picture), 202), (len(picture) - 1, 413)):
        with site(store, max_upload_bytes=most) as web:
            for body, type in ways:
                for pieces in (None, [body[:9], body[9:]]):
                    asked = web.here.ask("POST", PATH, body, {"Content-Type": type}, pieces=pieces)
                    assert asked.status == status, (type, asked.body())
