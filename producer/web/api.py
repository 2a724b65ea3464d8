"""The HTTP API under /v1, thin: read the request, say one verb to the store, answer."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from io import BytesIO
from types import MappingProxyType
from typing import Any

from flask import Blueprint, Request, Response, current_app, g, request
from flask.globals import app_ctx, request_ctx
from PIL import Image

from producer.middleware.access import caller
from producer.middleware.answers import Answer, Said, answer, conditional, said
from producer.middleware.metrics import SUBMITTED
from producer.middleware.trace import trace_of
from producer.serving.downloads import uploaded_picture
from producer.serving.inbox import Client
from producer.serving.waiting import Waiters
from producer.serving.wsgi import connection_of
from producer.uploads.admission import admit, clean_filename
from producer.uploads.embedded import unwrapped
from producer.uploads.forms import Form, form_of
from producer.webhooks.safe_http import check_callback
from shared.errors import BadRequest, NotFound, NoWorker
from shared.ids import new_id
from shared.keys import Priority
from shared.prediction import Prediction
from shared.settings import Settings
from shared.store import Store
from shared.submission import Submission

log = logging.getLogger("digitq.web")

bp = Blueprint("api", __name__, url_prefix="/v1")

#: Longest wait, in seconds, for Prefer: wait and ?wait=.
MAX_WAIT_SECONDS = 30
PICTURES = SUBMITTED.labels("picture")
PRIORITIES = {priority.value: priority for priority in Priority}
#: Most predictions on one page of the history.
MAX_PAGE = 100
_PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?([0-9]{1,18})\"?(?=$|[,;\s])", re.IGNORECASE)
_IDEMPOTENCY_KEY = re.compile(r'"?([\x20\x21\x23-\x7e]{1,255})"?')
_LIMIT = re.compile(r"[0-9]{1,3}")
_CURSOR = re.compile(r"[1-9][0-9]{0,17}-[0-9]{1,18}")


def store() -> Store:
    """The application's store."""
    return current_app.extensions["digitq_store"]  # type: ignore[no-any-return]


def waiters() -> Waiters:
    """The application's waiting room."""
    return current_app.extensions["digitq_waiters"]  # type: ignore[no-any-return]


def settings() -> Settings:
    """The application's settings."""
    return store().settings


def represent(prediction: Prediction, root: str) -> Response:
    """A prediction, with the advice when to ask again while it has not ended."""
    return Answer(*_said(prediction, 200, root))


def _said(prediction: Prediction, status: int, root: str, **headers: str) -> Said:
    if not prediction.state.terminal:
        headers["Retry_After"] = "1"
    return said(prediction.to_json(root), status, **headers)


@bp.post("/predictions")
def create() -> Response:
    """Accepts one picture; waits for it where the client prefers to."""
    picture, wait = submission(request_ctx.request), preferred_wait(request_ctx.request)
    found = waiters().submit(picture, wait, client_of(request_ctx.request))
    return Answer(*accepted(picture, found, wait, settings().root_path))


def accepted(picture: Submission, prediction: Prediction, wait: float, root: str) -> Said:
    """The answer to an upload, whose client was willing to wait so many seconds."""
    PICTURES.inc()
    log.debug("accepted", extra={"prediction_id": prediction.id, "request_id": picture.notes["request_id"]})
    applied = {"Preference_Applied": f"wait={wait:g}"} if wait else {}
    return _said(
        prediction, 200 if prediction.state.terminal else 202, root, Vary="Prefer",
        Location=f"{root}/v1/predictions/{prediction.id}", traceresponse=picture.notes["traceparent"], **applied,
    )  # fmt: skip


def client_of(request: Request) -> Client | None:
    """Who waits for the answer, if the server can tell that they have gone."""
    return connection_of(request.environ)


def submission(request: Request) -> Submission:
    """Reads an upload: the multipart field `file`, or the raw body with `?filename=`.

    Raises what `form_of` and `admitted` raise, WebhooksDisabled, CallbackRefused, and werkzeug's RequestEntityTooLarge.
    """
    if request.mimetype == "multipart/form-data":
        form = form_of(request)
    else:
        body = request.get_data(cache=False, parse_form_data=False)
        form = Form(body, clean_filename(argument(request, "filename")))
    callback = argument(request, "callback_url") or form.callback_url
    kept = {"callback_url": check_callback(callback, settings())} if callback else {}
    g = app_ctx.g
    return admitted(
        request, form.image, form.filename, settings(), g.owner, g.request_id, g.get("span"), kept
    )  # fmt: skip


