"""The HTTP API for batches under /v1/batches."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Iterator
from itertools import chain

from producer.csv_rows import BOM, NUMBER_COLUMNS, csv_lines
from producer.middleware.access import caller
from producer.middleware.metrics import SUBMITTED
from producer.middleware.request import Request
from producer.middleware.responses import Response, conditional, json_response, preferred_type
from producer.middleware.tracing import trace_of
from producer.uploads.admission import clean_filename
from producer.uploads.intake import received
from producer.web.predictions import page_parameters, read_parameter
from producer.web.routes import Routes
from shared.batch import COLUMNS, Batch
from shared.errors import BadRequest
from shared.keys import Priority

log = logging.getLogger("digitq.web")

bp = Routes("batches", __name__, url_prefix="/v1/batches")

#: The header that says how many results follow.
TOTAL = "X-Total-Count"
#: Responses are sent in pieces of about this many results.
RESULTS_AT_ONCE = 256


@bp.post("")
async def create(request: Request) -> Response:
    """Accept many pictures, all or none; wait for their end if the client prefers to."""
    batch = await asyncio.to_thread(submit, request)
    SUBMITTED.labels("batch").inc(batch.total)
    log.debug("accepted", extra={"batch_id": batch.id, "pictures": batch.total})
    wait = request.preferred_wait()
    batch = await wait_for(request, batch.id, wait) if wait else batch
    headers = {"Location": f"{request.services.settings.root_path}/v1/batches/{batch.id}", "Vary": "Prefer"}
    if wait:
        headers["Preference-Applied"] = f"wait={wait:g}"
    return represent(request, batch, 200 if batch.state.terminal else 202, headers)


def submit(request: Request) -> Batch:
    """Read a batch from the request and submit it. Raises what `received` and `Batches.submit` raise, BadRequest."""
    services, priority = request.services, request.args.get("priority", "low")
    if priority not in list(Priority):
        raise BadRequest(f"priority is one of {', '.join(Priority)}")
    if "callback_url" in request.args:
        raise BadRequest("callback_url is for single pictures: poll a batch, or wait for it")
    request.takes("filename", "priority", "read")
    read, name = read_parameter(request), clean_filename(request.args.get("filename", ""))
    key, trace = request.idempotency_key(), trace_of(request, "", Priority(priority).queue)
    with received(request, services.settings) as body:
        fingerprint = body.fingerprint() if key else ""
        upload = body.upload(services.settings)
        return services.batches.submit(
            upload.chunks, upload.total, priority=Priority(priority), idempotency_key=key, fingerprint=fingerprint,
            caller=caller(request), notes={"request_id": request.id, "traceparent": trace},
            skipped=lambda: upload.skipped, read=read, filename=name,
        )  # fmt: skip


def represent(request: Request, batch: Batch, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A batch as JSON, with Retry-After while it has not ended."""
    response = json_response(batch.to_json(request.services.settings.root_path), status, headers or {})
    if not batch.state.terminal:
        response.headers["Retry-After"] = "1"
    return response


async def wait_for(request: Request, id: str, seconds: float) -> Batch:
    """Return the batch once it has ended, at the latest after `seconds`; at once if too many requests wait."""
    services, connection = request.services, request.connection
    if not services.batch_waits.acquire(blocking=False):
        return await asyncio.to_thread(services.batches.fetch, id, request.owner)
    connection.watch()
    try:
        stopped = lambda: services.waiting.stopped or connection.gone  # noqa: E731
        return await asyncio.to_thread(services.batches.wait, id, seconds, stopped, request.owner)
    finally:
        services.batch_waits.release()


@bp.get("")
def history(request: Request) -> Response:
    """The owner's batches, newest first, page by page."""
    services, (limit, cursor) = request.services, page_parameters(request)
    page, next_cursor = services.batches.recent(limit, cursor, request.owner)
    shown = [batch.to_json(services.settings.root_path) for batch in page]
    return json_response({"batches": shown, "next_cursor": next_cursor})


@bp.get("/<id>")
async def read(request: Request, id: str) -> Response:
    """A batch in whatever state it is; with `?wait=` as soon as it ends."""
    if wait := request.wait_parameter():
        batch = await wait_for(request, id, wait)
    else:
        batch = await asyncio.to_thread(request.services.batches.fetch, id, request.owner)
    return conditional(request, represent(request, batch))


@bp.delete("/<id>")
def delete(request: Request, id: str) -> Response:
    """Cancel the waiting pictures of a batch, or delete one that has ended."""
    request.services.batches.cancel(id, request.owner)
    return Response(status=204)


@bp.get("/<id>/results")
def results(request: Request, id: str) -> Response:
    """One result for each picture, in input order, ended or not: NDJSON, or CSV if the client accepts that."""
    kinds = ["application/x-ndjson", "text/csv"]
    as_csv = preferred_type(request, kinds) == kinds[1]
    bom = request.args.get("bom", "0")
    if bom not in ("0", "1") or (bom == "1" and not as_csv):
        raise BadRequest("bom is 0 or 1, and 1 for CSV alone: send Accept: text/csv")
    batches = request.services.batches
    batch = batches.fetch(id, request.owner)
    rows = batches.results_of(batch)
    columns = COLUMNS if batch.read == "digit" else NUMBER_COLUMNS
    lines = chain([BOM] if bom == "1" else [], csv_lines(rows, columns))
    pieces = in_pieces(lines if as_csv else (json.dumps(row) + "\n" for row in rows))
    body = chain((next(pieces),), pieces)  # an error before the first piece is a problem document
    kind = "text/csv; charset=utf-8" if as_csv else kinds[0]
    headers = {"Content-Type": kind, TOTAL: str(batch.total), "Cache-Control": "no-store", "Vary": "Accept"}
    response = Response(body, headers=headers)
    request.services.count_download(response)
    if as_csv:
        response.headers["Content-Disposition"] = f'attachment; filename="{id}.csv"'
    return response


def in_pieces(lines: Iterable[str]) -> Iterator[str]:
    """Join lines into fewer, larger pieces."""
    piece: list[str] = []
    for line in lines:
        piece.append(line)
        if len(piece) == RESULTS_AT_ONCE:
            yield "".join(piece)
            piece.clear()
    yield "".join(piece)
