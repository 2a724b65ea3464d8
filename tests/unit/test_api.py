"""The HTTP API, in process."""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from shared import keys
from shared.claims import Finish, Ran
from shared.ids import new_id
from shared.settings import SHIPPED_MODEL
from shared.store import Store, connect
from tests.api import PICTURE, TRACE, answer_all, is_problem
from tests.fakes import outcome
from tests.pictures import png_header, seven
from tests.served import WebClient, site


@pytest.fixture
def web(store: Store) -> Iterator[WebClient]:
    with site(store) as client:
        yield client


@pytest.fixture
def worker(store: Store, redis_url: str) -> Iterator[None]:
    """Answers every picture with a 7, shortly after it comes."""
    stop = threading.Event()
    mine = Store(connect(redis_url), store.settings)

    def serve() -> None:
        while not stop.wait(0.02):
            answer_all(mine)

    thread = threading.Thread(target=serve)
    thread.start()
    yield
    stop.set()
    thread.join()


def test_a_raw_upload_is_accepted_at_once(web: WebClient) -> None:
    response = web.post("/v1/predictions?filename=../../im3.png", data=seven(), **PICTURE)
    body = response.get_json()
    assert (response.status_code, body["state"], body["filename"]) == (202, "queued", "im3.png")
    assert response.headers["Location"] == f"/v1/predictions/{body['id']}" == body["links"]["self"]
    assert response.headers["Retry-After"] == "1"
    assert body["submitted_at"].endswith("Z") and body["digit"] is None


def test_a_multipart_upload_is_accepted_with_its_name(web: WebClient) -> None:
    body = web.post("/v1/predictions", data={"file": (BytesIO(seven()), "/etc/im3.png")}).get_json()
    assert (body["state"], body["filename"]) == ("queued", "im3.png")


def test_the_declared_type_and_the_name_play_no_part(web: WebClient) -> None:
    curl = web.post("/v1/predictions", data=seven(), content_type="application/x-www-form-urlencoded")
    assert curl.status_code == 202
    jpeg_as_text = web.post("/v1/predictions?filename=a.txt", data=seven(format="JPEG"), content_type="text/plain")
    assert jpeg_as_text.status_code == 202
    is_problem(web.post("/v1/predictions", data=b"hello", **PICTURE), 415, "unsupported_type")


def test_a_poll_tells_the_place_in_the_queue(web: WebClient) -> None:
    ids = [web.post("/v1/predictions", data=seven(), **PICTURE).get_json()["id"] for _ in range(3)]
    response = web.get(f"/v1/predictions/{ids[2]}")
    assert (response.status_code, response.get_json()["queue_position"]) == (200, 2)
    assert response.headers["Retry-After"] == "1"


def test_prefer_wait_answers_with_the_finished_prediction(web: WebClient, worker: None) -> None:
    response = web.post("/v1/predictions", data=seven(), headers={"Prefer": "wait=5"}, **PICTURE)
    body = response.get_json()
    assert (response.status_code, body["state"], body["digit"]) == (200, "succeeded", 7)
    assert response.headers["Preference-Applied"] == "wait=5"
    assert "Retry-After" not in response.headers
    assert sum(body["probabilities"]) == pytest.approx(1)
    assert set(body["timings_ms"]) == {"queue", "preprocess", "inference", "store", "total"}


def test_prefer_wait_that_is_not_met_answers_202(web: WebClient) -> None:
    start = time.monotonic()
    response = web.post("/v1/predictions", data=seven(), headers={"Prefer": "wait=1"}, **PICTURE)
    assert (response.status_code, response.get_json()["state"]) == (202, "queued")
    assert 0.9 < time.monotonic() - start < 9


def test_a_long_poll_ends_with_the_prediction(web: WebClient, store: Store) -> None:
    id = web.post("/v1/predictions", data=seven(), **PICTURE).get_json()["id"]
    threading.Timer(0.3, answer_all, [store]).start()
    start = time.monotonic()
    assert web.get(f"/v1/predictions/{id}?wait=10").get_json()["digit"] == 7
    assert time.monotonic() - start < 8


