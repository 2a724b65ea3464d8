"""The log of web and worker: what a line is about are fields of their own."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis

from digitq.cli import exit_codes
from producer.middleware.request import add_request_id
from shared.errors import CannotStart, RedisUnavailable
from shared.runtime import logs
from shared.runtime.repeats import Repeats
from shared.settings import Settings
from shared.store import Store
from tests.api import PICTURE, TRACE
from tests.fakes import classify
from tests.pictures import seven
from tests.served import site
from worker.queue.batch_worker import BatchWorker

IDS = {"X-Request-ID": "req-1", "traceparent": TRACE}


@pytest.fixture
def written(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """Return the log at DEBUG, in the format that the test names."""
    root, kept = logging.getLogger(), logging.getLogger().handlers[:]
    logs.configure(Settings(log_format=request.param, log_level="DEBUG"), add_request_id)
    out = io.StringIO()
    assert isinstance(root.handlers[0], logging.StreamHandler)
    root.handlers[0].setStream(out)
    yield out
    root.handlers[:] = kept
    root.setLevel(logging.WARNING)
    logging.getLogger("digitq").setLevel(logging.NOTSET)
    logging.captureWarnings(False)
    sys.excepthook, threading.excepthook = sys.__excepthook__, threading.__excepthook__


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log of a process that has not logged any repeated error yet."""
    monkeypatch.setattr(logs, "repeats", Repeats())


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("written", ["json"], indirect=True)
def test_the_uploads_that_an_outage_refuses_are_one_line_and_others_one_each(
    store: Store, limited: None, written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise RedisUnavailable("Redis cannot be reached") from redis.ConnectionError("Connection refused")

    monkeypatch.setattr(Store, "submit_all", away)
    with site(store) as web:
        answers = [web.post("/v1/predictions", data=seven(), **PICTURE).status_code for _ in range(20)]
        answers += [web.post("/v1/predictions", data=b"", **PICTURE).status_code for _ in range(3)]
    assert answers == [503] * 20 + [400] * 3
    refused = [line["code"] for line in lines(written) if str(line["message"]).startswith("refused")]
    assert refused == ["redis_unavailable"] + ["no_image"] * 3


@pytest.mark.parametrize("written", ["json"], indirect=True)
def test_web_and_worker_name_the_picture_and_its_request_in_fields_of_their_own(
    store: Store, written: io.StringIO
) -> None:
    with site(store) as web:
        id = web.post("/v1/predictions", data=seven(), headers=IDS, **PICTURE).get_json()["id"]
        bad = web.post("/v1/predictions", data=seven(), headers=IDS, **PICTURE).get_json()["id"]
    worker = BatchWorker(store, classify)
    first, second = worker.claimer.claim_batch()
    worker.run([replace(first, image=b"7"), replace(second, image=b"undecodable")])
    worker.wakeup.close()
    found = {(line["message"], line.get("prediction_id")): line for line in lines(written)}
    assert found["accepted", id]["request_id"] == "req-1"
    good, ended = found["ended", id], found["ended", bad]
    assert (good["level"], good["state"], good["request_id"], good["traceparent"]) == (
        "DEBUG", "succeeded", "req-1", TRACE,
    )  # fmt: skip
    assert (ended["level"], ended["code"], ended["request_id"]) == ("INFO", "undecodable_image", "req-1")
    assert ended["attempt"] == 1 and str(ended["time"]).endswith("Z")


@pytest.mark.parametrize("written", ["json"], indirect=True)
def test_whatever_is_logged_while_a_request_is_answered_has_its_id(
    store: Store, written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "model_card", lambda _: 1 / 0)
    with site(store) as web:
        web.post("/v1/predictions", data=b"hello", headers=IDS, **PICTURE)
        web.get("/v1/model", headers={"X-Request-ID": "req-2"})
    logging.getLogger("digitq.web").info("of no request")
    refused, bug, other = lines(written)
    assert (refused["code"], refused["status"], refused["request_id"]) == ("unsupported_type", 415, "req-1")
    assert bug["request_id"] == "req-2" and "ZeroDivisionError" in str(bug["traceback"])
    assert other["message"] == "of no request" and "request_id" not in other


@pytest.mark.parametrize("written", ["text"], indirect=True)
def test_as_text_the_fields_stand_behind_the_message(written: io.StringIO) -> None:
    log = logging.getLogger("digitq.worker")
    log.warning("lease ran out", extra={"prediction_id": "x", "code": ""})
    try:
        raise ValueError("v")
    except ValueError:
        log.exception("failed", extra={"prediction_id": "y"})
    first, second, *trace = written.getvalue().splitlines()
    assert first.endswith("WARNING digitq.worker: lease ran out prediction_id=x")
    assert second.endswith("failed prediction_id=y") and trace[-1] == "ValueError: v"


@pytest.mark.parametrize("written", ["json"], indirect=True)
def test_a_field_of_any_type_is_written(written: io.StringIO) -> None:
    logging.getLogger("digitq.worker").warning("x", extra={"code": {7}})
    [line] = lines(written)
    assert line["code"] == "{7}"


# ---------------------------------------------------------------------- what others write


@pytest.mark.parametrize("written", ["text"], indirect=True)
def test_debug_is_for_our_own_loggers(written: io.StringIO) -> None:
    for name in ("digitq.worker", "PIL.PngImagePlugin", "h5py._conv", "tensorflow", "asyncio", "rq.worker"):
        logging.getLogger(name).debug("details of %s", name)
        logging.getLogger(name).warning("a warning of %s", name)
    assert [line.partition("details of ")[2] for line in written.getvalue().splitlines() if "details" in line] == [
        "digitq.worker"
    ]
    assert written.getvalue().count("a warning of") == 6


@pytest.mark.parametrize("written", ["json"], indirect=True)
def test_what_nobody_caught_and_warnings_are_json_too(written: io.StringIO) -> None:
    def fail() -> None:
        raise ValueError("on a thread")

    thread = threading.Thread(target=fail, name="t")
    thread.start()
    thread.join()
    try:
        raise ValueError("on the main one")
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    warnings.showwarning("old", DeprecationWarning, "file.py", 1)  # as `warn` does, where nothing filters
    first, second, third = lines(written)
    assert "ValueError: on a thread" in str(first["traceback"]) and first["level"] == "CRITICAL"
    assert "ValueError: on the main one" in str(second["traceback"])
    assert "DeprecationWarning: old" in str(third["message"])


@pytest.mark.parametrize("written", ["json"], indirect=True)
def test_the_reason_of_an_exit_is_json_where_the_log_is(written: io.StringIO) -> None:
    with pytest.raises(SystemExit), exit_codes():
        raise CannotStart("no")
    [line] = lines(written)
    assert (line["level"], line["message"]) == ("CRITICAL", f"{CannotStart.title}: no")


def test_the_reason_of_an_exit_is_plain_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), exit_codes():
        raise CannotStart("no")
    assert capsys.readouterr().err == f"{CannotStart.title}: no\n"
