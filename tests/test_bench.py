"""The benchmark itself: it counts from the intended time, checks every answer, and leaves nothing running."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import bulk, client, contenders, plots, processes, report
from benchmarks.alone import drain
from benchmarks.contenders import Server
from benchmarks.machine import describe
from benchmarks.picture import idx, picture, png, recorded
from benchmarks.plan import QUICK
from benchmarks.rounds import in_turn
from benchmarks.servers import model
from benchmarks.tally import percentiles
from shared import ROOT
from tests.waits import until

Answer = tuple[int, dict[str, Any]]
Handle = Callable[[int], Answer]


@contextmanager
def server(answer: Handle, asked: list[str] | None = None) -> Iterator[str]:
    """An HTTP server that answers its n-th request with what `answer(n)` says; notes paths and headers in `asked`."""
    numbers = iter(range(1_000_000))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if asked is not None:
                asked.append(f"{self.path} {self.headers}")
            status, body = answer(next(numbers))
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Location", "/v1/predictions/x")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST  # noqa: N815  # http.server's name

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    class Threads(ThreadingHTTPServer):
        daemon_threads = True
        #: Of the five connections that are usual, a busy machine drops the sixth, and TCP tries again after seconds.
        request_queue_size = 128

        def handle_error(self, *_: Any) -> None:
            """The client hangs up in the end."""

    with Threads(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}"
        finally:
            running.shutdown()
            thread.join()


def load(url: str, **words: Any) -> dict[str, Any]:
    body, digit = picture()
    return client.run(client.Load(url, b64encode(body).decode(), digit, **{"seconds": 0.5, **words}))


def right(_: int) -> Answer:
    return 200, {"digit": picture()[1], "batch": {"size": 3}}


def test_a_closed_loop_counts_right_answers() -> None:
    with server(right) as url:
        result = load(url, clients=2, warm=0.1)
    assert result["errors"] == {}
    assert result["answered"] > 2 and result["rate"] > 2 and result["batch_size"] == 3
    assert 0 < result["ms"]["p50"] <= result["ms"]["p99"] <= result["ms"]["max"]


def test_a_wrong_digit_and_a_refusal_are_errors_and_no_latencies() -> None:
    answers: list[Answer] = [(200, {"digit": 99}), (503, {"code": "queue_full"})]
    with server(lambda n: answers[n % 2]) as url:
        result = load(url)
    assert set(result["errors"]) == {"wrong digit", "status 503"}
    assert result["answered"] == 0 and result["ms"]["p50"] is None


def test_a_server_that_is_not_there_is_an_error() -> None:
    assert load("http://127.0.0.1:9")["errors"].keys() == {"ConnectionRefusedError"}


def test_an_answer_that_has_to_be_fetched_is_fetched() -> None:
    steps: list[Answer] = [(202, {"state": "queued"}), (200, {"state": "running"}), (200, {"digit": picture()[1]})]
    with server(lambda n: steps[n % 3]) as url:
        result = load(url)
    assert result["errors"] == {} and result["answered"] >= 1


def test_who_polls_never_asks_the_server_to_wait() -> None:
    asked: list[str] = []
    steps: list[Answer] = [(202, {"state": "queued"}), (200, {"state": "running"}), (200, {"digit": picture()[1]})]
    with server(lambda n: steps[n % 3], asked) as url:
        result = load(url, polls=True)
    assert result["errors"] == {} and result["answered"] >= 1
    assert not [one for one in asked if "wait" in one]


def test_an_open_loop_counts_from_the_intended_time() -> None:
    """One stall of 0.4 s meets everybody who arrived meanwhile, not one request: no coordinated omission."""
    stall = threading.Lock()

    def answer(n: int) -> Answer:
        with stall:
            time.sleep(0.4 if n == 5 else 0)
        return right(n)

    with server(answer) as url:
        result = load(url, seconds=1.0, rate=100.0)
    assert result["answered"] > 60 and result["errors"] == {}
    assert result["ms"]["p90"] > 100  # a closed loop would have met it once in a hundred


@pytest.mark.parametrize("words", [{"rate": 20.0}, {"clients": 4}])
def test_what_is_never_answered_counts_with_its_age(monkeypatch: pytest.MonkeyPatch, words: dict[str, Any]) -> None:
    monkeypatch.setattr(client, "DRAIN_SECONDS", 0.2)
    held = threading.Event()
    with server(lambda n: (held.wait(3) and (200, {})) or right(n)) as url:
        result = load(url, **words)
        held.set()
    assert result["errors"]["unanswered"] > 2 and result["ms"]["max"] > 400


def test_arrivals_are_poisson_and_the_same_for_everybody() -> None:
    times = list(client.arrivals(10.0, 110.0, 50.0, seed=1))
    assert times == list(client.arrivals(10.0, 110.0, 50.0, seed=1))
    gaps = [b - a for a, b in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    assert 0.019 < mean < 0.021
    assert (
        0.9 < (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5 / mean < 1.1
    )  # exponential: deviation = mean


def test_percentiles_are_exact() -> None:
    found = percentiles([float(n) for n in range(1000, 0, -1)])
    assert found == {"p50": 500, "p90": 900, "p99": 990, "p999": 999, "max": 1000}
    assert percentiles([])["p99"] is None


def test_a_bulk_upload_is_timed_to_its_last_result_and_singles_beside_it() -> None:
    body = {"id": "b", "total": 5, "succeeded": 4, "failed": 1, "digit": picture()[1]}
    with server(lambda _: (200, body)) as url:
        found = bulk.bulk(Server("digitq", url), QUICK)
    assert found["seconds"] > 0 and found["failed"] == 1 and found["busy_errors"] == {}
    assert found["idle_p99_ms"] and found["busy_p99_ms"] and not found["busy_throughout"]


def test_a_server_without_a_bulk_path_says_so() -> None:
    with server(lambda _: (404, {"code": "not_found"})) as url, pytest.raises(bulk.NoBulk, match="answers 404"):
        bulk.bulk(Server("digitq", url), QUICK)


def test_ratios_are_taken_within_a_repetition() -> None:
    rows = [("a", 0, 10), ("b", 0, 5), ("a", 1, 30), ("b", 1, 10), ("a", 2, 7)]
    records = [{"server": name, "repetition": at, "clients": 64, "rate": rate} for name, at, rate in rows]
    assert report.ratios(records, 64, "a", "b", lambda one: float(one["rate"])) == [2.0, 3.0]
    assert report.median([2.0, 3.0, 4.0]) == "3.0 (2.0–4.0)"


def test_every_repetition_begins_with_another_server() -> None:
    assert ["".join(in_turn("ABC", n)) for n in range(4)] == ["ABC", "BCA", "CAB", "ABC"]  # type: ignore[arg-type]


def test_a_plot_stands_for_itself() -> None:
    svg = plots.plot("a < b", "x", "y", {"one": [(1, 2), (1000, 90)], "none": []}, {"one": [(1, 1)]})
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg") and "http://" not in svg.replace("http://www.w3.org/2000/svg", "")
    for circle in root.iter("{http://www.w3.org/2000/svg}circle"):
        assert 0 <= float(circle.attrib["cx"]) <= plots.WIDTH and 0 <= float(circle.attrib["cy"]) <= plots.HEIGHT


def test_the_picture_is_a_usual_digit() -> None:
    body, _ = picture()
    assert 230 <= len(body) <= 280 and body in {png(image) for image in recorded()[0]}
    assert len(idx(250)) == 16 + 250 * 784


def test_the_compared_servers_read_the_picture_plainly_or_as_we_do() -> None:
    body, expected = picture()
    assert model.digit(body) == model.preprocessed(body) == expected
    assert model.digits([body] * 3) == [expected] * 3


def test_a_contender_that_is_not_installed_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contenders, "PACKAGES", ROOT / "var" / "nothing")
    assert "-r benchmarks/requirements-mosec.txt" in contenders.missing("mosec")
    assert "-r benchmarks/requirements.txt" in contenders.missing("celery")
    assert not contenders.missing("inline")


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at through /proc")
def test_cpu_and_memory_of_processes_are_found() -> None:
    child = subprocess.Popen([sys.executable, "-c", "x = 0\nwhile True: x += 1", "granian"])
    try:
        until(lambda: processes.cpu_seconds([child.pid]) > 0.05)
        found = processes.groups(os.getpid())
        assert child.pid in found["web"] and os.getpid() in found["other"]
        assert 1 < processes.pss_mb(child.pid) <= processes.rss_mb(child.pid)
    finally:
        child.kill()
        child.wait()


def test_one_worker_drains_a_backlog(redis_url: str) -> None:
    found = drain(redis_url, 20)
    assert found["rate"] > 1 and 0 < found["first_claim_s"] < 60 and found["worker_cpu_s"] > 0.1


def test_a_report_of_a_worker_alone_is_about_nothing_else() -> None:
    drained = {"pictures": 9, "rate": 5, "submits_per_s": 9, "redis_bytes": 1, "redis_cpu_us": 1, "first_claim_s": 1}
    noop = {"BatchWorker": {"rate": 50}, "SimpleWorker": {"rate": 2}, "ratios": [25]}
    worker = {"drains": [drained], "rate_large_to_small": 1, "worker_cpu_us": 1, "noop": noop}
    found = {"machine": describe(), "model": "best", "skipped": {}, "closed": [], "open": [], "worker": worker}
    assert "ratio 25" in report.text(found) and "closed loop" not in report.text(found)


@pytest.mark.timeout(600)
def test_a_quick_run_measures_side_by_side(tmp_path: Path) -> None:
    words = ["bench", "--quick", "--only", "digitq", "--only", "inline", "--only", "many"]
    words += ["--model", "worker/model_seed"]
    words += ["--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "digitq", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "report.json").read_text())
    assert {one["server"] for one in found["closed"]} == {"digitq", "inline"} and found["model"] == "model_seed"
    assert all(one["errors"] == {} and one["rate"] > 0 for one in found["closed"])
    assert "digitq, 1 worker : Flask inline, 2 processes" in done.stdout
    assert [(one["load"], one["errors"]) for one in found["many"]] == [("4 wait", {}), ("4 poll", {}), ("8 wait", {})]
    assert "| 4 poll |" in done.stdout
    assert done.stdout == (tmp_path / "report.md").read_text()
    for name in ("latency.svg", "batch_size.svg"):
        ElementTree.parse(tmp_path / name)
    if sys.platform == "linux":
        assert {"web", "redis", "worker"} <= found["closed"][0]["cpu_us"].keys()


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at through /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_it_nothing_keeps_running(number: signal.Signals) -> None:
    words, runs = ["bench", "--quick", "--only", "digitq"], set(folders())
    bench = subprocess.Popen([sys.executable, "-m", "digitq", *words], cwd=ROOT, stderr=subprocess.DEVNULL)
    until(lambda: len(below(bench.pid)) > 6)
    started = below(bench.pid)
    bench.send_signal(number)
    bench.wait(60)
    until(lambda: not [pid for pid in started if Path(f"/proc/{pid}").exists()])
    left = set(folders()) - runs
    for folder in left:
        shutil.rmtree(folder)
    assert number == signal.SIGKILL or not left


def folders() -> list[Path]:
    return list((ROOT / "var" / "bench").glob("run-*"))


def below(pid: int) -> list[int]:
    return [one for pids in processes.groups(pid).values() for one in pids]


def test_a_url_where_nobody_answers_is_unavailable() -> None:
    words = ["bench", "--quick", "--url", "http://127.0.0.1:9"]
    done = subprocess.run(
        [sys.executable, "-m", "digitq", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3 and "ConnectionRefusedError" in done.stderr