def test_both_stages_of_the_picture_can_be_seen(web: WebClient, store: Store) -> None:
    upload = seven(format="JPEG")
    id = web.post("/v1/predictions", data=upload, **PICTURE).get_json()["id"]
    is_problem(web.get(f"/v1/predictions/{id}/image?stage=input"), 404, "not_found")
    answer_all(store)
    first = web.get(f"/v1/predictions/{id}/image")
    assert (first.data, first.content_type, first.headers["X-Content-Type-Options"]) == (
        upload,
        "image/jpeg",
        "nosniff",
    )
    seen = web.get(f"/v1/predictions/{id}/image?stage=input")
    assert (seen.content_type, Image.open(BytesIO(seen.data)).size) == ("image/png", (28, 28))
    is_problem(web.get(f"/v1/predictions/{id}/image?stage=other"), 400, "bad_request")


def test_delete_cancels_queued_and_deletes_finished_predictions(web: WebClient, store: Store) -> None:
    waiting, ended = (web.post("/v1/predictions", data=seven(), **PICTURE).get_json()["id"] for _ in range(2))
    deleted = web.delete(f"/v1/predictions/{waiting}")
    assert (deleted.status_code, deleted.data, "Content-Type" in deleted.headers) == (204, b"", False)
    assert web.get(f"/v1/predictions/{waiting}").get_json()["state"] == "cancelled"
    [claim] = store.claim("w", keys.QUEUES, 64, "n")
    is_problem(web.delete(f"/v1/predictions/{ended}"), 409, "still_running")
    store.finish("w", [Finish(claim, "e30=", "", outcome(7))])
    assert web.delete(f"/v1/predictions/{ended}").status_code == 204
    is_problem(web.get(f"/v1/predictions/{ended}"), 404, "not_found")


def test_history_is_paged_newest_first(web: WebClient) -> None:
    ids = [web.post("/v1/predictions", data=seven(), **PICTURE).get_json()["id"] for _ in range(5)]
    first = web.get("/v1/predictions?limit=3").get_json()
    second = web.get(f"/v1/predictions?limit=3&cursor={first['next_cursor']}").get_json()
    assert [one["id"] for one in first["predictions"] + second["predictions"]] == ids[::-1]
    assert second["next_cursor"] is None
    for query in ("limit=0", "limit=x", "limit=101", "limit=²", "limit=" + "9" * 5000, "cursor=x"):
        is_problem(web.get(f"/v1/predictions?{query}"), 400, "bad_request")


def test_an_idempotency_key_makes_a_retry_safe(web: WebClient) -> None:
    key = {"Idempotency-Key": '"k-1"'}
    first = web.post("/v1/predictions", data=seven(), headers=key, **PICTURE).get_json()
    again = web.post("/v1/predictions", data=seven(), headers=key, **PICTURE)
    assert (again.status_code, again.get_json()["id"]) == (202, first["id"])
    is_problem(web.post("/v1/predictions", data=seven(56), headers=key, **PICTURE), 422, "idempotency_mismatch")
    is_problem(
        web.post("/v1/predictions", data=seven(), headers={"Idempotency-Key": "ä"}, **PICTURE), 400, "bad_request"
    )


def test_uploads_are_refused_for_what_they_are(store: Store) -> None:
    with site(store, max_upload_bytes=5000, max_pixels=10_000) as web:
        is_problem(web.post("/v1/predictions", data=b"", **PICTURE), 400, "no_image")
        form = {"data": b"--x--\r\n", "content_type": "multipart/form-data; boundary=x"}
        is_problem(web.post("/v1/predictions", **form), 400, "no_image")
        assert is_problem(web.post("/v1/predictions", data=bytes(5001), **PICTURE), 413, "too_large")["limit"] == 5000
        is_problem(web.post("/v1/predictions", data={"file": (BytesIO(bytes(5001)), "a")}), 413, "too_large")
        is_problem(web.post("/v1/predictions", data=bytes(500_000), **PICTURE), 413, "too_large")
        is_problem(web.post("/v1/predictions", data={"file": (BytesIO(bytes(500_000)), "a")}), 413, "too_large")
        bomb = is_problem(
            web.post("/v1/predictions", data=png_header(50_000, 50_000), **PICTURE), 422, "too_many_pixels"
        )
        assert bomb["limit"] == 10_000
        is_problem(web.post("/v1/predictions", data=png_header(0, 10), **PICTURE), 422, "undecodable_image")
        is_problem(web.post("/v1/predictions?priority=urgent", data=seven(), **PICTURE), 400, "bad_request")
        assert store.recent(10) == ([], None)


