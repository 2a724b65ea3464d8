"""Health checks, metrics and the load, for load balancers, containers, `make up` and operators."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST

from producer.middleware.metrics import exposition
from producer.middleware.request import Request
from producer.middleware.responses import Response, json_response
from producer.web.load import status_of
from producer.web.routes import Routes
from shared.errors import NoWorker

bp = Routes("status", __name__)


@bp.get("/healthz")
async def healthz(request: Request) -> Response:
    """The process answers; Redis is not asked."""
    return json_response({"status": "ok"})


@bp.get("/readyz")
def readyz(request: Request) -> Response:
    """Redis accepts writes, is configured not to lose them, and a worker is alive: an upload would be answered."""
    store = request.services.store
    store.check_server()
    workers = len(store.workers())
    if not workers:
        raise NoWorker(store.refusal(), retry_after_seconds=1)
    warnings = [{"code": one.code, "message": str(one)} for one in store.server.findings()]
    return json_response({"status": "ready", "workers": workers, "warnings": warnings})


@bp.get("/v1/status")
def status(request: Request) -> Response:
    """The load of queue and workers, and how many workers are needed."""
    return json_response(status_of(request.services.store))


@bp.get("/metrics")
def metrics(request: Request) -> Response:
    """Prometheus metrics of this process and the fleet."""
    return Response(exposition(request.services.fleet), headers={"Content-Type": CONTENT_TYPE_LATEST})
