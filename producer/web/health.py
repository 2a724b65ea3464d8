"""Alive, able to serve, and how busy: for load balancers, containers, `make up` and operators."""

from __future__ import annotations

from flask import Blueprint, Response

from producer.middleware.answers import answer
from producer.web.api import store
from producer.web.load import status_of
from shared.errors import NoWorker

bp = Blueprint("health", __name__)


@bp.get("/healthz")
def healthz() -> Response:
    """The process answers; nothing else is asked."""
    return answer({"status": "ok"})


@bp.get("/readyz")
def readyz() -> Response:
    """Redis accepts writes, is set up not to lose them, and a worker lives: an upload would be answered."""
    store().check_server()
    workers = len(store().workers())
    if not workers:
        raise NoWorker(store().refusal(), retry_after_seconds=1)
    warnings = [{"code": one.code, "message": str(one)} for one in store().server.findings()]
    return answer({"status": "ready", "workers": workers, "warnings": warnings})


@bp.get("/v1/status")
def status() -> Response:
    """How busy queue and workers are, and what would be needed."""
    return answer(status_of(store()))