@pytest.mark.parametrize(("query", "said"), [("reed=numbers", "priority, read"), ("wait=5", "`Prefer: wait=5`")])
@pytest.mark.parametrize("path", ["/v1/predictions", "/v1/batches"])
def test_an_unknown_query_parameter_is_refused(store: Store, path: str, query: str, said: str) -> None:
    with site(store) as web:
        found = is_problem(web.post(f"{path}?priority=low&{query}", data=seven(), **PICTURE), 400, "bad_request")
    assert f"`{query.split('=')[0]}`" in found["detail"] and said in found["detail"]


def test_a_full_queue_is_503_with_the_limit_and_when_to_come_back(store: Store) -> None:
    with site(store, queue_max_length=1) as web:
        web.post("/v1/predictions", data=seven(), **PICTURE)
        response = web.post("/v1/predictions", data=seven(), **PICTURE)
    assert is_problem(response, 503, "queue_full")["limit"] == 1
    assert int(response.headers["Retry-After"]) >= 1


def test_errors_of_the_framework_are_problems_too(web: WebClient) -> None:
    is_problem(web.get("/nothing"), 404, "not_found")
    response = web.put("/v1/predictions")
    is_problem(response, 405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]
    is_problem(web.get("/v1/predictions/no-such-id"), 404, "not_found")
    is_problem(web.get(f"/v1/predictions/{new_id(now=5)}"), 410, "expired")
    is_problem(web.get(f"/v1/predictions/{new_id()}?wait=x"), 400, "bad_request")
    is_problem(web.get(f"/v1/predictions/{new_id()}?wait=nan"), 400, "bad_request")


def test_a_bug_is_a_500_without_a_traceback(web: WebClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "fetch", lambda self, id: 1 / 0)
    response = web.get("/v1/predictions/x")
    assert "division" not in response.get_data(as_text=True)
    is_problem(response, 500, "internal_error")


def test_readiness_follows_the_workers(web: WebClient, store: Store) -> None:
    is_problem(web.get("/readyz"), 503, "no_worker")
    is_problem(web.get("/v1/model"), 503, "no_worker")
    store.renew("w", [], '{"version": "m", "sha256": "x"}')
    assert web.get("/readyz").get_json() == {"status": "ready", "workers": 1, "warnings": []}
    assert web.get("/v1/model").get_json()["version"] == "m"
    store.leave("w")
    is_problem(web.get("/readyz"), 503, "no_worker")


def test_the_model_is_told_by_its_whole_card(web: WebClient, store: Store) -> None:
    text = (SHIPPED_MODEL / "card.json").read_text()
    store.renew("w", [], text)
    told = web.get("/v1/model").get_json()
    assert told == {**json.loads(text), "workers": {}, "refused": []}
    assert {"version", "sha256", "architecture", "test_error", "preprocessing", "thresholds"} <= told.keys()


