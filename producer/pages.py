"""The page for people: a form that works without JavaScript, and a page for each prediction."""

from __future__ import annotations

from flask import Blueprint, Response, redirect, render_template, request

from producer.api import store, submit_upload, uploaded, waiters
from shared.errors import DigitqError

bp = Blueprint("pages", __name__)

#: A page is drawn once the answer is there, or after so many seconds; then the browser asks again by itself.
PAGE_WAIT_SECONDS = 2


@bp.get("/")
def index() -> str:
    """The form."""
    return render_template("index.html", error=None)


@bp.post("/")
def upload() -> tuple[str, int] | Response:
    """Accepts the form and sends the browser to the prediction's page (303: a reload does not upload again)."""
    try:
        prediction = submit_upload(*uploaded())
    except DigitqError as error:
        if not wants_html():
            raise
        return render_template("index.html", error=error), error.status
    return redirect(f"/predictions/{prediction.id}", 303)  # type: ignore[return-value]  # werkzeug's base class


@bp.get("/predictions/<id>")
def show(id: str) -> tuple[str, int] | str:
    """The state, and once it is there the digit with its probabilities."""
    try:
        prediction = waiters().wait(id, PAGE_WAIT_SECONDS)
    except DigitqError as error:
        if not wants_html():
            raise
        return render_template("index.html", error=error), error.status
    has_input = prediction.digit is not None and store().model_input(id) is not None
    return render_template("prediction.html", prediction=prediction, has_input=has_input)


def wants_html() -> bool:
    """A browser gets its errors as a page; everybody else as a problem document."""
    return request.accept_mimetypes.best_match(["application/json", "text/html"], "application/json") == "text/html"


@bp.after_request
def _policy(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = (
        "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'none'"
    )
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cache-Control"] = "no-store"
    return response
