"""The page for people: a form that works without JavaScript, and a page for each prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Blueprint, Response, current_app, g, redirect, render_template, request
from werkzeug.exceptions import RequestEntityTooLarge

from producer.middleware.access import COOKIE, Access
from producer.middleware.answers import preferred_type
from producer.middleware.problems import challenged, from_error
from producer.uploads.admission import too_large
from producer.web.api import PICTURES, client_of, settings, store, submission, waiters
from shared.errors import DigitqError, Unauthorized

bp = Blueprint("pages", __name__)

#: A page is drawn once the answer is there, or after so many seconds; then the browser asks again by itself.
PAGE_WAIT_SECONDS = 2
#: Bytes of the form that has a key: whoever sends it has shown none yet.
MAX_KEY_FORM = 16 * 1024
#: Why an answer is rejected, in plain words; another model's worker may not say.
REJECTED = {
    "low_confidence": "The model is too unsure about this picture",
    "not_a_digit": "This does not look like a digit",
    "no_ink": "Nothing seems to be written here",
    "several_digits": "There seems to be more than one digit here, and only single ones are read",
}
#: The page's modules, named to the browser before it finds the imports.
MODULES = tuple(sorted(path.stem for path in (Path(__file__).parent / "static").glob("*.js") if path.stem != "app"))
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
REJECTED_OTHERWISE = "This may not be a digit at all"


@bp.app_errorhandler(Unauthorized)
def ask_for_key(error: Unauthorized) -> Response:
    """A browser that shows no key on a page is asked for one."""
    if request.path.startswith("/v1/") or not wants_html():
        return from_error(error, request.method, g.request_id)
    return challenged(key_form())


def key_form(wrong: bool = False) -> Response:
    """Asks for a key."""
    return _policy(Response(render_template("key.html", wrong=wrong), Unauthorized.status))


@bp.post("/key")
def enter() -> Response:
    """Remembers a key in a cookie that no script can read; an empty one forgets it."""
    access: Access = current_app.extensions["digitq_access"]
    response: Response = redirect(f"{settings().root_path}/", 303)  # type: ignore[assignment]  # werkzeug's base class
    # What is sent by https is never sent by http again, also where a proxy in front of us has the certificate.
    options: Any = {
        "httponly": True, "samesite": "Strict", "path": settings().root_path or "/",
        "secure": request.is_secure or request.headers.get("Origin", "").startswith("https:"),
    }  # fmt: skip
    request.max_content_length = MAX_KEY_FORM
    try:
        key = request.form.get("key", "").strip()
    except RequestEntityTooLarge:
        return key_form(wrong=True)
    if not key:
        response.delete_cookie(COOKIE, **options)
        return response
    cookie = access.cookie(key)
    if cookie is None:
        return key_form(wrong=True)
    response.set_cookie(COOKIE, cookie, **options)
    return response


@bp.get("/")
def index() -> str:
    """The form."""
    return _form(None)


def _form(error: DigitqError | None) -> str:
    return render_template("index.html", error=error, modules=MODULES)


@bp.post("/")
def upload() -> tuple[str, int] | Response:
    """Accepts the form and sends the browser to the prediction's page (303: a reload does not upload again)."""
    try:
        prediction = waiters().submit(submission(request))
    except (DigitqError, RequestEntityTooLarge) as refusal:
        if not wants_html():
            raise
        error = too_large(settings()) if isinstance(refusal, RequestEntityTooLarge) else refusal
        return _form(error), error.status
    PICTURES.inc()
    return redirect(f"{settings().root_path}/predictions/{prediction.id}", 303)  # type: ignore[return-value]  # werkzeug's base class


@bp.get("/predictions/<id>")
def show(id: str) -> tuple[str, int] | str:
    """The state, and once it is there the digit with its probabilities."""
    try:
        prediction = waiters().wait(id, PAGE_WAIT_SECONDS, g.owner, client_of(request))
    except DigitqError as error:
        if not wants_html():
            raise
        return _form(error), error.status
    has_input = prediction.digit is not None and store().model_input(id) is not None
    why = REJECTED.get(prediction.reason or "", REJECTED_OTHERWISE) if prediction.decision == "reject" else None
    return render_template("prediction.html", prediction=prediction, has_input=has_input, rejected=why)


def wants_html() -> bool:
    """A browser gets its errors as a page; everybody else as a problem document."""
    return preferred_type(request, ["application/json", "text/html"]) == "text/html"


@bp.after_request
def _policy(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Cache-Control"] = "no-store"
    return response
