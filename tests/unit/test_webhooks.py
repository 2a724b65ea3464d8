"""Webhooks: what is refused, sent, signed, tried again, given up, and delivered although a process was killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.client import BadStatusLine
from typing import Any

import pytest
import redis

from producer.webhooks import delivery, safe_http
from producer.webhooks.delivery import Deliverer
from producer.webhooks.safe_http import Unreachable, check_callback, post
from shared import keys
from shared.errors import CallbackRefused, SettingsError, WebhooksDisabled
from shared.operations.webhooks import DueWebhook
from shared.settings import Settings
from shared.store import Store
from shared.submission import Caller
from tests.api import answer_all, is_problem
from tests.pictures import seven
from tests.receiver import PICTURE, SECRET, SENDS, fate, receiver
from tests.served import WebClient, site
from tests.waits import until

__all__ = ["receiver"]


@pytest.fixture
def sending(store: Store) -> Store:
    return Store(store.client, replace(store.settings, **SENDS))


@pytest.fixture
def web(store: Store) -> Iterator[WebClient]:
    with site(store, **SENDS) as client:
        yield client


# ---------------------------------------------------------------------- what is sent


# ---------------------------------------------------------------------- tries


def test_without_keys_one_receivers_callbacks_are_told_from_anothers(
    store: Store, sending: Store, client: redis.Redis
) -> None:
    ids = []
    for url in ("http://127.0.0.1:1/", "http://127.0.0.1:1?a", "http://LOCALHOST:1/x"):
        ids.append(sending.submit(seven(), notes={"callback_url": url}).id)
        answer_all(store)
    first, second, other = ids
    due = sending.due_webhook(60, 8)
    assert due and (due.id, due.party) == (first, "host:127.0.0.1:1")
    due = sending.due_webhook(60, 8, [due.party])
    assert due and (due.id, due.party) == (other, "host:localhost:1")
    assert sending.due_webhook(60, 8, ["host:127.0.0.1:1"]) is None
    due = sending.due_webhook(60, 8)
    assert due and due.id == second and due.tries == 1
    assert sending.due_webhook(60, 8) is None  # each is under a lease
    assert {id.decode() for id in client.zrange(keys.WEBHOOKS, 0, -1)} == {first, second, other}


def test_callbacks_that_wait_for_others_live_as_long_as_their_own_records(
    store: Store, sending: Store, client: redis.Redis
) -> None:
    note, busy = {"callback_url": "http://127.0.0.1:1/"}, ["key:a", "key:b"]
    ids = [sending.submit(seven(), notes=note, caller=Caller(owner)).id for owner in ("a", "b")]
    answer_all(store)
    assert sending.due_webhook(60, 8, busy) is None
    nearly_over = sending.submit(seven(), notes=note, caller=Caller("a")).id
    answer_all(store)
    client.expire(keys.callback(nearly_over), 20)
    assert sending.due_webhook(60, 8, busy) is None
    shared = ("digitq:parked:key:a", "digitq:parties")
    assert all(client.ttl(key) > 1000 for key in shared)
    for key in shared:
        client.expire(key, 10)  # of one that was nearly over alone
    third = sending.submit(seven(), notes=note, caller=Caller("a")).id
    answer_all(store)
    assert sending.due_webhook(60, 8, busy) is None
    assert all(client.ttl(key) > 1000 for key in shared)
    taken: list[str] = []
    while due := sending.due_webhook(60, 8):
        taken.append(due.id)
        assert client.ttl(keys.WEBHOOKS) >= client.ttl(keys.callback(due.id)) - 1
    assert sorted(taken) == sorted([*ids, nearly_over, third])


def test_what_is_forgotten_meanwhile_is_not_told(store: Store, sending: Store, client: redis.Redis) -> None:
    id = sending.submit(seven(), notes={"callback_url": "http://127.0.0.1:1/"}).id
    answer_all(store)
    store.cancel(id)
    assert not Deliverer(sending).deliver_one()
    assert client.zcard(keys.WEBHOOKS) == 0


def test_a_picture_without_a_callback_costs_no_entry(store: Store, client: redis.Redis) -> None:
    store.submit(seven())
    answer_all(store)
    assert client.exists(keys.WEBHOOKS) == 0


def test_a_late_failure_does_not_undo_what_another_try_did(store: Store, sending: Store, client: redis.Redis) -> None:
    id = sending.submit(seven(), notes={"callback_url": "http://127.0.0.1:1/"}).id
    answer_all(store)
    late = sending.due_webhook(0, 8)
    second = sending.due_webhook(60, 8)
    assert late and second
    sending.end_webhook(second, "delivered")
    sending.end_webhook(late, "failing", 5)
    assert fate(client, id) == ("delivered", 2) and client.zcard(keys.WEBHOOKS) == 0


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "https://127.0.0.1/", "https://127.1/", "https://2130706433/", "https://0x7f.1/",
        "https://localhost/", "https://a.localhost./", "https://10.0.0.1/", "https://192.168.1.1/", "https://172.16.0.1/",
        "https://169.254.169.254/latest/meta-data", "https://100.64.0.1/", "https://0.0.0.0/", "https://224.0.0.1/",
        "https://255.255.255.255/", "https://[::1]/", "https://[::]/", "https://[fe80::1]/", "https://[fd00::1]/",
        "https://[fec0::1]/",
        "https://[::ffff:10.0.0.1]/", "https://[64:ff9b::10.0.0.1]/", "https://[2002:a00:1::]/", "https://[ff02::1]/",
        "https://[2001:0:1::1]/", "ftp://example.com/", "https://user:x@example.com/", "https://example.com:99999/",
        "https://example.com:0/", "https:///x", "https://example.com/#x", "//example.com", "x", "https://exa mple.com/",
        "https://example.com/" + "a" * 2048, "https://exämple.com/", "http://[::1", "https://example.com/\r\nX: y",
    ],
)  # fmt: skip
def test_what_is_not_https_to_a_public_address_is_refused(url: str, store: Store) -> None:
    with site(store, webhook_secret=SECRET) as web:
        answer = web.post("/v1/predictions", query_string={"callback_url": url}, data=seven(), **PICTURE)
        is_problem(answer, 422, "callback_refused")
        assert store.recent(1) == ([], None)


def test_public_addresses_are_taken() -> None:
    settings = Settings(webhook_secret=SECRET)
    for url in ("https://example.com/a?b=c", "https://8.8.8.8:8443/", "https://[2606:4700::1111]/"):
        assert check_callback(url, settings) == url
    private = replace(settings, webhook_allow_private="1")
    assert check_callback("https://10.0.0.1/", private) and check_callback("http://localhost:1/", private)
    for url in ("http://10.0.0.1/", "http://example.com/"):
        with pytest.raises(CallbackRefused, match="Only https"):
            check_callback(url, private)


def test_without_a_secret_there_are_none(store: Store) -> None:
    with site(store) as web:
        query = {"callback_url": "https://example.com/"}
        is_problem(web.post("/v1/predictions", query_string=query, data=seven(), **PICTURE), 400, "webhooks_disabled")
    with pytest.raises(WebhooksDisabled):
        check_callback("https://example.com/", Settings())


def test_a_call_is_bounded_over_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(address: Any, seconds: float) -> Any:
        time.sleep(seconds)
        raise TimeoutError("timed out")

    many = [(2, 1, 6, "", (f"93.184.216.{n}", 443)) for n in range(40)]
    monkeypatch.setattr(safe_http, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(safe_http.socket, "getaddrinfo", lambda *_, **__: many)
    monkeypatch.setattr(safe_http.socket, "create_connection", connect)
    start = time.monotonic()
    with pytest.raises(Unreachable, match="TimeoutError"):
        post("https://many.example/", b"x", {}, Settings(webhook_secret=SECRET))
    assert time.monotonic() - start < 3  # of six


def test_a_resolver_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(safe_http, "TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(safe_http.socket, "getaddrinfo", lambda *_, **__: answered.wait(20) and [])
    with pytest.raises(Unreachable, match="not resolved in time"):
        post("https://slow.example/", b"x", {}, Settings(webhook_secret=SECRET))
    assert not answered.is_set()
    answered.set()


def test_a_malformed_secret_refuses_to_start_and_is_never_shown() -> None:
    for secret in ("x", "whsec_", "whsec_short", "whsec_" + "!" * 40, SECRET + " x"):
        with pytest.raises(SettingsError, match="DIGITQ_WEBHOOK_SECRET") as error:
            Settings.from_env({"DIGITQ_WEBHOOK_SECRET": secret})
        assert secret not in str(error.value) or len(secret) < 7
    assert SECRET not in str(Settings(webhook_secret=SECRET).table())


def test_a_second_end_is_another_message(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    id = store.submit(seven()).id
    answer_all(store)
    told: list[str] = []
    monkeypatch.setattr(
        delivery, "post", lambda url, body, headers, settings: told.append(headers["webhook-id"]) or 204
    )
    record = {key.decode(): value.decode() for key, value in store.client.hgetall(keys.job(id)).items()}
    for end in (1, 2):
        due = DueWebhook(id, 1, end, "https://example.com/", "key:", record)
        assert delivery.send(due, Settings(webhook_secret=SECRET)) == 204
    assert told == [id, f"{id}.2"]


def test_without_a_secret_nothing_is_looked_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = list[int]()
    monkeypatch.setattr(Store, "due_webhook", lambda *_: looks.append(1))
    monkeypatch.setattr(delivery, "POLL_SECONDS", 0.01)
    for settings, looked in ((store.settings, False), (replace(store.settings, **SENDS), True)):
        deliverer = Deliverer(Store(store.client, settings))
        deliverer.start()
        if looked:
            until(lambda: looks, 10)
        deliverer.close()
        assert bool(looks) is looked


def test_a_mistake_of_ours_does_not_end_the_deliveries(
    sending: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = list[int]()

    def broken(*_: Any) -> None:
        looks.append(1)
        raise RuntimeError("a bug")

    monkeypatch.setattr(Store, "due_webhook", broken)
    monkeypatch.setattr(delivery, "POLL_SECONDS", 0.01)
    deliverer = Deliverer(sending)
    deliverer.start()
    until(lambda: len(looks) > delivery.THREADS, 10)  # each has given its place back
    deliverer.close()
    assert "unexpected error" in caplog.text


def test_private_receivers_are_of_http_or_https_too() -> None:
    with pytest.raises(CallbackRefused, match="of the form https"):
        check_callback("ftp://127.0.0.1/", Settings(webhook_secret=SECRET, webhook_allow_private="1"))


def test_each_address_of_a_name_is_tried_for_half_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, bool]] = []

    def connect(address: Any, seconds: float) -> Any:
        tried.append((address[0], seconds <= safe_http.TIMEOUT_SECONDS / 2))
        raise OSError("refused")

    both = [(2, 1, 6, "", (f"93.184.216.{n}", 443)) for n in (1, 2)]
    monkeypatch.setattr(safe_http.socket, "getaddrinfo", lambda *_, **__: both)
    monkeypatch.setattr(safe_http.socket, "create_connection", connect)
    with pytest.raises(Unreachable, match="refused"):
        post("https://two.example/", b"x", {}, Settings(webhook_secret=SECRET))
    assert tried == [("93.184.216.1", True), ("93.184.216.2", True)]


def test_an_answer_that_is_no_http_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def answered(*_: Any) -> Any:
        raise BadStatusLine("garbage")

    monkeypatch.setattr(safe_http, "_connected", answered)
    with pytest.raises(Unreachable, match="BadStatusLine"):
        post("https://example.com/", b"x", {}, Settings(webhook_secret=SECRET))