def test_a_request_id_is_echoed_or_made(web: WebClient) -> None:
    assert web.get("/healthz", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == "abc-1"
    assert len(web.get("/healthz").headers["X-Request-ID"]) == 24


def test_a_poll_is_304_while_nothing_has_changed(web: WebClient, store: Store) -> None:
    id = web.post("/v1/predictions", data=seven(), **PICTURE).get_json()["id"]
    first = web.get(f"/v1/predictions/{id}")
    known = {"If-None-Match": f'"other", {first.headers["ETag"]}'}
    again = web.get(f"/v1/predictions/{id}", headers=known)
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert "Content-Type" not in again.headers
    assert again.headers["X-Content-Type-Options"] == "nosniff"
    answer_all(store)
    ended = web.get(f"/v1/predictions/{id}?wait=5", headers=known)
    assert (ended.status_code, ended.get_json()["digit"]) == (200, 7)
    known = {"If-None-Match": "W/" + ended.headers["ETag"]}
    assert web.get(f"/v1/predictions/{id}", headers=known).status_code == 304
    store.cancel(id)
    is_problem(web.get(f"/v1/predictions/{id}", headers=known), 404, "not_found")


def test_what_a_model_of_somebody_elses_makes_is_answered_even_where_it_is_no_number(
    web: WebClient, store: Store
) -> None:
    id = web.post("/v1/predictions", data=seven()).json["id"]
    odd = replace(outcome(7), confidence=float("nan"), probabilities=(float("nan"),) * 10)
    done = [Finish(claim, "e30=", "", odd) for claim in store.claim("w", keys.QUEUES, 1, "n")]
    store.finish("w", done, Ran("odd-1"))
    for path in (f"/v1/predictions/{id}", "/v1/predictions"):
        answer = web.get(path)
        assert answer.status_code == 200
        assert json.loads(answer.data, parse_constant=pytest.fail)  # NaN is no JSON


def test_a_picture_never_changes_and_is_gone_with_its_prediction(web: WebClient, store: Store) -> None:
    id = web.post("/v1/predictions", data=seven(), **PICTURE).get_json()["id"]
    answer_all(store)
    first, seen = (web.get(f"/v1/predictions/{id}/image?stage={stage}") for stage in ("upload", "input"))
    assert first.headers["Cache-Control"] == "private, max-age=3600, immutable"
    assert first.headers["ETag"] != seen.headers["ETag"]
    known = {"If-None-Match": first.headers["ETag"]}
    assert web.get(f"/v1/predictions/{id}/image", headers=known).status_code == 304
    assert web.get(f"/v1/predictions/{id}/image?stage=input", headers=known).status_code == 200
    store.cancel(id)
    is_problem(web.get(f"/v1/predictions/{id}/image", headers=known), 404, "not_found")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (TRACE, True),
        ("cc" + TRACE[2:] + "-what-the-future-brings", True),
        ("ff" + TRACE[2:], False),
        (TRACE + "-x", False),
        (TRACE.upper(), False),
        (TRACE[:3] + "0" * 32 + TRACE[35:], False),
        (TRACE[:36] + "0" * 16 + TRACE[52:], False),
        ("cc" + TRACE[2:] + "-" + "x" * 200, False),
        ("x", False),
        ("", False),
    ],
)
def test_the_trace_is_handed_on_or_begun(given: str, kept: bool, web: WebClient, store: Store) -> None:
    headers = {"traceparent": given, "X-Request-ID": "req-42"}
    response = web.post("/v1/predictions", data=seven(), headers=headers, **PICTURE)
    trace = response.headers["traceresponse"]
    assert re.fullmatch(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.*", trace) and (trace == given) is kept
    [claim] = store.claim("w", keys.QUEUES, 1, "n")
    assert claim.asked() == {"request_id": "req-42", "traceparent": trace}


# ---------------------------------------------------------------------- the page


def test_the_form_leads_to_the_digit_without_javascript(web: WebClient, worker: None) -> None:
    assert 'enctype="multipart/form-data"' in web.get("/").get_data(as_text=True)
    response = web.post("/", data={"file": (BytesIO(seven()), "im3.png")})
    assert response.status_code == 303
    page = web.get(response.headers["Location"])
    text = page.get_data(as_text=True)
    assert "The prediction is 7" in text and "91.0 %" in text and text.count("<script") == 1
    times = r"-?\d[\d.]* m?s"  # in the words of the card; the fake states more for its stages than they take
    assert re.search(
        f"{times} in all: {times} in the queue, {times} preparing, {times} reading, {times} storing[.]", text
    )
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("reason", "heading", "words"),
    [
        ("low_confidence", "Not sure", "too unsure"),
        ("not_a_digit", "No digit", "does not look like a digit"),
        ("no_ink", "Empty", "Nothing seems to be written"),
        ("several_digits", "Several digits", "shows several"),
        (None, "Not sure", "may not be a digit at all"),
    ],
)
def test_a_rejected_picture_is_called_as_on_its_card_and_told_why_in_plain_words(
    reason: str | None, heading: str, words: str, web: WebClient, store: Store
) -> None:
    id = store.submit(seven()).id
    answer_all(store, decision="reject", reason=reason)
    text = web.get(f"/predictions/{id}").get_data(as_text=True)
    assert f"<h1>{heading}</h1>" in text and words in text and "The prediction is" not in text
    assert ("The closest digit is 7." in text) == (reason != "no_ink")
    assert "Noticed: dark ink on light paper (colours inverted)." in text
    assert web.get(f"/v1/predictions/{id}").get_json()["reason"] == reason


