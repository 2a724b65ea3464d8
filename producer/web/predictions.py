"""The HTTP API for single predictions under /v1/predictions, and the model in service."""

from __future__ import annotations

import asyncio
import logging
import re
from io import BytesIO
from itertools import chain

from producer.middleware.access import caller
from producer.middleware.metrics import SUBMITTED
from producer.middleware.request import Request
from producer.middleware.responses import Response, conditional, json_response
from producer.middleware.tracing import trace_of
from producer.serving.sending import SMALL
from producer.uploads.admission import admit, clean_filename, media_type, unwrapped
from producer.uploads.forms import Form, form_of
from producer.web.routes import Routes
from producer.webhooks.safe_http import check_callback
from shared.errors import BadRequest, NotFound, NoWorker
from shared.history import Filter
from shared.ids import new_id
from shared.keys import Priority
from shared.numbers import DECISIONS, READ_IS, Read, known_read
from shared.prediction import Prediction, State
from shared.submission import Submission

log = logging.getLogger("digitq.web")

bp = Routes("predictions", __name__, url_prefix="/v1")

PICTURES = SUBMITTED.labels("picture")
PRIORITIES = {priority.value: priority for priority in Priority}
#: Most predictions on one page of the history.
MAX_PAGE = 100
_LIMIT = re.compile(r"[0-9]{1,3}")
_DIGIT = re.compile(r"[0-9]")
_CURSOR = re.compile(r"[1-9][0-9]{0,17}-[0-9]{1,18}")


@bp.post("/predictions")
async def create(request: Request) -> Response:
    """Accept one picture; wait for its end if the client prefers to."""
    wait = request.preferred_wait()
    slow = (request.length or SMALL + 1) > SMALL or request.is_form or request.has("callback_url")
    picture = await asyncio.to_thread(submission, request) if slow else submission(request)
    prediction = await request.services.waiting.submit(picture, wait, request.connection)
    PICTURES.inc()
    log.debug("accepted", extra={"prediction_id": prediction.id})
    headers = {
        "Location": f"{request.services.settings.root_path}/v1/predictions/{prediction.id}",
        "Vary": "Prefer", "traceresponse": picture.notes["traceparent"],
    }  # fmt: skip
    if wait:
        headers["Preference-Applied"] = f"wait={wait:g}"
    return represent(request, prediction, 200 if prediction.state.terminal else 202, headers)


def submission(request: Request) -> Submission:
    """Read and validate an upload: the multipart field `file`, or the raw body with `?filename=`.

    Raises what `form_of`, `unwrapped` and `admit` raise, BadRequest, WebhooksDisabled, CallbackRefused, and werkzeug's
    RequestEntityTooLarge.
    """
    settings = request.services.settings
    request.takes("filename", "priority", "read", "callback_url")
    name = clean_filename(request.parameter("filename"))
    form = form_of(request) if request.is_form else Form(request.body(), name)
    priority = request.parameter("priority", "normal")
    if priority not in PRIORITIES:
        raise BadRequest(f"priority is one of {', '.join(Priority)}")
    read = read_parameter(request)
    image, filename = unwrapped(form.image, form.filename, settings)
    admit(image, settings)
    id, queue = new_id(), PRIORITIES[priority]
    notes = {"request_id": request.id, "traceparent": trace_of(request, id, queue.queue)}
    if callback := request.parameter("callback_url") or form.callback_url:
        notes["callback_url"] = check_callback(callback, settings)
    return Submission(id, image, filename, queue, request.idempotency_key(), notes, caller(request), read)


def read_parameter(request: Request) -> Read:
    """How pictures are to be read: `?read=`. Raises BadRequest."""
    read = known_read(request.parameter("read", "digit"))
    if read is None:
        raise BadRequest(READ_IS)
    return read


