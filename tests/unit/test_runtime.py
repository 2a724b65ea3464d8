"""Health, extras, histograms and traces of a process, and what is found out about its server."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry, generate_latest

from shared.errors import MissingPart, RedisUnavailable
from shared.redis_server import server_check, server_report
from shared.redis_server.server_check import KNOWN_SECONDS, ServerCheck
from shared.redis_server.server_findings import ERROR, NOTE, WARNING, Finding
from shared.redis_server.server_report import loses, report
from shared.runtime import extras, health, tracing
from shared.runtime.metrics import Histogram
from shared.settings import Settings

# Health


class Connection:
    """A connection to a web process with this answer, or an error instead."""

    def __init__(self, answer: bytes | Exception) -> None:
        self.answer, self.sent = answer, b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def recv(self, size: int) -> bytes:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "healthy"),
    [
        (b"HTTP/1.1 200 OK\r\n", True), (b"HTTP/1.1 503 Service Unavailable\r\n", False), (b"", False),
        (b"SSH-2.0-x\r\n", False), (b"HTTP/1.1 500 200 \r\n", False), (TimeoutError(), False),
    ],
)  # fmt: skip
def test_a_web_process_is_healthy_if_it_says_so(
    answer: bytes | Exception, healthy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, connection = list[Any](), Connection(answer)

    def connect(*words: Any, **options: Any) -> Connection:
        asked.append((words, options))
        return connection

    monkeypatch.setattr(health.socket, "create_connection", connect)
    assert health.is_healthy("web", Settings(host="::", port=81)) is healthy
    [((place,), options)] = asked
    assert place[1] == 81 and "[" not in place[0] and options["timeout"] <= 2
    assert connection.sent.startswith(b"GET /healthz HTTP/1.1\r\nHost: ") and b"Connection: close" in connection.sent


def test_a_web_process_that_is_away_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> Connection:
        raise ConnectionRefusedError

    monkeypatch.setattr(health.socket, "create_connection", refused)
    assert health.is_healthy("web", Settings()) is False


def test_a_worker_is_healthy_while_its_sign_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert not health.is_healthy("worker", Settings())
    health.alive()
    [sign] = tmp_path.iterdir()
    assert health.is_healthy("worker", Settings()) and str(os.getuid()) in sign.name
    for age, healthy in ((25, True), (35, False)):
        os.utime(sign, (time.time() - age,) * 2)
        assert health.is_healthy("worker", Settings()) is healthy
    health.alive()
    assert health.is_healthy("worker", Settings())


def test_a_disk_that_cannot_be_written_fails_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    health.alive()
    assert not health.is_healthy("worker", Settings())


# Extras


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The modules that are."""
    found = {name for names in extras.EXTRAS.values() for name in names}
    monkeypatch.setattr(extras, "find_spec", lambda name: name if name in found else None)
    return found


@pytest.mark.parametrize(("namespace", "package"), [("", "-e '.[{}]'"), ("digitq", "'digitq[{}]'")])
def test_what_is_not_installed_is_named_with_the_command(
    namespace: str, package: str, installed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "NAMESPACE", namespace)
    extras.require("worker", "training")
    installed -= {"rq", "cv2"}
    with pytest.raises(MissingPart) as one:
        extras.require("worker")
    assert str(one.value) == f"Not installed: rq. Needs `pip install {package.format('worker')}`."
    with pytest.raises(MissingPart) as both:
        extras.require("worker", "training")
    assert str(both.value) == f"Not installed: rq, cv2. Needs `pip install {package.format('worker,training')}`."
    installed.add("rq")
    extras.require("worker")
    with pytest.raises(MissingPart, match=r"installed: cv2\..*training"):
        extras.require("worker", "training")


