"""The API's description is what the API does: every route, status, header, schema and error code."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import validate
from werkzeug.routing import Rule
from werkzeug.test import TestResponse
from werkzeug.wrappers import Response

from producer.middleware.responses import RESTRICTIONS
from producer.serving import adapter, bodies
from producer.web import events
from producer.web.docs import DOCUMENT, METHODS, resolve
from producer.web.services import MAX_DOWNLOADS
from shared import VERSION, keys
from shared.batches import Batches
from shared.claims import Finish
from shared.errors import DigitqError
from shared.ids import new_id
from shared.settings import SHIPPED_MODEL, Settings
from shared.store import Store, connect
from tests.api import answer_all
from tests.listening import listening
from tests.pictures import png_header, seven
from tests.served import WebClient, site
from tests.web import sevens

PICTURE = {"content_type": "image/png"}
#: Headers that every answer of every web server has, or that say nothing about the call.
EVERYWHERE = {"Content-Type", "Content-Length", "Date", "X-Content-Type-Options", *RESTRICTIONS}
#: (path, method, status) -> the codes that were seen; filled by the tests of this file, looked at by the last one.
SEEN: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)


def route(rule: Rule) -> str:
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)


def operation_of(client: WebClient, method: str, url: str) -> tuple[str, dict[str, Any]]:
    rule, _ = client.url_map.bind("localhost").match(url.partition("?")[0], method, return_rule=True)
    return route(rule), DOCUMENT["paths"][route(rule)][method.lower()]


def valid(instance: Any, schema: dict[str, Any]) -> None:
    """Raise what does not fit. The document is the base, so that `$ref` finds its schemas."""
    whole = {**schema, "components": DOCUMENT["components"]}
    Draft202012Validator(whole, format_checker=FormatChecker()).validate(instance)


def check(client: WebClient, method: str, url: str, **sent: Any) -> TestResponse:
    """Send a request and hold the answer against what the document says about it."""
    answer = client.open(url, method=method, **sent)
    hold(client, method, url, answer)
    return answer


def hold(client: WebClient, method: str, url: str, answer: Response) -> None:
    """Hold an answer against what the document says about it."""
    path, operation = operation_of(client, method, url)
    status = str(answer.status_code)
    assert status in operation["responses"], f"{method} {path} answers {status}: {answer.text[:200]}"
    said = resolve(operation["responses"][status])
    headers = {name.lower(): resolve(one) for name, one in said["headers"].items()}
    given = {name.lower() for name, _ in answer.headers} - {name.lower() for name in EVERYWHERE}
    assert given <= headers.keys(), f"{method} {path} {status} has undocumented headers"
    assert {name for name, one in headers.items() if one.get("required")} <= given, f"{method} {path} {status}"
    code = ""
    if "content" not in said:
        assert answer.data == b""
    else:
        media = said["content"][answer.mimetype]
        if answer.mimetype in ("application/json", "application/problem+json"):
            body = json.loads(answer.data)
            valid(body, media["schema"])
            code = body.get("code", "")
            assert not code or code in media["examples"], f"{method} {path} {status} {code} is not documented"
    SEEN[path, method, status].add(code)


@pytest.fixture
def web(store: Store) -> Iterator[WebClient]:
    with site(store) as client:
        yield client


# ---------------------------------------------------------------------- the document itself


def test_the_document_is_openapi_3_1() -> None:
    validate(DOCUMENT)
    assert DOCUMENT["info"]["version"] == VERSION


def test_every_route_is_in_the_document_and_the_other_way_round(web: WebClient) -> None:
    rules = [rule for rule in web.url_map.iter_rules() if rule.endpoint != "static"]
    served = {(route(rule), method.lower()) for rule in rules for method in rule.methods - {"HEAD", "OPTIONS"}}
    said = {(path, method) for path, item in DOCUMENT["paths"].items() for method in item if method in METHODS}
    assert served == said


def test_every_example_fits_its_schema_and_nothing_lies_around() -> None:
    text = json.dumps(DOCUMENT)
    assert {name for one in DOCUMENT["security"] for name in one} == set(DOCUMENT["components"]["securitySchemes"])
    for kind, parts in DOCUMENT["components"].items():
        if kind == "securitySchemes":  # named without a reference
            continue
        assert [name for name in parts if f'"#/components/{kind}/{name}"' not in text] in ([], ["Result"])
    for media in _media(DOCUMENT):
        for example in media.get("examples", {}).values():
            valid(resolve(example)["value"], media["schema"])


def _media(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, list):
        for one in node:
            yield from _media(one)
    elif isinstance(node, dict):
        for name, one in node.items():
            yield from one.values() if name == "content" else ()
            yield from _media(one)


def test_examples_of_problems_are_what_our_errors_say() -> None:
    ours = ("shared", "producer")
    errors = {one.code: one for one in _all_errors(DigitqError) if one.__module__.split(".")[0] in ours}
    for name, example in DOCUMENT["components"]["examples"].items():
        if "code" in example["value"]:
            error = errors[name]
            told = (example["value"]["code"], example["value"]["status"], example["value"]["title"])
            assert told == (error.code, error.status, error.title)


def _all_errors(kind: type[DigitqError]) -> Iterator[type[DigitqError]]:
    yield kind
    for one in kind.__subclasses__():
        yield from _all_errors(one)


def test_the_document_is_served_whole_and_kept(web: WebClient) -> None:
    first = check(web, "GET", "/openapi.json")
    assert first.get_json() == DOCUMENT and first.headers["Cache-Control"] == "public, max-age=300"
    assert check(web, "GET", "/openapi.json", headers={"If-None-Match": first.headers["ETag"]}).status_code == 304


def test_the_page_names_every_operation_and_loads_nothing_from_elsewhere(web: WebClient) -> None:
    page = check(web, "GET", "/docs")
    text = page.text
    for path, item in DOCUMENT["paths"].items():
        assert path in text
        assert [one for m in METHODS if m in item and f'id="{(one := item[m])["operationId"]}"' not in text] == []
    known = {"If-None-Match": page.headers["ETag"]}
    assert check(web, "GET", "/docs", headers=known).status_code == 304
    assert "<script" not in text and not re.search(r'(src|href)="(?!/|#)', text)
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


# ---------------------------------------------------------------------- what is answered


def upload(web: WebClient, query: str = "", status: int = 202, **sent: Any) -> Any:
    sent = {"data": seven(), **PICTURE, **sent}
    answer = check(web, "POST", f"/v1/predictions{query}", **sent)
    assert answer.status_code == status, answer.text
    return answer.get_json()


def test_predictions_in_every_state(web: WebClient, store: Store) -> None:
    id, other = upload(web, "?filename=im3.png&priority=high")["id"], upload(web, headers={"Prefer": "wait=0"})["id"]
    queued = check(web, "GET", f"/v1/predictions/{id}")
    known = {"If-None-Match": queued.headers["ETag"]}
    assert check(web, "GET", f"/v1/predictions/{id}", headers=known).status_code == 304
    check(web, "DELETE", f"/v1/predictions/{other}")
    assert check(web, "GET", f"/v1/predictions/{other}").get_json()["state"] == "cancelled"
    answer_all(store)
    assert check(web, "GET", f"/v1/predictions/{id}", headers=known).get_json()["state"] == "succeeded"
    check(web, "GET", "/v1/predictions?limit=1")
    assert check(web, "GET", "/v1/predictions?digit=7&decision=accept&state=succeeded").get_json()["matching"] == 1
    for stage in ("upload", "input"):
        picture = check(web, "GET", f"/v1/predictions/{id}/image?stage={stage}")
        known = {"If-None-Match": picture.headers["ETag"]}
        assert check(web, "GET", f"/v1/predictions/{id}/image?stage={stage}", headers=known).status_code == 304
    check(web, "GET", f"/predictions/{id}")


def test_a_running_and_a_failed_prediction(web: WebClient, store: Store) -> None:
    id = upload(web)["id"]
    [claim] = store.claim("w", keys.QUEUES, 1, "n")
    assert check(web, "GET", f"/v1/predictions/{id}").get_json()["state"] == "running"
    check(web, "DELETE", f"/v1/predictions/{id}")
    store.finish("w", [Finish(claim, "", "e30=", error=("undecodable_image", "…"))])
    assert check(web, "GET", f"/v1/predictions/{id}").get_json()["error"]["code"] == "undecodable_image"


def test_prefer_wait_that_is_met(web: WebClient, store: Store) -> None:
    with sevens(store):
        upload(web, status=200, headers={"Prefer": "wait=30"})


def test_what_is_gone_or_never_was(web: WebClient, store: Store) -> None:
    for what in ("/v1/predictions/{}", "/v1/predictions/{}/image", "/v1/batches/{}", "/v1/batches/{}/results"):
        for id in ("nothing", new_id(now=5), new_id()):
            check(web, "GET", what.format(id))
            if what.endswith("{}"):
                check(web, "DELETE", what.format(id))
        if "results" not in what:
            check(web, "GET", what.format("nothing") + "?wait=x&stage=x")
    for id in ("nothing", new_id(now=5), new_id()):
        check(web, "GET", f"/predictions/{id}")
        check(web, "GET", f"/predictions/{id}", headers={"Accept": "text/html"})


@pytest.mark.parametrize("path", ["/v1/predictions", "/"])
def test_what_is_refused(path: str, store: Store) -> None:
    with site(store, max_upload_bytes=5000, max_pixels=10_000, queue_max_length=1) as web:

        def code(data: bytes, query: str = "", **headers: str) -> str:
            form = {"data": {"file": (BytesIO(data), "a")}} if path == "/" else {"data": data, **PICTURE}
            return str(check(web, "POST", path + query, headers=headers, **form).get_json()["code"])

        empty = {"data": b"--x--\r\n", "content_type": "multipart/form-data; boundary=x"}
        for form, expected in [(empty, "no_image"), ({"data": form_of(b"1", b"2")}, "too_many_files"),
                               ({"data": {"x": (BytesIO(b"y"), "z")}}, "unexpected_field"),
                               ({"data": {"file": (BytesIO(b"data:,"), "a")}}, "invalid_base64")]:  # fmt: skip
            assert check(web, "POST", path, **form).get_json()["code"] == expected
        assert code(seven(), "?priority=x") == "bad_request"
        assert code(seven(), "?callback_url=https://example.com") == "webhooks_disabled"
        assert code(bytes(5001)) == "too_large"
        assert code(b"hello") == "unsupported_type"
        assert code(png_header(0, 10)) == "undecodable_image"
        assert code(png_header(50_000, 50_000)) == "too_many_pixels"
        check(web, "POST", path, data={"file": (BytesIO(seven()), "a")}, headers={"Idempotency-Key": "k"})
        assert code(seven(56), "", **{"Idempotency-Key": "k"}) == "idempotency_mismatch"
        assert code(seven()) == "queue_full"
        check(web, "GET", "/v1/predictions?limit=0")
    with site(store, webhook_secret="whsec_" + "A" * 32) as web:
        assert code(seven(), "?callback_url=https://127.1/") == "callback_refused"


def test_batches(web: WebClient, store: Store) -> None:
    form = {"file": [(BytesIO(seven()), "a.png"), (BytesIO(b"hello"), "b.png")]}
    id = check(web, "POST", "/v1/batches", data=form, headers={"Idempotency-Key": "k"}).get_json()["id"]
    known = {"If-None-Match": check(web, "GET", f"/v1/batches/{id}").headers["ETag"]}
    assert check(web, "GET", f"/v1/batches/{id}", headers=known).status_code == 304
    lines = check(web, "GET", f"/v1/batches/{id}/results").text.splitlines()
    assert len(lines) == 2
    for line in lines:
        valid(json.loads(line), DOCUMENT["components"]["schemas"]["Result"])
    check(web, "GET", f"/v1/batches/{id}/results?bom=1", headers={"Accept": "text/csv"})
    check(web, "GET", f"/v1/batches/{id}/results?bom=1")
    store.claim("w", keys.QUEUES, 1, "n")
    assert check(web, "DELETE", f"/v1/batches/{id}").get_json()["code"] == "still_running"
    more = {"data": {"file": (BytesIO(seven(56)), "a.png")}, "headers": {"Idempotency-Key": "k"}}
    assert check(web, "POST", "/v1/batches", **more).get_json()["code"] == "idempotency_mismatch"
    waiting = check(web, "POST", "/v1/batches?filename=b.zip", data=form_of(b"y")).get_json()["id"]
    assert [one["id"] for one in check(web, "GET", "/v1/batches").get_json()["batches"]] == [waiting, id]
    assert check(web, "GET", "/v1/batches?limit=0").get_json()["code"] == "bad_request"
    assert check(web, "DELETE", f"/v1/batches/{waiting}").status_code == 204
    assert check(web, "POST", "/v1/batches", data=form_of(b"x"), headers={"Prefer": "wait=1"}).status_code == 202


def test_prefer_wait_that_is_met_by_a_batch(web: WebClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Batches, "wait", lambda self, id, *_: (self.cancel(id), self.fetch(id))[1])
    assert check(web, "POST", "/v1/batches", data=form_of(b"x"), headers={"Prefer": "wait=1"}).status_code == 200


def form_of(*pictures: bytes) -> dict[str, Any]:
    return {"file": [(BytesIO(one), "a.png") for one in pictures]}


def test_batches_that_are_refused(store: Store) -> None:
    def idx(count: int, side: int = 28) -> bytes:
        return b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (count, side, side))

    with site(store, batch_max_images=2, batch_max_bytes=50_000, queue_max_length=1, max_pixels=1000) as web:
        for body, code in [
            (b"", "empty_batch"), (b"PK\5\6" + bytes(18), "empty_batch"), (b"hello", "unsupported_type"),
            (idx(1), "malformed_batch"), (bytes(50_001), "too_large"), (idx(1, 9999), "too_many_pixels"),
            (idx(2) + bytes(2 * 784), "too_many_images"),
        ]:  # fmt: skip
            answer = check(web, "POST", "/v1/batches", data=body, content_type="application/octet-stream")
            assert answer.get_json()["code"] == code, body[:20]
        for form, code in [({"x": (BytesIO(b"y"), "z")}, "unexpected_field"), (b"--x--", "no_image")]:
            multipart = {"data": form, "content_type": "multipart/form-data; boundary=x"}
            assert check(web, "POST", "/v1/batches", **multipart).get_json()["code"] == code
        store.submit(seven())
        assert check(web, "POST", "/v1/batches", data=idx(1) + bytes(784)).get_json()["code"] == "queue_full"
        assert check(web, "POST", "/v1/batches?priority=x", data=idx(1)).get_json()["code"] == "bad_request"
        query = "?callback_url=https://example.com"
        assert check(web, "POST", f"/v1/batches{query}", data=idx(1)).get_json()["code"] == "bad_request"
        three = check(web, "POST", "/v1/batches", data=form_of(b"1", b"2", b"3"))
        assert three.get_json()["code"] == "too_many_images"


def test_the_service(web: WebClient, store: Store) -> None:
    for path in ("/readyz", "/v1/model", "/v1/status", "/healthz", "/metrics", "/"):
        check(web, "GET", path)
    store.renew("w", [], (SHIPPED_MODEL / "card.json").read_text())
    check(web, "GET", "/readyz")
    known = {"If-None-Match": check(web, "GET", "/v1/model").headers["ETag"]}
    assert check(web, "GET", "/v1/model", headers=known).status_code == 304


def test_the_events_and_too_many_listeners(web: WebClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_STREAM_SECONDS", 0)
    assert check(web, "GET", "/v1/events").text.startswith("retry: 2000")
    monkeypatch.setattr(web.services.events, "_limit", 0)
    assert check(web, "GET", "/v1/events").get_json()["code"] == "too_many_listeners"


def test_each_event_fits_the_schema_of_the_stream(web: WebClient, store: Store) -> None:
    stream = DOCUMENT["paths"]["/v1/events"]["get"]["responses"]["200"]["content"]["text/event-stream"]
    listener = listening(web, after="an id of long ago")
    store.submit(seven())
    answer_all(store)
    listener.wait_for("prediction")
    for kind in resolve(stream["schema"])["properties"]["event"]["enum"]:
        event = listener.events(kind)[0]
        valid(event, stream["schema"])  # in OpenAPI 3.1 the schema of a stream describes one event
    valid(listener.wait_for("prediction")[0], DOCUMENT["components"]["schemas"]["Prediction"])


def test_a_key_form_without_a_body_logs_out_as_the_document_says(web: WebClient) -> None:
    assert check(web, "POST", "/key").status_code == 303
    assert not DOCUMENT["paths"]["/key"]["post"]["requestBody"].get("required", False)


def test_a_body_that_comes_too_slowly_or_finds_no_room(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.01)
    monkeypatch.setattr(bodies, "SWEEP_SECONDS", 0.02)
    monkeypatch.setattr(adapter, "SPOOLED_BATCHES", 0)
    with site(store) as web:
        for path in ("/v1/predictions", "/v1/batches", "/", "/key"):
            for length in ({}, {"Content-Length": "9"}):
                slow = web.here.ask("POST", path, pieces=[], stalls=True, headers=length)
                assert slow.status == 408
                hold(web, "POST", path, Response(slow.body(), slow.status, slow.headers))
            full = web.here.ask("POST", path, bytes(70_000))
            if path != "/key":
                hold(web, "POST", path, Response(full.body(), full.status, full.headers))


def test_a_download_too_many(web: WebClient) -> None:
    id = check(web, "POST", "/v1/batches", data=form_of(seven(), seven())).get_json()["id"]
    large = web.post("/v1/predictions", data=seven() + bytes(300_000)).get_json()["links"]["image"]
    etag = web.get(large).headers["ETag"]
    for _ in range(2 * MAX_DOWNLOADS):  # each gives its place back, also where nothing is sent
        assert web.get(large, headers={"If-None-Match": etag}).status_code == 304
    while web.services.downloads.acquire(blocking=False):
        pass
    for path in (f"/v1/batches/{id}/results", large):
        assert check(web, "GET", path).get_json()["code"] == "too_many_downloads"
    web.services.downloads.release()
    assert check(web, "GET", f"/v1/batches/{id}/results").headers["X-Total-Count"] == "2"


def test_the_form(web: WebClient) -> None:
    assert check(web, "POST", "/", data=form_of(seven())).status_code == 303
    check(web, "POST", "/", data={"x": "y"}, content_type="multipart/form-data", headers={"Accept": "text/html"})


def sent_with(path: str, method: str) -> dict[str, Any]:
    """Return the arguments of an uploading request."""
    return {"data": form_of(seven())} if method == "post" and path != "/key" else {}


def test_requests_without_a_key_and_from_another_site(store: Store) -> None:
    with site(store, api_keys="alice:correct-horse-battery") as web:
        for path, item in DOCUMENT["paths"].items():
            for method in (one for one in METHODS if one in item):
                call, security = (method.upper(), path.replace("{id}", new_id())), item[method].get("security")
                status = check(web, *call, **sent_with(path, method)).status_code
                assert (status == 401) == (security != []), call
                if method != "get":
                    foreign = {"Sec-Fetch-Site": "cross-site"}
                    assert check(web, *call, headers=foreign, **sent_with(path, method)).status_code == 403
        assert check(web, "POST", "/key", data={"key": "guessed"}).status_code == 401


def test_requests_over_the_rate_limit(store: Store) -> None:
    with site(store, rate_limit="1/hour") as web:
        upload(web)
        for path in ("/", "/v1/predictions", "/v1/batches"):
            assert check(web, "POST", path, data=form_of(seven())).get_json()["code"] == "rate_limited"


def test_redis_out_of_reach() -> None:
    with site(Store(connect("unix:///nowhere/redis.sock"), Settings())) as web:
        for path, item in DOCUMENT["paths"].items():
            for method in METHODS:
                if "503" in item.get(method, {}).get("responses", {}) and path != "/v1/events":
                    sent: dict[str, Any] = {"data": form_of(seven())} if method == "post" else {}
                    answer = check(web, method.upper(), path.replace("{id}", new_id()), **sent)
                    assert answer.get_json()["code"] == "redis_unavailable", path


def test_a_redis_that_would_lose_what_is_accepted(web: WebClient, store: Store) -> None:
    store.client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        for method, path in (("POST", "/v1/predictions"), ("POST", "/v1/batches"), ("POST", "/"), ("GET", "/readyz")):
            sent: dict[str, Any] = {"data": form_of(seven())} if method == "POST" else {}
            assert check(web, method, path, **sent).get_json()["code"] == "redis_misconfigured"
    finally:
        store.client.config_set("maxmemory-policy", "noeviction")


def test_a_bug_of_ours(web: WebClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "fetch", lambda *_: 1 / 0)
    assert check(web, "GET", f"/v1/predictions/{new_id()}").get_json()["code"] == "internal_error"


@pytest.fixture(scope="module", autouse=True)
def everything_that_the_document_promises_was_seen(request: pytest.FixtureRequest) -> Iterator[None]:
    """After all tests of this file, in whatever order, if they run in one run."""
    yield
    ran = {item.originalname for item in request.session.items if item.path == request.path}  # type: ignore[attr-defined]
    if not {name for name, one in globals().items() if name.startswith("test_") and isinstance(one, Callable)} <= ran:
        return
    for path, item in DOCUMENT["paths"].items():
        for method in METHODS:
            for status, said in item.get(method, {}).get("responses", {}).items():
                if status == "500":
                    continue  # the same for all, seen once
                problems = resolve(said).get("content", {}).get("application/problem+json", {}).get("examples", {})
                seen = SEEN[path, method.upper(), status]
                assert seen and set(problems) <= seen, f"{method} {path} {status}: not seen {set(problems) - seen}"