def test_an_answer_under_review_asks_for_a_look(web: WebClient, store: Store) -> None:
    id = store.submit(seven()).id
    answer_all(store, decision="review", reason="low_confidence")
    text = web.get(f"/predictions/{id}").get_data(as_text=True)
    assert "The prediction is 7" in text and "please check" in text
    assert "Read by model m." in text


def test_the_page_of_a_waiting_picture_asks_again(web: WebClient) -> None:
    response = web.post("/", data={"file": (BytesIO(seven()), "<b>.png")})
    text = web.get(response.headers["Location"]).get_data(as_text=True)
    assert "Read by model" not in text
    assert 'http-equiv="refresh"' in text and "Waiting in the queue" in text and "<b>" not in text


def test_the_form_says_what_is_wrong_to_a_browser_and_a_script(web: WebClient) -> None:
    bad = {"file": (BytesIO(b"hello"), "a.png")}
    page = web.post("/", data=bad, headers={"Accept": "text/html,*/*;q=0.8"})
    assert (page.status_code, "not a supported image" in page.get_data(as_text=True)) == (415, True)
    is_problem(web.post("/", data={"file": (BytesIO(b"hello"), "a.png")}), 415, "unsupported_type")
    for size in (11_000_000, 17_000_000):  # more than a picture may have, more than any body
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
        large = {"data": head + bytes(size) + b"\r\n--x--\r\n", "content_type": "multipart/form-data; boundary=x"}
        page = web.post("/", **large, headers={"Accept": "text/html"})
        assert (page.status_code, page.mimetype) == (413, "text/html")
    assert b"The upload is too large" in page.data


def test_files_of_the_page_are_compressed_for_browsers(web: WebClient) -> None:
    plain, small = (web.get("/static/app.js", headers={"Accept-Encoding": kind}) for kind in ("identity", "gzip, br"))
    assert gzip.decompress(small.data) == plain.data and small.headers["Content-Encoding"] == "gzip"
    assert small.headers["Vary"] == "Accept-Encoding" == plain.headers["Vary"]
    for known in (plain, small):
        again = {"If-None-Match": known.headers["ETag"], "Accept-Encoding": "gzip"}
        assert web.get("/static/app.js", headers=again).status_code == 304


def test_errors_outside_the_api_are_pages_for_browsers(web: WebClient) -> None:
    html = {"Accept": "text/html,*/*;q=0.8"}
    for path, words in (("/predictions/nothing", "There is no such prediction"), ("/nothing", "There is no such page")):
        page = web.get(path, headers=html)
        text = page.get_data(as_text=True)
        assert (page.status_code, page.mimetype, text.split("<main")[1].count(words)) == (404, "text/html", 1)
        assert "style-src 'self'" in page.headers["Content-Security-Policy"]
        is_problem(web.get(path), 404, "not_found")
    is_problem(web.get("/v1/nothing", headers=html), 404, "not_found")


def test_json_is_never_cached_and_a_star_is_no_version(web: WebClient, store: Store) -> None:
    answer = web.get(f"/v1/predictions/{store.submit(seven()).id}", headers={"If-None-Match": "*"})
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
