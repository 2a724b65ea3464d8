"""The web page: a form that works without JavaScript, and a page for each prediction."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from flask import render_template
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.utils import redirect

from producer.middleware.access import COOKIE
from producer.middleware.request import Request
from producer.middleware.responses import PAGE, Response, from_werkzeug, wants_html
from producer.web.predictions import PICTURES, submission
from producer.web.routes import Routes
from shared.errors import DigitqError, TooLarge, Unauthorized

bp = Routes("pages", __name__)

#: Seconds after which the page of a prediction is rendered without its result; it then reloads.
PAGE_WAIT_SECONDS = 2
#: What a rejected answer is called, as on its card, and why; another model's worker may not say.
REJECTED = {
    "low_confidence": ("Not sure", "The model is too unsure about this picture"),
    "not_a_digit": ("No digit", "This does not look like a digit"),
    "no_ink": ("Empty", "Nothing seems to be written here"),
    "several_digits": ("Several digits", "It was sent to be read as one digit and shows several"),
}
REJECTED_OTHERWISE = ("Not sure", "This may not be a digit at all")
#: What the preprocessing noticed, in plain words.
NOTED = {
    "no_ink": "no ink found", "inverted": "dark ink on light paper (colours inverted)", "low_contrast": "faint ink",
    "touches_border": "the ink runs off the edge", "several_digits": "more than one digit",
    "too_thin": "very thin strokes", "lines_removed": "ruled lines were removed", "noisy": "speckles were removed",
    "too_small": "a very small digit", "uneven_light": "shadows were evened out",
    "several_frames": "only one frame or page of this file was read",
    "signs_left_out": "signs, such as points or dashes, were left out",
}  # fmt: skip
#: The page's modules, named to the browser before it finds the imports.
MODULES = tuple(sorted(path.stem for path in (Path(__file__).parent / "static").glob("*.js") if path.stem != "app"))


def duration(seconds: int) -> str:
    """In words, in the largest unit that fits: 90 minutes, 1 day."""
    units = [(86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")]
    size, name = next((unit for unit in units if seconds % unit[0] == 0), units[-1])
    return f"{seconds // size} {name}{'' if seconds == size else 's'}"


def html(template: str, status: int = 200, **values: Any) -> Response:
    """A rendered page."""
    return Response(render_template(template, **values).encode(), status, {"Content-Type": "text/html; charset=utf-8"})


def error_page(status: int, title: str, detail: str) -> Response:
    """The page for an error of an address outside the API."""
    page = html("error.html", status, busy=status == 503, title=title, detail=detail)
    page.headers |= PAGE  # also where no route says that it is a page
    return page


def key_form(wrong: bool = False) -> Response:
    """The page that asks a browser for its API key."""
    return html("key.html", Unauthorized.status, wrong=wrong)


@bp.post("/key")
def enter(request: Request) -> Response:
    """Remembers a key in a cookie that no script can read; an empty one deletes it."""
    root = request.services.settings.root_path
    response = redirect(f"{root}/", 303)
    # A cookie that was set over https is never sent over http, also where a proxy in front has the certificate.
    options: Any = {
        "httponly": True, "samesite": "Strict", "path": root or "/",
        "secure": request.is_secure or request.headers.get("Origin", "").startswith("https:"),
    }  # fmt: skip
    try:
        key = request.form.get("key", "").strip()
    except RequestEntityTooLarge:
        return key_form(wrong=True)
    if not key:
        response.delete_cookie(COOKIE, **options)
        return from_werkzeug(response, request)
    cookie = request.services.access.cookie(key)
    if cookie is None:
        return key_form(wrong=True)
    response.set_cookie(COOKIE, cookie, **options)
    return from_werkzeug(response, request)


@bp.get("/")
def index(request: Request) -> Response:
    """The form."""
    return form(None)


def form(error: DigitqError | None) -> Response:
    """Render the form, with the error of the last upload."""
    return html("index.html", error.status if error else 200, error=error, modules=MODULES)


@bp.post("/")
async def upload(request: Request) -> Response:
    """Accept the form and redirect to the prediction's page (303: a reload does not upload again)."""
    try:
        picture = await asyncio.to_thread(submission, request)
        prediction = await request.services.waiting.submit(picture)
    except (DigitqError, RequestEntityTooLarge) as refusal:
        if not wants_html(request):
            raise
        if isinstance(refusal, RequestEntityTooLarge):
            refusal = TooLarge.upload(request.services.settings.max_upload_bytes)
        return form(refusal)
    PICTURES.inc()
    return from_werkzeug(redirect(f"{request.services.settings.root_path}/predictions/{prediction.id}", 303), request)


@bp.get("/predictions/<id>")
async def show(request: Request, id: str) -> Response:
    """The state of a prediction, and once it has ended the digit with its probabilities, or the numbers."""
    services = request.services
    try:
        prediction = await services.waiting.fetch(id, PAGE_WAIT_SECONDS, request.owner, request.connection)
        model_input = await asyncio.to_thread(services.store.model_input, id) if prediction.digit is not None else None
    except DigitqError as error:
        if not wants_html(request):
            raise
        return error_page(error.status, error.title, str(error))
    rejected = REJECTED.get(prediction.reason or "", REJECTED_OTHERWISE) if prediction.decision == "reject" else None
    names = [NOTED.get(name, name.replace("_", " ")) for name in prediction.warnings if name != prediction.reason]
    return html(
        "prediction.html", prediction=prediction, has_input=model_input is not None, rejected=rejected, noted=names
    )
