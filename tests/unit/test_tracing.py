"""OpenTelemetry: one trace from the upload to its stored end, and nothing at all where nobody asks for it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from producer.middleware.tracing import traceparent
from shared.batches import Batches
from shared.runtime import tracing
from shared.store import Store
from tests.api import PICTURE, TRACE
from tests.fakes import classify
from tests.pictures import seven
from tests.served import site
from worker.queue.batch_worker import BatchWorker

STAGES = ["batch", "preprocess", "inference", "store"]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Return the recorded spans, with web and worker in this process."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "tracer", provider.get_tracer("test"))
    return exporter


def serve(store: Store, *pictures: bytes) -> None:
    """Run the waiting jobs in a worker, with these pictures or else with their own."""
    worker = BatchWorker(store, classify)
    claims = worker.claimer.claim_batch()
    worker.run([replace(claim, image=image) for claim, image in zip(claims, pictures, strict=False)] or claims)
    worker.wakeup.close()


def tree(found: tuple[ReadableSpan, ...]) -> dict[str, list[str]]:
    """Name of the parent -> names of its children, as they ended; what has none here is under its parent's id."""
    names = {one.context.span_id: one.name for one in found}
    children = defaultdict(list)
    for one in found:
        parent = one.parent.span_id if one.parent else 0
        children[names.get(parent, f"{parent:016x}")].append(one.name)
    return dict(children)


def test_an_upload_is_one_trace_of_its_client_from_the_request_to_the_stored_end(
    store: Store, spans: InMemorySpanExporter
) -> None:
    with site(store) as web:
        headers = {"traceparent": TRACE, "X-Request-ID": "req-1"}
        response = web.post("/v1/predictions", data=seven(), headers=headers, **PICTURE)
    serve(store, b"7")
    found = spans.get_finished_spans()
    assert (
        {f"{one.context.trace_id:032x}" for one in found} == {TRACE[3:35]} == {response.headers["traceresponse"][3:35]}
    )
    assert tree(found) == {
        TRACE[36:52]: ["POST /v1/predictions"],
        "POST /v1/predictions": ["create digitq"],
        "create digitq": ["queue", "process digitq"],
        "process digitq": STAGES,
    }
    by_name: dict[str, Any] = {one.name: one for one in found}
    post, process = by_name["POST /v1/predictions"], by_name["process digitq"]
    assert (post.kind, process.kind) == (SpanKind.SERVER, SpanKind.CONSUMER)
    assert (post.attributes["http.response.status_code"], post.attributes["digitq.request_id"]) == (202, "req-1")
    assert process.attributes["messaging.message.id"] == response.get_json()["id"]
    assert process.status.is_unset
    assert by_name["inference"].end_time - by_name["inference"].start_time == pytest.approx(0.9e6, abs=1e3)
    for earlier, later in (("queue", "batch"), ("batch", "preprocess"), ("preprocess", "inference")):
        assert by_name[earlier].end_time <= by_name[later].start_time + 5e6  # two clocks


def test_a_picture_that_fails_says_so_and_its_neighbour_has_a_trace_of_its_own(
    store: Store, spans: InMemorySpanExporter
) -> None:
    with site(store) as web:
        for _ in range(2):
            web.post("/v1/predictions", data=seven(), **PICTURE)
    serve(store, b"7", b"undecodable")
    good, bad = (one for one in spans.get_finished_spans() if one.name == "process digitq")
    assert good.context.trace_id != bad.context.trace_id
    assert good.status.is_unset and (bad.attributes or {})["error.type"] == "undecodable_image"


def test_a_picture_that_was_submitted_outside_of_a_trace_has_none(store: Store, spans: InMemorySpanExporter) -> None:
    store.submit(b"7")
    serve(store)
    assert spans.get_finished_spans() == ()


