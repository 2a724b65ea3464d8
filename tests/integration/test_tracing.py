"""Traces of real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from producer import Client
from shared import ROOT
from shared.store import Store
from tests.compose.engine import PATIENT, free_port
from tests.pictures import seven

STAGES = ["batch", "preprocess", "inference", "store"]


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """The URL of a collector of OTLP over HTTP, and the spans that it has received, as (service, span)."""
    came: list[tuple[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            for one in body.resource_spans:
                [service] = [pair.value.string_value for pair in one.resource.attributes if pair.key == "service.name"]
                came.extend((service, span) for scope in one.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", came
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_real_processes_export_to_where_the_environment_says(lean_env: dict[str, str], store: Store) -> None:
    port, digitq = free_port(), [sys.executable, "-m", "digitq"]
    with collector() as (url, came):
        env = {**lean_env, "OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "60000",
               "DIGITQ_PORT": f"{port}"}  # fmt: skip
        web = subprocess.Popen([*digitq, "web"], cwd=ROOT, env=env)
        try:
            with Client(f"http://127.0.0.1:{port}", retry=PATIENT) as client:
                prediction = client.submit(seven())
            subprocess.run([*digitq, "worker", "--burst"], cwd=ROOT, env=env, check=True, timeout=100)
        finally:
            web.terminate()
            web.wait(20)
    assert store.fetch(prediction.id).digit == 7
    assert len({span.trace_id for _, span in came}) == 1
    assert {service: sorted(span.name for name, span in came if name == service) for service, _ in came} == {
        "digitq-web": ["POST /v1/predictions", "create digitq"],
        "digitq-worker": sorted(["queue", "process digitq", *STAGES]),
    }


@pytest.mark.parametrize("place", ["", "http://127.0.0.1:9"])
def test_without_the_packages_nothing_is_missing_but_who_wants_traces_is_told(place: str) -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from tests.served import site; from shared.runtime import tracing; import worker.queue.picture_runner\n"
        "from shared.settings import Settings; from shared.store import Store, connect\n"
        "tracing.start('digitq-web'); assert tracing.tracer is None\n"
        "settings = Settings.from_env()\n"
        "with site(Store(connect(settings.redis_url), settings)) as web:\n"
        "    print(web.post('/v1/predictions', data=b'x').status_code)"
    )
    env = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": place}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "415\n"
    assert ("pip install digitq[otel]" in done.stderr) is bool(place)
