"""Tests of the errors that the HTTP client makes of answers: digitq's own, and those of proxies and other servers."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from producer.client import http_errors
from producer.client.retry import NEVER
from shared import VERSION
from shared.errors import (
    BodyTooSlow,
    DigitqError,
    NotFound,
    QueueFull,
    RateLimited,
    ServerUnavailable,
    TooLarge,
    UnexpectedAnswer,
)
from tests.canned import answers, foreign, problem
from tests.pictures import seven


def test_known_codes_are_our_exceptions_and_unknown_ones_carry_their_code() -> None:
    sdk, _ = answers(problem(404, "not_found"), problem(418, "teapot", hint="h"), httpx2.Response(500, text="<html>"))
    with pytest.raises(NotFound, match="D"):
        sdk.get("x")
    with pytest.raises(DigitqError) as teapot:
        sdk.get("x")
    assert (teapot.value.code, teapot.value.status, teapot.value.title) == ("teapot", 418, "T")
    assert teapot.value.extensions["hint"] == "h"
    with pytest.raises(DigitqError) as page:
        sdk.get("x")
    assert (page.value.code, DigitqError.code) == ("http_500", "internal_error")


@pytest.mark.parametrize(
    "answer",
    [foreign(200), foreign(201, "{", "application/json"), foreign(200, "[]", "application/json"),
     foreign(200, '{"id": "x"}', "application/json"), foreign(200, "", "text/plain")],
)  # fmt: skip
def test_an_answer_of_another_server_is_reported_as_such(answer: httpx2.Response) -> None:
    sdk, _ = answers(answer)
    asked: list[Callable[[], Any]] = [
        lambda: sdk.submit(seven()), lambda: sdk.submit_batch([seven()]), lambda: sdk.get("x"),
        lambda: sdk.get_batch("x"), lambda: sdk.cancel("x"), sdk.status,
    ]  # fmt: skip
    for one in asked:
        with pytest.raises(UnexpectedAnswer, match=r"at http://nowhere.*URL of digitq"):
            one()


def test_a_state_of_a_newer_server_is_named_with_what_to_do() -> None:
    newer = {"id": "x", "state": "paused"}
    sdk, _ = answers(httpx2.Response(200, json=newer | {"batches": [newer]}))
    asked: list[Callable[[], Any]] = [
        lambda: sdk.submit(seven()), lambda: sdk.get("x"), lambda: sdk.submit_batch([seven()]),
        lambda: sdk.get_batch("x"), sdk.list_batches,
    ]  # fmt: skip
    for one in asked:
        with pytest.raises(UnexpectedAnswer, match=f"'paused'.*newer than this client.*{VERSION}.*Update the client"):
            one()


def test_no_error_tells_the_password_in_a_url() -> None:
    sdk, _ = answers(foreign(200), httpx2.ConnectError("Connection refused"))
    sdk._operations._retry = NEVER
    sdk._operations._http.base_url = "http://me:secret@nowhere"
    with pytest.raises(UnexpectedAnswer, match=r"at http://nowhere/v1/status\.") as caught:
        sdk.status()
    with pytest.raises(ServerUnavailable, match=r"at http://nowhere\. Is it running") as refused:
        sdk.status()
    assert "secret" not in f"{caught.value} {refused.value}"


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (httpx2.ConnectError("[Errno 111] Connection refused"), r"\. Is it running\? \(`make up`\)"),
        (httpx2.ConnectError("All connection attempts failed"), r"\. Is it running\? \(`make up`\)"),
        (httpx2.ConnectError("Name or service not known"), ": Name or service not known"),
        (httpx2.ReadError("Connection refused"), ": Connection refused"),
        (httpx2.ReadTimeout(""), ": ReadTimeout"),
    ],
)
def test_a_server_that_does_not_answer_is_named_with_the_cause(trouble: httpx2.RequestError, said: str) -> None:
    trouble.request = httpx2.Request("GET", "http://nowhere/x")
    error = http_errors.unreachable(trouble)
    assert re.fullmatch(f"digitq does not answer at http://nowhere{said}", str(error)) and error.__cause__ is trouble


def test_what_an_answer_says_besides_the_standard_is_kept_and_what_it_says_wrongly_is_not() -> None:
    error = http_errors.error_of(problem(503, "queue_full", retry_after_seconds="soon", limit=5, type="t"))
    assert error.extensions == {"limit": 5}
    assert http_errors.error_of(problem(503, "queue_full", "7")).extensions == {"retry_after_seconds": 7}
    assert http_errors.error_of(problem(503, "queue_full", "-7")).extensions == {}
    bare = httpx2.Response(503, headers={"Content-Type": "application/json"}, json={"code": "teapot"})
    assert (str(http_errors.error_of(bare)), http_errors.error_of(bare).title) == ("HTTP 503", DigitqError.title)


def test_an_error_of_ours_keeps_its_own_status_and_title() -> None:
    error = http_errors.error_of(problem(500, "queue_full"))
    assert (type(error), error.status, error.title) == (QueueFull, QueueFull.status, QueueFull.title)


@pytest.mark.parametrize("type", ["text/html", "text/plain", ""])
def test_only_what_is_declared_as_json_is_read_as_json(type: str) -> None:
    told = foreign(404, '{"code": "not_found", "detail": "D"}', type)
    assert http_errors.error_of(told).code == "http_404"


@pytest.mark.parametrize("body", ["[1]", "7", "null", "{", "\udcff"])
def test_what_is_no_object_of_json_is_none(body: str) -> None:
    broken = httpx2.Response(
        500, headers={"Content-Type": "application/json"}, content=body.encode(errors="surrogateescape")
    )
    assert http_errors.json_object(broken) == {}


def test_a_member_that_is_null_is_missing() -> None:
    sdk, _ = answers(httpx2.Response(200, json={"id": "x", "state": None}))
    with pytest.raises(UnexpectedAnswer):
        sdk.get("x")


@pytest.mark.parametrize(
    ("answer", "kind", "said", "tries"),
    [
        (foreign(413), TooLarge, "proxy .* no body of this size", 1),
        (foreign(413, '{"message": "Request Too Long", "self": 1}', "application/json"), TooLarge, "HTTP 413", 1),
        (foreign(408, ""), BodyTooSlow, "proxy", 1),
        (foreign(400), DigitqError, "HTTP 400 Bad Request: a proxy", 1),
        (foreign(414), DigitqError, "proxy .* address too long", 1),
        (foreign(431), DigitqError, "proxy .* headers too large", 1),
        (foreign(429, "", **{"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}), RateLimited, "proxy", 5),
        (foreign(502), ServerUnavailable, "HTTP 502 Bad Gateway", 5),
        (foreign(504), ServerUnavailable, "proxy timed out waiting", 5),
        (foreign(302, Location="https://login.example/"), DigitqError, "to https://login.example/. .*URL", 1),
        (foreign(404, '{"code": 404, "message": "x"}', "application/json"), DigitqError, "URL of digitq", 1),
        (foreign(400, '{"code": {"a": 1}}', "application/problem+json"), DigitqError, "HTTP 400", 1),
        (foreign(500, "{", "application/problem+json"), DigitqError, "HTTP 500", 1),
        (
            foreign(503, '{"code": "queue_full", "retry_after_seconds": "soon"}', "application/json"),
            QueueFull,
            "HTTP 503",
            5,
        ),
    ],
)
def test_errors_of_proxies_are_explained(
    answer: httpx2.Response, kind: type[DigitqError], said: str, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.client.blocking.time", SimpleNamespace(sleep=lambda seconds: None))
    sdk, asked = answers(answer)
    with pytest.raises(kind, match=said) as caught:
        sdk.submit(seven())
    assert type(caught.value) is kind and len(asked) == tries
    if kind is DigitqError:
        assert caught.value.code == f"http_{answer.status_code}"