def test_a_result_that_came_too_late_is_an_error_of_its_span(store: Store, spans: InMemorySpanExporter) -> None:
    with site(store) as web:
        web.post("/v1/predictions", data=seven(), **PICTURE)
        web.post("/v1/batches", data={"file": [(BytesIO(seven()), "a.png")] * 2}, headers={"traceparent": TRACE})
    worker = BatchWorker(store, classify)
    for claims in (worker.claimer.claim_batch(), worker.claimer.claim_batch()):
        for claim in claims:
            store.client.zrem(f"rq:wip:{claim.queue}", f"{claim.id}:{claim.execution}")
        worker.run([replace(claim, image=b"7") if claim.batchable else claim for claim in claims])
    worker.wakeup.close()
    ends = [one for one in spans.get_finished_spans() if one.name.startswith("process")]
    assert [(one.attributes or {}).get("error.type") for one in ends] == ["lease_lost"] * 2


def test_what_the_client_does_not_sample_is_not_recorded_and_polls_never_are(
    store: Store, spans: InMemorySpanExporter
) -> None:
    with site(store) as web:
        id = web.post("/v1/predictions", data=seven(), headers={"traceparent": TRACE[:-1] + "0"}, **PICTURE).json["id"]
        web.get(f"/v1/predictions/{id}")
    serve(store, b"7")
    assert spans.get_finished_spans() == ()


def test_the_chunks_of_a_batch_are_in_the_trace_of_its_request(store: Store, spans: InMemorySpanExporter) -> None:
    with site(store) as web:
        web.post("/v1/batches", data={"file": [(BytesIO(seven()), "a.png")] * 2}, headers={"traceparent": TRACE})
    serve(store)
    found = spans.get_finished_spans()
    assert tree(found) == {
        TRACE[36:52]: ["POST /v1/batches"],
        "POST /v1/batches": ["create digitq-low"],
        "create digitq-low": ["queue", "process digitq-low"],
    }


# ---------------------------------------------------------------------- the header

FIRST, PARENT = "ab" * 16, "cd" * 8


@pytest.mark.parametrize(
    "given",
    [f"00-{FIRST}-{PARENT}-01", f"00-{FIRST}-{PARENT}-00", f"cc-{FIRST}-{PARENT}-01", f"cc-{FIRST}-{PARENT}-01-x!"],
)  # fmt: skip
def test_a_header_that_is_valid_is_passed_on_as_it_came(given: str) -> None:
    assert traceparent(given) == given


@pytest.mark.parametrize(
    "given",
    [
        "", "x", f"ff-{FIRST}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01", f"00-{FIRST}-{'0' * 16}-01",
        f"00-{FIRST}-{PARENT}-01-x", f"00-{FIRST.upper()}-{PARENT}-01", f"00-{FIRST}-{PARENT}",
        f"cc-{FIRST}-{PARENT}-01-ä",
        f"cc-{FIRST}-{PARENT}-01-{'x' * 73}", f"00-{FIRST}-{PARENT}-01\n",
    ],
)  # fmt: skip
def test_a_header_that_is_not_begins_another_trace_that_is_not_sampled(given: str) -> None:
    fresh = traceparent(given)
    assert fresh != given and fresh.endswith("-00") and traceparent(fresh) == fresh
    assert traceparent(given) != fresh


def test_a_header_may_be_this_long() -> None:
    longest = f"cc-{FIRST}-{PARENT}-01-{'x' * 72}"
    assert len(longest) == 128 and traceparent(longest) == longest


def test_a_failure_of_the_server_is_an_error_of_its_span_and_one_of_the_client_is_not(
    store: Store, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site(store) as web:
        web.post("/v1/predictions", data=b"no picture", **PICTURE)
        monkeypatch.setattr(Batches, "submit", lambda *_, **__: 1 / 0)
        web.post("/v1/batches", data={"file": (BytesIO(seven()), "a.png")})
        web.post("/nowhere")
    refused, failed = (one for one in spans.get_finished_spans() if one.name.startswith("POST"))
    assert [(one.attributes or {})["http.response.status_code"] for one in (refused, failed)] == [415, 500]
    assert [one.status.status_code.name for one in (refused, failed)] == ["UNSET", "ERROR"]