def represent(
    request: Request, prediction: Prediction, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """A prediction as JSON, with Retry-After while it has not ended."""
    response = json_response(prediction.to_json(request.services.settings.root_path), status, headers or {})
    if not prediction.state.terminal:
        response.headers["Retry-After"] = "1"
    return response


@bp.get("/predictions/<id>")
async def read(request: Request, id: str) -> Response:
    """A prediction in whatever state it is; with `?wait=` as soon as it ends."""
    wait = request.wait_parameter()
    prediction = await request.services.waiting.fetch(id, wait, request.owner, request.connection)
    return conditional(request, represent(request, prediction))


@bp.delete("/predictions/<id>")
def delete(request: Request, id: str) -> Response:
    """Cancel a waiting prediction, or delete one that has ended."""
    request.services.store.cancel(id, request.owner)
    return Response(status=204)


@bp.get("/predictions/<id>/image")
def picture(request: Request, id: str) -> Response:
    """The picture as uploaded, or with `?stage=input` the 28x28 that the model saw."""
    stage = request.args.get("stage", "upload")
    if stage not in ("upload", "input"):
        raise BadRequest("stage is upload or input")
    prediction = request.services.store.fetch(id, request.owner)
    response = _uploaded(request, id) if stage == "upload" else _model_input(request, prediction)
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response.headers["Cache-Control"] = "private, max-age=3600, immutable"
    return conditional(request, response, f"{id}-{stage}")


def _uploaded(request: Request, id: str) -> Response:
    """Streams the upload: a large one is in memory piece by piece only. Raises NotFound, TooManyDownloads."""
    size, pieces = request.services.store.image_pieces(id)
    if not size:
        raise NotFound("There is no such picture")
    first = next(pieces)
    response = Response(chain((first,), pieces), headers={"Content-Type": media_type(first)}, length=size)
    if size > SMALL:
        request.services.count_download(response)
    return response


def _model_input(request: Request, prediction: Prediction) -> Response:
    """The 28x28 of a single digit. Raises NotFound before it was read, and for a page: it has one for each digit."""
    pixels = request.services.store.model_input(prediction.id)
    if pixels is None and prediction.numbers is not None:
        raise NotFound("The picture was read as a page of numbers: cut its digits out of it by their `box`")
    if pixels is None:
        raise NotFound("There is no such picture")
    from PIL import Image  # only here: it takes 2 MB

    png = BytesIO()
    Image.frombytes("L", (28, 28), pixels).save(png, "PNG")
    return Response(png.getvalue(), headers={"Content-Type": "image/png"})


@bp.get("/predictions")
def history(request: Request) -> Response:
    """The owner's predictions, newest first, page by page; only those that a digit, decision or state is wanted of."""
    (limit, cursor), wanted = page_parameters(request), filter_parameters(request)
    services = request.services
    page = services.history.page(limit, cursor, request.owner, wanted)
    shown = [prediction.to_json(services.settings.root_path) for prediction in page.predictions]
    return json_response(
        {"predictions": shown, "next_cursor": page.next_cursor, "total": page.total, "matching": page.matching}
    )


def page_parameters(request: Request) -> tuple[int, str | None]:
    """Return the number of entries that a page may have, and the cursor: `?limit=&cursor=`. Raises BadRequest."""
    limit, cursor = request.args.get("limit", "20"), request.args.get("cursor")
    if not _LIMIT.fullmatch(limit) or not 1 <= int(limit) <= MAX_PAGE:
        raise BadRequest(f"limit is a number from 1 to {MAX_PAGE}")
    if cursor and not _CURSOR.fullmatch(cursor):
        raise BadRequest("cursor is the next_cursor of an earlier page")
    return int(limit), cursor


def filter_parameters(request: Request) -> Filter:
    """Return the filter of a history: `?digit=&decision=&state=`. Raises BadRequest."""
    digit, decision, states = (request.args.get(name, "") for name in ("digit", "decision", "state"))
    if digit and not _DIGIT.fullmatch(digit):
        raise BadRequest("digit is one of 0 to 9")
    if decision not in ("", *DECISIONS):
        raise BadRequest(f"decision is one of {', '.join(DECISIONS)}")
    if not set(states.split(",")) <= {"", *State}:
        raise BadRequest(f"state is one or more of {','.join(State)}")
    wanted = frozenset(State(one) for one in states.split(",") if one)
    return Filter(int(digit) if digit else None, decision or None, wanted)


@bp.get("/model")
def model(request: Request) -> Response:
    """The card of the model in service, how many workers serve which, and why a newer one is refused, if so."""
    store = request.services.store
    card = store.model_card()
    if card is None:
        raise NoWorker("No worker has reported its model yet", retry_after_seconds=1)
    load = store.load()
    return conditional(request, json_response(card | {"workers": load.models, "refused": load.refusals}))
