"""Pictures read as numbers over HTTP, in process, with a stand-in for the model."""

from __future__ import annotations

import csv
import json
from base64 import b64encode
from collections.abc import Iterator
from io import BytesIO, StringIO
from typing import Any

import pytest
from rq.job import Job

from producer.web import events
from shared.numbers import PageReading
from shared.prediction import Outcome
from shared.store import Store
from tests import fakes
from tests.api import PICTURE, answer_all, is_problem
from tests.listening import listening
from tests.pages import PAGE, SUDOKU
from tests.pictures import idx, seven
from tests.served import WebClient, site
from worker.inference.classify import Classified, Pictures
from worker.queue.batch_worker import BatchWorker


@pytest.fixture
def web(store: Store) -> Iterator[WebClient]:
    with site(store) as client:
        yield client


def read_pages(store: Store, page: PageReading = PAGE) -> None:
    """A worker that sees the same page in every picture."""

    def read(images: Pictures) -> Classified:
        return Classified([Outcome(None, None, None, page.decision, (), b"", None, 1.0, page) for _ in images])

    worker = BatchWorker(store, fakes.classify, read)
    worker.work(burst=True)
    worker.wakeup.close()


def kwargs(store: Store, id: str) -> Any:
    return Job.fetch(id, connection=store.client, serializer="json").kwargs


@pytest.mark.parametrize(
    "sent",
    [
        {"data": seven(), **PICTURE},
        {"data": {"file": (BytesIO(seven()), "a.png")}},
        {"json": {"image": b64encode(seven()).decode()}},
    ],
    ids=["raw", "multipart", "json"],
)
def test_a_picture_is_read_as_its_query_says_however_it_is_sent(web: WebClient, store: Store, sent: Any) -> None:
    id = web.post("/v1/predictions?read=numbers", **sent).get_json()["id"]
    assert kwargs(store, id) == {"read": "numbers"}


def test_the_html_form_reads_numbers(web: WebClient, store: Store) -> None:
    page = web.get("/", headers={"Accept": "text/html"}).text
    action = page.partition('<form id="form"')[2].partition('action="')[2].partition('"')[0]
    gone_to = web.post(action, data={"file": (BytesIO(seven()), "a.png")}).headers["Location"]
    assert kwargs(store, gone_to.rpartition("/")[2]) == {"read": "numbers"}


@pytest.mark.parametrize("query", ["", "?read=digit"])
def test_one_digit_is_read_by_default(web: WebClient, store: Store, query: str) -> None:
    id = web.post(f"/v1/predictions{query}", data=seven(), **PICTURE).get_json()["id"]
    answer_all(store)
    body = web.get(f"/v1/predictions/{id}").get_json()
    assert kwargs(store, id) == {} and body["digit"] == 7
    assert not {"numbers", "grid", "rotated"} & body.keys()


@pytest.mark.parametrize("path", ["/v1/predictions", "/v1/batches", "/"])
def test_another_way_of_reading_is_refused_with_those_there_are(web: WebClient, path: str) -> None:
    answer = web.post(f"{path}?read=words", data={"file": (BytesIO(seven()), "a.png")})
    assert "`digit`" in is_problem(answer, 400, "bad_request")["detail"]


def test_a_page_is_answered_as_the_contract_says(web: WebClient, store: Store) -> None:
    id = web.post("/v1/predictions?read=numbers", data=seven(), **PICTURE).get_json()["id"]
    assert "numbers" not in web.get(f"/v1/predictions/{id}").get_json()
    read_pages(store)
    body = web.get(f"/v1/predictions/{id}").get_json()
    assert (body["digit"], body["probabilities"], body["decision"]) == (None, None, "review")
    assert (body["grid"], body["rotated"]) == (None, 0)
    assert [(one["text"], one["decision"]) for one in body["numbers"]] == [
        ("735426", "accept"), ("12", "review"), ("90", "accept"),
    ]  # fmt: skip
    assert body["numbers"][1]["box"] == [200, 12, 22, 20]
    assert body["numbers"][1]["digits"][0] == {
        "digit": 1, "confidence": 0.99, "decision": "review", "box": [200, 12, 10, 20],
    }  # fmt: skip
    [shown] = web.get("/v1/predictions").get_json()["predictions"]
    assert shown == body


def test_a_table_is_a_string_for_each_row(web: WebClient, store: Store) -> None:
    id = web.post("/v1/predictions?read=numbers", data=seven(), **PICTURE).get_json()["id"]
    read_pages(store, SUDOKU)
    grid = web.get(f"/v1/predictions/{id}").get_json()["grid"]
    assert (grid["rows"], grid["columns"], grid["cells"]) == (2, 2, ["1.", ".2"])
    assert grid["boxes"][1][0] == [0, 40, 40, 40]


