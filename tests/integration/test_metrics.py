"""Metrics where Redis is away, of several workers on one machine, and the alerts by Prometheus's own tool."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from shared import ROOT
from shared.settings import Settings
from shared.store import Store, connect
from tests.pictures import seven
from tests.samples import samples
from tests.served import site
from tests.tools import tool
from worker.telemetry import metrics


def test_without_redis_a_web_process_says_so(tmp_path: object) -> None:
    settings = Settings(redis_url=f"unix://{tmp_path}/none.sock")
    with site(Store(connect(settings.redis_url), settings)) as web:
        assert samples(web.get("/metrics").text)["digitq_redis_up", ()] == 0


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Return a free port, followed by other free ones; what is started meanwhile is stopped."""
    started: list[Any] = []
    start = metrics.start_http_server
    monkeypatch.setattr(metrics, "start_http_server", lambda *args: started.append(start(*args)))
    yield free_ports(3)
    for server, thread in started:
        server.shutdown()
        server.server_close()
        thread.join()


def free_ports(count: int) -> int:
    """Return the first of several free ports in a row."""
    for first in range(20_000, 30_000, count):
        with ExitStack() as stack, suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    raise AssertionError("no free ports")


def test_each_worker_of_a_machine_has_a_port_of_its_own(port: int, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(metrics_port=port)
    with caplog.at_level("INFO"):
        for _ in range(3):
            metrics.serve(settings)
    for number in range(3):
        assert "digitq_build_info" in httpx2.get(f"http://127.0.0.1:{port + number}/metrics").text
    assert [record.getMessage() for record in caplog.records] == [
        f"serves /metrics on port {port + number}" for number in range(3)
    ]


def test_without_a_free_port_a_worker_serves_without_metrics(
    port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(metrics, "PORTS", 1)
    with socket.create_server(("127.0.0.1", port)):
        metrics.serve(Settings(metrics_port=port))
    assert f"no /metrics: port {port} and the 0 after it are in use" in caplog.text


# ---------------------------------------------------------------------- alerts


def firing(folder: Path, series: dict[str, str], alert: str, minutes: int = 20) -> bool:
    """Tell whether an alert fires after that many minutes of these series, by promtool."""
    one = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": f"{minutes}m", "alertname": alert, "exp_alerts": []}],
    }
    file = folder / "test.yml"
    file.write_text(json.dumps({"rule_files": [str(ROOT / "deploy/prometheus/alerts.yml")], "tests": [one]}))
    done = subprocess.run([tool("prometheus", "promtool"), "test", "rules", str(file)], capture_output=True, text=True)
    told = done.stdout + done.stderr
    assert done.returncode == 0 or "got:[" in told.replace(" ", "").replace("\n", ""), told
    return done.returncode != 0


def requests(route: str, status: int, rising: int) -> dict[str, str]:
    """Return the series of a counter that rises by `rising` each minute."""
    name = f'digitq_http_requests_total{{job="digitq-web",method="GET",route="{route}",status="{status}"}}'
    return {name: f"0+{rising}x30"}


def test_the_rules_are_valid() -> None:
    for words in (["rules", "alerts.yml"], ["config", "prometheus.yml"]):
        command = [tool("prometheus", "promtool"), "check", *words]
        done = subprocess.run(command, cwd=ROOT / "deploy/prometheus", capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_probes_that_fail_set_off_no_alert_and_requests_that_fail_do(tmp_path: Path) -> None:
    up = {'up{job="digitq-web"}': "1x30", 'digitq_redis_up{job="digitq-web"}': "1x30"}
    probes = up | requests("/readyz", 503, 60) | requests("/healthz", 200, 60) | requests("/metrics", 200, 12)
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"][0]["rules"]
    for rule in rules:
        assert not firing(tmp_path, probes, rule["alert"]), rule["alert"]
    asked = requests("/v1/predictions", 202, 1000)
    assert not firing(tmp_path, probes | asked, "DigitqErrors")
    assert firing(tmp_path, probes | asked | requests("/v1/predictions", 503, 50), "DigitqErrors")


def test_each_alert_fires_when_it_should(tmp_path: Path) -> None:
    rising = "0+60x30"
    for alert, series in {
        "DigitqDown": {'up{job="digitq-web"}': "0x30"},
        "DigitqRedisDown": {"digitq_redis_up": "0x30"},
        "DigitqNoWorker": {'digitq_workers{instance="a",state="idle"}': "0x30"},
        "DigitqModelRefused": {'digitq_model_refused{instance="a"}': "1x30"},
        "DigitqQueueAge": {"digitq_oldest_job_age_seconds": "31x30"},
        "DigitqTooFewWorkers": {
            "digitq_workers_needed": "3x30", 'digitq_workers{instance="a",state="busy"}': "2x30",
        },
        "DigitqFailures": {
            'digitq_pictures_completed_total{outcome="failed"}': rising,
            'digitq_pictures_completed_total{outcome="succeeded"}': "0+600x30",
        },
        "DigitqGivenUp": {'digitq_quarantined_total{reason="poison"}': "0x15 1x15"},
        "DigitqLeasesExpire": {"digitq_leases_expired_total": "0x5 1+1x30"},
        "DigitqQueueFull": {'digitq_rejected_total{reason="queue_full"}': rising},
        "DigitqRedisMemory": {"digitq_redis_memory_used_bytes": "9x30", "digitq_redis_memory_limit_bytes": "10x30"},
    }.items():  # fmt: skip
        assert firing(tmp_path, series, alert), alert


def test_a_probe_is_counted_under_its_route(tmp_path: Path) -> None:
    settings = Settings(redis_url=f"unix://{tmp_path}/none.sock")
    with site(Store(connect(settings.redis_url), settings)) as web:
        assert web.get("/readyz").status_code == 503
        web.post("/v1/predictions", data=seven(), content_type="image/png")
        found = samples(web.get("/metrics").text)
    failed = {dict(labels)["route"] for name, labels in found if name.endswith("requests_total")
              and dict(labels)["status"] == "503"}  # fmt: skip
    assert {"/readyz", "/v1/predictions"} <= failed