def test_a_checkout_is_asked_for_by_its_files(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    extras.require_checkout(tmp_path, ["one"], "Instead.")
    with pytest.raises(MissingPart, match=r"installed: two, three\. Needs a checkout of digitq\. Instead\."):
        extras.require_checkout(tmp_path, ["two", "one", "three"], "Instead.")


# Histograms


def test_a_histogram_counts_a_bound_below_it_and_what_is_beyond_in_the_last() -> None:
    registry = CollectorRegistry()
    one = Histogram("x_seconds", "About x.", (1, 2), registry)
    assert b"x_seconds_bucket" not in generate_latest(registry)
    one.observe([1.0, 1.5, 9.0])
    one.observe([2.0], times=3)
    lines = generate_latest(registry).decode().splitlines()
    assert {'x_seconds_bucket{le="1.0"} 1.0', 'x_seconds_bucket{le="2.0"} 5.0', 'x_seconds_bucket{le="+Inf"} 6.0',
            "x_seconds_count 6.0", "x_seconds_sum 17.5", "# HELP x_seconds About x."} <= {*lines}  # fmt: skip
    assert not any("_created" in line for line in lines)


# Traces


def test_traces_are_made_where_the_environment_names_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[Callable[[], None]] = []
    monkeypatch.setattr(tracing, "tracer", None)
    monkeypatch.setattr(tracing, "Finalize", lambda _, ends, exitpriority: ended.append(ends))
    monkeypatch.setattr(trace_exporter.OTLPSpanExporter, "export", lambda *_: None)
    tracing.start("web")
    assert tracing.tracer is None and not ended
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    tracing.start("web")
    assert tracing.tracer is not None
    span: Any = tracing.tracer.start_span("x")
    about = span.resource.attributes
    assert (about["service.name"], about["deployment.environment"]) == ("web", "test")
    assert about["service.version"] == span.instrumentation_scope.version
    [end] = ended
    end()


def test_a_trace_goes_on_elsewhere_by_its_header() -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("x")
    header = f"00-{'a' * 32}-{'b' * 16}-01"
    span = tracer.start_span("x", tracing.context(header))
    assert (span.get_span_context().trace_id, span.parent.span_id) == (int("a" * 32, 16), int("b" * 16, 16))
    own = f"00-{'a' * 32}-{span.get_span_context().span_id:016x}-01"
    assert tracing.traceparent(span) == own
    assert tracer.start_span("x", tracing.context("none")).parent is None
    assert tracing.traceparent(trace.INVALID_SPAN) == ""


def test_spans_say_what_is_done_with_which_message() -> None:
    assert tracing.messaging("receive", "digitq", "7") == {
        "messaging.operation.name": "receive", "messaging.operation.type": "receive", "messaging.system": "rq",
        "messaging.destination.name": "digitq", "messaging.message.id": "7",
    }  # fmt: skip


# The report about a server


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A server about which a test says everything."""
    said = SimpleNamespace(found=[], lacks={}, user=None, timeout=None, reports=[])

    @contextmanager
    def connect(url: str, timeout: float) -> Any:
        said.timeout = timeout
        yield SimpleNamespace(connection_pool=SimpleNamespace(connection_kwargs={"username": said.user}))

    monkeypatch.setattr(server_report, "connect", connect)
    monkeypatch.setattr(server_report, "read_server", lambda *_: list(said.found))
    monkeypatch.setattr(server_report, "missing", lambda _, part: said.lacks.get(part, []))
    monkeypatch.setattr(server_report, "NEEDED", ("web", "worker"))
    service = SimpleNamespace(name="one", reports=lambda _: said.reports)
    monkeypatch.setattr(server_report.Service, "parse", lambda _: service)
    return said


def told(url: str = "redis://x") -> list[tuple[str, str, str]]:
    return [(one.level, one.code, str(one)) for one in report(Settings(redis_url=url))]


def test_findings_come_with_the_worst_first(asked: SimpleNamespace) -> None:
    asked.found = [Finding(NOTE, "n", "n"), Finding(ERROR, "e", "e", "x"), Finding(WARNING, "w", "w", "x")]
    assert [code for _, code, _ in told()] == ["e", "w", "n"] and asked.timeout == 5


def test_a_user_with_all_rights_is_no_finding_and_one_without_is_an_error(asked: SimpleNamespace) -> None:
    assert told() == []
    asked.lacks = {"web": ["+a", "+b", "+c"], "worker": ["+d"]}
    [(level, code, text)] = told()
    assert (level, code) == (ERROR, "rights_missing") and "'default' may not do what a worker needs: +d" in text
    asked.user = "w"
    assert "the user 'w'" in told()[0][2]


def test_a_user_of_one_part_is_noted(asked: SimpleNamespace) -> None:
    asked.lacks = {"web": [f"+{n}" for n in range(8)]}
    [(level, code, text)] = told()
    assert (level, code) == (NOTE, "rights_of_one_part")
    assert text.endswith(f"can serve a worker, and no web: it may not {', '.join(asked.lacks['web'])}.")
    asked.lacks["web"] += ["+8", "+9"]
    assert told()[0][2].endswith("+7 and 2 more.")


@pytest.mark.parametrize("code", ["too_old", "sentinel", "loading"])
def test_the_rights_on_a_server_that_cannot_tell_are_not_asked_for(code: str, asked: SimpleNamespace) -> None:
    asked.found, asked.lacks = [Finding(ERROR, code, "x", "y")], {"web": ["+a"], "worker": ["+a"]}
    assert [found for _, found, _ in told()] == [code]


def test_what_is_more_than_a_note_would_lose_pictures() -> None:
    assert not loses([Finding(NOTE, "n", "n")]) and not loses([])
    assert loses([Finding(NOTE, "n", "n"), Finding(WARNING, "w", "w", "x")]) and loses([Finding(ERROR, "e", "e", "x")])


def test_sentinels_that_are_away_or_disagree_are_findings(asked: SimpleNamespace) -> None:
    def saying(host: str) -> Any:
        one = server_report.Report.__new__(server_report.Report)
        object.__setattr__(one, "primary", (host, 6379))
        return one

    asked.reports = [(("s1", 1), saying("a")), (("s2", 2), saying("a")), (("s3", 3), "no answer")]
    assert told() == []  # of a plain URL nobody asks sentinels
    [(level, code, text)] = told("redis+sentinel://s1/one")
    assert (level, code) == (WARNING, "sentinel_unreachable") and "s3:3" in text and "'one' (no answer)" in text
    asked.reports[2] = ("s3", 3), saying("b")
    [(level, code, text)] = told("redis+sentinel://s1/one")
    assert (level, code) == (ERROR, "sentinels_disagree") and "s1:1 says a:6379" in text and "s3:3 says b:6379" in text


# The watch


class Over(Exception):
    """The test has seen enough."""


def test_a_server_is_watched_whatever_happens_and_an_outage_is_no_surprise(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks, pauses = iter([RedisUnavailable("away"), ValueError("odd"), None]), list[float]()

    def findings(_: ServerCheck) -> None:
        if error := next(looks):
            raise error

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise Over

    monkeypatch.setattr(server_check, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    monkeypatch.setattr(ServerCheck, "findings", findings)
    pool = SimpleNamespace(connection_kwargs={})
    with pytest.raises(Over):
        ServerCheck(SimpleNamespace(connection_pool=pool), Settings()).watch()  # type: ignore[arg-type]
    assert pauses == [KNOWN_SECONDS] * 3
    assert [(one.getMessage(), one.exc_info[0]) for one in caplog.records if one.exc_info] == [
        ("unexpected", ValueError)
    ]
