"""The HTTP API under /v1, thin: read the request, say one verb to the store, answer."""

from __future__ import annotations

import json
import re
from io import BytesIO
from typing import Any

from flask import Blueprint, Response, current_app, request
from PIL import Image

from producer.admission import admit, clean_filename, media_type, too_large
from producer.waiting import Waiters
from shared.errors import BadRequest, NoImage, NotFound, NoWorker
from shared.keys import Priority
from shared.prediction import Prediction
from shared.settings import Settings
from shared.store import Store

bp = Blueprint("api", __name__, url_prefix="/v1")

#: Longest wait, in seconds, for Prefer: wait and ?wait=.
MAX_WAIT_SECONDS = 30
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


def answer(body: Any, status: int = 200, **headers: str) -> Response:
    """A JSON answer that nobody caches."""
    response = Response(json.dumps(body), status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    for name, value in headers.items():
        response.headers[name.replace("_", "-")] = value
    return response


def represent(prediction: Prediction, status: int = 200) -> Response:
    """A prediction, with the advice when to ask again while it has not ended."""
    response = answer(prediction.to_json(), status)
    if not prediction.state.terminal:
        response.headers["Retry-After"] = "1"
    return response


@bp.post("/predictions")
def create() -> Response:
    """Accepts one picture; waits for it where the client prefers to."""
    wait = preferred_wait()
    prediction = submit_upload(*uploaded())
    if wait and not prediction.state.terminal:
        prediction = waiters().wait(prediction.id, wait)
    response = represent(prediction, 200 if prediction.state.terminal else 202)
    response.headers["Location"] = f"/v1/predictions/{prediction.id}"
    response.headers["Vary"] = "Prefer"
    if wait:
        response.headers["Preference-Applied"] = f"wait={wait:g}"
    return response


def uploaded() -> tuple[bytes, str]:
    """The picture and its name: the multipart field `file`, or the raw body with `?filename=`.

    Raises NoImage, TooLarge.
    """
    if request.mimetype == "multipart/form-data":
        file = request.files.get("file")
        if file is None:
            raise NoImage("The multipart field `file` is missing")
        return file.read(settings().max_upload_bytes + 1), clean_filename(file.filename)
    if (request.content_length or 0) > settings().max_upload_bytes:
        raise too_large(settings())
    return request.get_data(cache=False), clean_filename(request.args.get("filename"))


def submit_upload(data: bytes, filename: str) -> Prediction:
    """Admits an upload and puts it on the queue that the request names. Raises what the door and the store raise."""
    priority = request.args.get("priority", "normal")
    if priority not in list(Priority):
        raise BadRequest(f"priority is one of {', '.join(Priority)}")
    admit(data, settings())
    return store().submit(data, filename, priority=Priority(priority), idempotency_key=idempotency_key())


def idempotency_key() -> str:
    """The Idempotency-Key, with or without its quotes; empty if there is none."""
    given = request.headers.get("Idempotency-Key", "").strip()
    if not given:
        return ""
    match = _IDEMPOTENCY_KEY.fullmatch(given)
    if not match:
        raise BadRequest("Idempotency-Key is a string of 1 to 255 printable characters")
    return match[1]


def preferred_wait() -> float:
    """Seconds from `Prefer: wait=N`, capped; 0 if the client does not want to wait."""
    match = _PREFER_WAIT.search(request.headers.get("Prefer", ""))
    return min(int(match[1]), MAX_WAIT_SECONDS) if match else 0


def asked_wait() -> float:
    """Seconds from `?wait=`, capped. Raises BadRequest."""
    try:
        seconds = float(request.args.get("wait") or 0)
    except ValueError as error:
        raise BadRequest("wait is a number of seconds") from error
    if not seconds >= 0:  # also false for NaN
        raise BadRequest("wait is a number of seconds")
    return min(seconds, MAX_WAIT_SECONDS)


@bp.get("/predictions/<id>")
def read(id: str) -> Response:
    """A prediction in whatever state it is; with `?wait=` as soon as it ends."""
    wait = asked_wait()
    return represent(waiters().wait(id, wait) if wait else store().fetch(id))


@bp.delete("/predictions/<id>")
def delete(id: str) -> Response:
    """Takes a waiting picture back, or forgets one that has ended."""
    store().cancel(id)
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


@bp.get("/predictions/<id>/image")
def picture(id: str) -> Response:
    """The picture as uploaded, or with `?stage=input` the 28x28 that the model saw."""
    stage = request.args.get("stage", "upload")
    if stage not in ("upload", "input"):
        raise BadRequest("stage is upload or input")
    store().fetch(id)
    data = store().image(id) if stage == "upload" else store().model_input(id)
    if data is None:
        raise NotFound("There is no such picture")
    kind = media_type(data) if stage == "upload" else "image/png"
    response = Response(data if stage == "upload" else _png(data), content_type=kind)
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response.headers["Cache-Control"] = "private, max-age=3600"
    return response


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
    page, following = store().recent(int(limit), cursor)
    return answer({"predictions": [one.to_json() for one in page], "next_cursor": following})


@bp.get("/model")
def model() -> Response:
    """The card of the model in service."""
    card = store().model_card()
    if card is None:
        raise NoWorker("No worker has reported its model yet", retry_after_seconds=1)
    return answer(card)
