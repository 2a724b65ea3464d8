"""Alive, able to serve, and how busy: for load balancers, containers, `make up` and operators."""

from __future__ import annotations

from flask import Blueprint, Response

from producer.answers import answer
from producer.api import store
from producer.load import status_of
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


@bp.get("/v1/status")
def status() -> Response:
    """How busy queue and workers are, and what would be needed."""
    return answer(status_of(store()))