def admitted(
    request: Request, data: bytes, filename: str, settings: Settings, owner: str, request_id: str, span: Any = None,
    notes: Mapping[str, str] = MappingProxyType({}),
) -> Submission:  # fmt: skip
    """A picture that may enter, on the queue that its request names. Raises what the door raises."""
    priority = argument(request, "priority", "normal")
    if priority not in PRIORITIES:
        raise BadRequest(f"priority is one of {', '.join(Priority)}")
    data, filename = unwrapped(data, filename, settings)
    admit(data, settings)
    id, queue = new_id(), PRIORITIES[priority]
    kept = {"request_id": request_id, "traceparent": trace_of(request, span, id, queue.queue), **notes}
    return Submission(id, data, filename, queue, idempotency_key(request), kept, caller(request, owner))


def argument(request: Request, name: str, default: str = "") -> str:
    """A parameter of the query. Of a missing one `get` makes an exception: dear, where most are missing."""
    return request.args[name] if name in request.args else default  # noqa: SIM401


def idempotency_key(request: Request) -> str:
    """The Idempotency-Key, with or without its quotes; empty if there is none."""
    given = request.environ.get("HTTP_IDEMPOTENCY_KEY", "").strip()
    if not given:
        return ""
    match = _IDEMPOTENCY_KEY.fullmatch(given)
    if not match:
        raise BadRequest("Idempotency-Key is a string of 1 to 255 printable characters")
    return match[1]


def preferred_wait(request: Request) -> float:
    """Seconds from `Prefer: wait=N`, capped; 0 if the client does not want to wait."""
    match = _PREFER_WAIT.search(request.environ.get("HTTP_PREFER", ""))
    return min(int(match[1]), MAX_WAIT_SECONDS) if match else 0


def asked_wait(request: Request) -> float:
    """Seconds from `?wait=`, capped. Raises BadRequest."""
    try:
        seconds = float(argument(request, "wait") or 0)
    except ValueError as error:
        raise BadRequest("wait is a number of seconds") from error
    if not seconds >= 0:  # also false for NaN
        raise BadRequest("wait is a number of seconds")
    return min(seconds, MAX_WAIT_SECONDS)


@bp.get("/predictions/<id>")
def read(id: str) -> Response:
    """A prediction in whatever state it is; with `?wait=` as soon as it ends."""
    request = request_ctx.request
    wait = asked_wait(request)
    client = client_of(request)
    prediction = waiters().wait(id, wait, g.owner, client) if wait else store().fetch(id, g.owner)
    return conditional(request, represent(prediction, settings().root_path))


@bp.delete("/predictions/<id>")
def delete(id: str) -> Response:
    """Takes a waiting picture back, or forgets one that has ended."""
    store().cancel(id, g.owner)
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


@bp.get("/predictions/<id>/image")
def picture(id: str) -> Response:
    """The picture as uploaded, or with `?stage=input` the 28x28 that the model saw."""
    stage = request.args.get("stage", "upload")
    if stage not in ("upload", "input"):
        raise BadRequest("stage is upload or input")
    store().fetch(id, g.owner)
    response = uploaded_picture(store(), id) if stage == "upload" else _seen(id)
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response.headers["Cache-Control"] = "private, max-age=3600, immutable"
    return conditional(request, response, f"{id}-{stage}")


def _seen(id: str) -> Response:
    pixels = store().model_input(id)
    if pixels is None:
        raise NotFound("There is no such picture")
    return Response(_png(pixels), content_type="image/png")


def _png(pixels: bytes) -> bytes:
    out = BytesIO()
    Image.frombytes("L", (28, 28), pixels).save(out, "PNG")
    return out.getvalue()


@bp.get("/predictions")
def history() -> Response:
    """What was accepted, newest first."""
    limit, cursor = request.args.get("limit", "20"), request.args.get("cursor")
    if not _LIMIT.fullmatch(limit) or not 1 <= int(limit) <= MAX_PAGE:
        raise BadRequest(f"limit is a number from 1 to {MAX_PAGE}")
    if cursor and not _CURSOR.fullmatch(cursor):
        raise BadRequest("cursor is the next_cursor of an earlier page")
    page, following = store().recent(int(limit), cursor, g.owner)
    return answer({"predictions": [one.to_json(settings().root_path) for one in page], "next_cursor": following})


@bp.get("/model")
def model() -> Response:
    """The card of the model in service."""
    card = store().model_card()
    if card is None:
        raise NoWorker("No worker has reported its model yet", retry_after_seconds=1)
    return conditional(request, answer(card))
