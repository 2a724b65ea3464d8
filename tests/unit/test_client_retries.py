"""Tests of when the HTTP client sends a request again, and of what one attempt consists of."""

from __future__ import annotations

import random
import threading
import time
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from producer import Client, Retry
from producer.client import retry
from producer.client.http_requests import BATCH_SECONDS, Request
from shared.errors import (
    DigitqError,
    Incomplete,
    RedisUnavailable,
    ServerUnavailable,
    SettingsError,
    UnexpectedAnswer,
)
from tests.canned import ACCEPTED, answers, foreign, problem
from tests.pictures import seven


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the pauses of this thread instead of sleeping; other threads sleep as usual."""
    slept: list[float] = []
    sleep, me = time.sleep, threading.get_ident()
    monkeypatch.setattr(time, "sleep", lambda s: slept.append(s) if threading.get_ident() == me else sleep(s))
    return slept


def test_the_servers_retry_after_is_honoured_and_the_key_stays_the_same(pauses: list[float]) -> None:
    sdk, asked = answers(problem(503, "queue_full", "3"), problem(429, "rate_limited", "2"), ACCEPTED)
    assert sdk.submit(seven()).id == "x"
    assert 3 <= pauses[0] <= 3.1 and 2 <= pauses[1] <= 2.2
    given = {request.headers["Idempotency-Key"] for request in asked}
    assert len(asked) == 3 and len(given) == 1 and len(given.pop()) == 38
    sdk.submit(seven())
    assert asked[-1].headers["Idempotency-Key"] != asked[0].headers["Idempotency-Key"]
    sdk.submit(seven(), idempotency_key="mine")
    assert asked[-1].headers["Idempotency-Key"] == '"mine"'


def test_the_key_of_a_batch_stays_the_same_and_its_body_starts_anew(pauses: list[float]) -> None:
    sdk, asked = answers(problem(503, "queue_full"), ACCEPTED)
    sdk.submit_batch(b"PK and so on")
    assert [request.read() for request in asked] == [b"PK and so on"] * 2
    assert len({request.headers["Idempotency-Key"] for request in asked}) == 1
    sdk.submit_batch(b"PK and so on", idempotency_key="mine")
    assert asked[-1].headers["Idempotency-Key"] == '"mine"'


@pytest.mark.parametrize(("status", "tries"), [(503, 5), (429, 5), (500, 1), (502, 1), (422, 1), (404, 1)])
def test_only_temporary_errors_are_retried(status: int, tries: int, pauses: list[float]) -> None:
    sdk, asked = answers(problem(status, "something"))
    with pytest.raises(DigitqError):
        sdk.submit(seven())
    assert (len(asked), len(pauses)) == (tries, tries - 1)


@pytest.mark.parametrize(
    "trouble", [httpx2.ConnectError("Connection refused"), httpx2.ReadError("reset"), foreign(502)]
)
def test_a_server_that_restarts_is_given_time_to(trouble: Any, pauses: list[float]) -> None:
    sdk, _ = answers(*[trouble] * 4, ACCEPTED)
    assert sdk.submit(seven()).id == "x"
    assert len(pauses) == 4 and all(0.5 <= pause <= 1.3 for pause in pauses)


def test_a_cancel_is_repeated_only_where_the_server_has_not_begun_it(pauses: list[float]) -> None:
    unsent = [
        problem(429, "rate_limited"),
        httpx2.ConnectError("x"),
        httpx2.ConnectTimeout("x"),
        httpx2.PoolTimeout("x"),
    ]
    sdk, asked = answers(*[answer for before in unsent for answer in (before, httpx2.Response(204))])
    for _ in unsent:
        sdk.cancel("x")
    assert len(asked) == 2 * len(unsent)


def test_a_cancel_that_the_server_may_have_begun_is_not_repeated(pauses: list[float]) -> None:
    late = [problem(503, "redis_unavailable"), httpx2.ReadError("reset"), httpx2.ReadTimeout("late")]
    sdk, asked = answers(*late, *late)
    for cancel in [sdk.cancel] * 3 + [sdk.cancel_batch] * 3:
        with pytest.raises(DigitqError):
            cancel("x")
    assert (len(asked), pauses) == (6, [])


def test_a_request_that_cannot_be_sent_is_not_retried(pauses: list[float]) -> None:
    sdk, _ = answers(httpx2.LocalProtocolError("Illegal header value"))
    with sdk, pytest.raises(DigitqError, match="Illegal header"):
        sdk.get("x")
    assert pauses == []


def test_pauses_grow_with_full_jitter_and_have_bounds() -> None:
    random.seed(1)
    policy = Retry(attempts=9, first=0.1, longest=1)
    trouble = RedisUnavailable()
    many_times = [[policy.pause(tried, trouble, 0) or 0 for _ in range(300)] for tried in range(1, 9)]
    for tried, found in enumerate(many_times, 1):
        bound = min(1, 0.1 * 2 ** (tried - 1))
        assert max(found) <= bound and max(found) > 0.9 * bound and min(found) < 0.1 * bound
    assert policy.pause(9, trouble, 0) is None
    assert Retry(seconds=4).pause(1, RedisUnavailable(retry_after_seconds=5), 0) is None


def test_no_attempt_starts_later_than_the_policy_says() -> None:
    trouble, policy = RedisUnavailable(retry_after_seconds=2), Retry(first=0, seconds=5)
    assert policy.pause(1, trouble, 3) == 2
    assert policy.pause(1, trouble, 3.01) is None


def test_the_pause_for_an_unreachable_server_is_the_servers_or_the_policys_where_that_is_shorter() -> None:
    assert 3 <= (Retry().pause(1, ServerUnavailable(retry_after_seconds=3), 0) or 0) <= 3.1
    assert (Retry(longest=0.05).pause(1, ServerUnavailable(), 0) or 1) <= 0.1


def test_the_time_of_a_policy_begins_with_the_first_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(monotonic=lambda: float(len(asked)))  # each attempt takes a second
    sdk, asked = answers(problem(503, "queue_full", "1"))
    monkeypatch.setattr(retry, "time", clock)
    monkeypatch.setattr("producer.client.blocking.time", SimpleNamespace(sleep=lambda seconds: None))
    sdk._operations._retry = Retry(attempts=99, first=0, seconds=4)
    with pytest.raises(DigitqError):
        sdk.get("x")
    assert len(asked) == 4


def test_an_answer_may_take_as_long_as_the_server_was_asked_to_wait() -> None:
    sdk, asked = answers(httpx2.Response(200, json={"id": "x", "state": "succeeded"}))
    sdk.get("x", wait=7)
    assert float(asked[-1].url.params["wait"]) == pytest.approx(7, abs=0.5)
    assert asked[-1].extensions["timeout"]["read"] == pytest.approx(17, abs=0.5)
    assert asked[-1].extensions["timeout"]["connect"] == 10
    sdk, asked = answers(ACCEPTED)
    sdk.submit_batch(b"PK")
    assert asked[-1].extensions["timeout"]["read"] == 10 + BATCH_SECONDS
    sdk.submit_batch([seven()])
    assert asked[-1].extensions["timeout"]["read"] == 10 + BATCH_SECONDS
    assert Request("GET", "/").options(3)["timeout"] == httpx2.Timeout(3)


def test_results_that_break_off_are_incomplete_and_are_given_time() -> None:
    line, count = '{"index": 0}\n', {"X-Total-Count": "2"}
    sdk, asked = answers(
        httpx2.Response(200, text=line, headers=count), httpx2.Response(200, text=line * 2, headers=count)
    )
    with pytest.raises(Incomplete, match="1 of 2"):
        sdk._operations._retry = retry.NEVER
        sdk.results("x")
    assert len(sdk.results("x")) == 2
    assert asked[-1].extensions["timeout"]["read"] == 10 + BATCH_SECONDS


def test_results_that_are_a_page_are_not_read_as_results() -> None:
    sdk, _ = answers(foreign(200, "<html>\n</html>"), httpx2.Response(200, text='{"index": 0}\n'))
    with pytest.raises(UnexpectedAnswer):
        sdk.results("x")
    assert list(sdk.results("x")) == [{"index": 0}]


def test_what_is_the_servers_default_is_not_sent() -> None:
    sdk, asked = answers(ACCEPTED)
    sdk.submit(seven())
    assert "read" not in asked[-1].url.params
    sdk.submit(seven(), read="numbers")
    assert asked[-1].url.params["read"] == "numbers"
    sdk.submit_batch(b"PK")
    assert not {"read", "filename"} & asked[-1].url.params.keys()
    listed, asked = answers(httpx2.Response(200, json={"batches": []}))
    assert listed.list_batches() == ([], None)
    assert dict(asked[-1].url.params) == {"limit": "20"}
    listed.list_batches(5, "next")
    assert dict(asked[-1].url.params) == {"limit": "5", "cursor": "next"}


def test_a_key_of_the_environment_goes_to_the_server_of_the_environment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITQ_URL", "http://ours:1/")
    monkeypatch.setenv("DIGITQ_API_KEY", "secret")

    def of(*arguments: str | None) -> tuple[str, str | None]:
        with Client(*arguments) as sdk:
            http = sdk._operations._http
            return str(http.base_url), http.headers.get("Authorization")

    assert of() == ("http://ours:1", "Bearer secret")
    assert of(None, "mine") == ("http://ours:1", "Bearer mine")
    assert of("https://theirs/") == ("https://theirs", None)
    assert of("http://theirs", "mine") == ("http://theirs", "Bearer mine")


@pytest.mark.parametrize("url", ["nowhere:80", "htp://me:secret@nowhere", ""])
def test_an_address_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match="expected http://HOST:PORT") as caught:
        Client(url)
    assert "secret" not in str(caught.value)
