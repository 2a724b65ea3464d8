"""The HTTP API for batches under /v1/batches, thin like `producer.web.api`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from threading import BoundedSemaphore

from flask import Blueprint, Response, current_app, g, request

from producer.cli.csv_rows import BOM, csv_lines
from producer.middleware.access import caller
from producer.middleware.answers import answer, conditional, preferred_type
from producer.middleware.metrics import SUBMITTED
from producer.middleware.trace import trace_of
from producer.serving.downloads import take_download
from producer.uploads.intake import received
from producer.web.api import asked_wait, client_of, idempotency_key, preferred_wait, settings, waiters
from shared.batch import Batch
from shared.batches import Batches
from shared.errors import BadRequest
from shared.keys import Priority

log = logging.getLogger("digitq.web")

bp = Blueprint("batches", __name__, url_prefix="/v1/batches")

#: Requests of one web process that may wait for the end of a batch; past that they are answered at once, and poll.
MAX_WAITING = 16
#: The header that says how many results follow.
TOTAL = "X-Total-Count"
#: Answers in pieces of about this many results.
RESULTS_AT_ONCE = 256


def batches() -> Batches:
    """The application's batches."""
    return current_app.extensions["digitq_batches"]  # type: ignore[no-any-return]


@contextmanager
def seat() -> Iterator[bool]:
    """Whether there is room for one more who waits."""
    room: BoundedSemaphore = current_app.extensions["digitq_batch_room"]
    free = room.acquire(blocking=False)
    try:
        yield free
    finally:
        if free:
            room.release()


def represent(batch: Batch, status: int = 200) -> Response:
    """A batch, with the advice when to ask again while it has not ended."""
    response = answer(batch.to_json(settings().root_path), status)
    if not batch.state.terminal:
        response.headers["Retry-After"] = "1"
    return response


@bp.post("")
def create() -> Response:
    """Accepts many pictures, whole or not at all; waits for them where the client prefers to."""
    priority = request.args.get("priority", "low")
    if priority not in list(Priority):
        raise BadRequest(f"priority is one of {', '.join(Priority)}")
    if "callback_url" in request.args:
        raise BadRequest("callback_url is for single pictures: poll a batch, or wait for it")
    key, trace = idempotency_key(request), trace_of(request, g.get("span"), "", Priority(priority).queue)
    with received(request, settings()) as body:
        fingerprint = body.fingerprint() if key else ""
        upload = body.upload(settings())
        batch = batches().submit(
            upload.chunks, upload.total, priority=Priority(priority), idempotency_key=key, fingerprint=fingerprint,
            caller=caller(request, g.owner), notes={"request_id": g.request_id, "traceparent": trace},
            skipped=lambda: upload.skipped,
        )  # fmt: skip
    SUBMITTED.labels("batch").inc(batch.total)
    log.debug("accepted", extra={"batch_id": batch.id, "pictures": batch.total})
    wait = preferred_wait(request)
    batch = waited(batch.id, wait) if wait else batch
    response = represent(batch, 200 if batch.state.terminal else 202)
    response.headers["Location"] = f"{settings().root_path}/v1/batches/{batch.id}"
    response.headers["Vary"] = "Prefer"
    if wait:
        response.headers["Preference-Applied"] = f"wait={wait:g}"
    return response


def waited(id: str, seconds: float) -> Batch:
    """The batch as soon as it has ended, or as it stands after so many seconds, or at once where too many wait."""
    client, closed = client_of(request), waiters()._closed
    with seat() as free:
        if client:
            client.watch(lambda: None)
        stopped = lambda: closed.is_set() or bool(client and client.gone)  # noqa: E731
        return batches().wait(id, seconds if free else 0, stopped, g.owner)


@bp.get("/<id>")
def read(id: str) -> Response:
    """A batch as it stands; with `?wait=` as soon as it ends."""
    wait = asked_wait(request)
    return conditional(request, represent(waited(id, wait) if wait else batches().fetch(id, g.owner)))


@bp.delete("/<id>")
def delete(id: str) -> Response:
    """Takes back what waits, or forgets a batch that has ended."""
    batches().cancel(id, g.owner)
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


@bp.get("/<id>/results")
def results(id: str) -> Response:
    """One result for each picture, in their order, as they stand: NDJSON, or CSV for who accepts that."""
    kinds = ["application/x-ndjson", "text/csv"]
    as_csv = preferred_type(request, kinds) == kinds[1]
    bom = request.args.get("bom", "0")
    if bom not in ("0", "1") or (bom == "1" and not as_csv):
        raise BadRequest("bom is 0 or 1, and 1 for CSV alone: send Accept: text/csv")
    batch = batches().fetch(id, g.owner)
    rows = batches().results_of(batch)
    lines = chain([BOM] if bom == "1" else [], csv_lines(rows))
    pieces = in_pieces(lines if as_csv else (json.dumps(row) + "\n" for row in rows))
    body = chain((next(pieces),), pieces)  # what fails before the first piece is a problem document
    response = Response(body, content_type="text/csv; charset=utf-8" if as_csv else kinds[0])
    take_download(response)
    response.headers[TOTAL] = str(batch.total)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Vary"] = "Accept"
    if as_csv:
        response.headers["Content-Disposition"] = f'attachment; filename="{id}.csv"'
    return response


def in_pieces(lines: Iterable[str]) -> Iterator[str]:
    """The same text in fewer, larger pieces."""
    piece: list[str] = []
    for line in lines:
        piece.append(line)
        if len(piece) == RESULTS_AT_ONCE:
            yield "".join(piece)
            piece.clear()
    yield "".join(piece)