def test_a_page_has_no_28x28_and_says_where_its_digits_are(web: WebClient, store: Store) -> None:
    id = web.post("/v1/predictions?read=numbers", data=seven(), **PICTURE).get_json()["id"]
    read_pages(store)
    assert "`box`" in is_problem(web.get(f"/v1/predictions/{id}/image?stage=input"), 404, "not_found")["detail"]
    assert web.get(f"/v1/predictions/{id}/image").status_code == 200


def test_the_page_of_a_prediction_shows_the_numbers_as_text(web: WebClient, store: Store) -> None:
    id = web.post("/v1/predictions?read=numbers", data=seven(), **PICTURE).get_json()["id"]
    read_pages(store)
    shown = web.get(f"/predictions/{id}", headers={"Accept": "text/html"}).text
    assert "735426 12\n90" in shown and "Please check" in shown


def test_the_page_of_a_prediction_says_that_nothing_was_found(web: WebClient, store: Store) -> None:
    id = web.post("/v1/predictions?read=numbers", data=seven(), **PICTURE).get_json()["id"]
    nothing = {"digit": None, "confidence": None, "probabilities": None, "decision": "reject", "reason": "no_ink"}
    answer_all(store, **nothing, page=PageReading(), input=b"")
    shown = web.get(f"/predictions/{id}", headers={"Accept": "text/html"}).text
    assert "Nothing seems to be written here" in shown and "None" not in shown


def test_the_same_key_for_another_way_of_reading_is_a_mismatch(web: WebClient) -> None:
    key = {"headers": {"Idempotency-Key": "k"}, "data": seven(), **PICTURE}
    first = web.post("/v1/predictions?read=numbers", **key).get_json()["id"]
    assert web.post("/v1/predictions?read=numbers", **key).get_json()["id"] == first
    assert "`read`" in is_problem(web.post("/v1/predictions", **key), 422, "idempotency_mismatch")["detail"]


def batch(web: WebClient, store: Store, data: Any, **sent: Any) -> str:
    """Submits a batch to be read as numbers, and reads it; returns its path."""
    answer = web.post("/v1/batches?read=numbers", data=data, **sent)
    assert (answer.status_code, answer.get_json()["read"]) == (202, "numbers")
    read_pages(store)
    return str(answer.headers["Location"])


def test_results_of_a_batch_have_the_numbers(web: WebClient, store: Store) -> None:
    path = batch(web, store, {"file": [(BytesIO(seven()), "a.png"), (BytesIO(b"none"), "b.txt")]})
    good, bad = map(json.loads, web.get(f"{path}/results").text.splitlines())
    assert [one["text"] for one in good["numbers"]] == ["735426", "12", "90"]
    assert (good["grid"], good["rotated"], bad["numbers"], bad["error"]["code"]) == (None, 0, None, "unsupported_type")


def test_csv_has_the_numbers_as_text(web: WebClient, store: Store) -> None:
    path = batch(web, store, {"file": [(BytesIO(seven()), "a.png"), (BytesIO(b"none"), "b.txt")]})
    rows = list(csv.DictReader(StringIO(web.get(f"{path}/results", headers={"Accept": "text/csv"}).text)))
    assert list(rows[0])[:6] == ["index", "filename", "state", "digit", "text", "confidence"]
    assert [(row["state"], row["text"]) for row in rows] == [("succeeded", "735426 12 / 90"), ("failed", "")]


def test_an_idx_file_is_read_as_numbers_too(web: WebClient, store: Store) -> None:
    path = batch(web, store, idx(3), content_type="application/octet-stream")
    found = [json.loads(line) for line in web.get(f"{path}/results").text.splitlines()]
    assert [len(one["numbers"]) for one in found] == [3, 3, 3]


def test_the_event_of_a_page_has_the_numbers(web: WebClient, store: Store) -> None:
    listener = listening(web)
    id = web.post("/v1/predictions?read=numbers", data=seven(), **PICTURE).get_json()["id"]
    read_pages(store)
    assert listener.wait_for("prediction") == [web.get(f"/v1/predictions/{id}").get_json()]


def test_large_pages_push_older_events_out(web: WebClient, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "RING_BYTES", 1500)
    listener = listening(web)
    for _ in range(5):
        web.post("/v1/predictions?read=numbers", data=seven(), **PICTURE)
    resets = len(listener.wait_for("reset"))  # it has subscribed
    read_pages(store)
    listener.wait_for("reset", resets + 1)
    kept = web.services.events._ring
    assert 0 < len(kept) < 5 and sum(one.size for one in kept) <= 1500
