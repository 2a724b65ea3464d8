"""Alive, and able to serve: for load balancers, containers and `make up`."""

from __future__ import annotations

from flask import Blueprint, Response

from producer.api import answer, store
from shared.errors import NoWorker

bp = Blueprint("health", __name__)


@bp.get("/healthz")
def healthz() -> Response:
    """The process answers; nothing else is asked."""
    return answer({"status": "ok"})


@bp.get("/readyz")
def readyz() -> Response:
    """Redis accepts writes and a worker lives: an upload would be answered."""
    workers = len(store().workers())
    if not workers:
        raise NoWorker(store().refusal(), retry_after_seconds=1)
    return answer({"status": "ready", "workers": workers})
