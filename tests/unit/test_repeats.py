"""The log during an outage of Redis: once, then once a minute, then its return."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import redis

from shared.connections.connection import redis_errors
from shared.errors import RedisUnavailable
from shared.runtime import repeats
from tests.logged import lines_about_redis


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands still."""
    clock = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(repeats, "time", SimpleNamespace(monotonic=lambda: clock.seconds))
    return clock


@pytest.fixture
def lines() -> Iterator[list[str]]:
    with lines_about_redis() as told:
        yield told


def fail(error: Exception = redis.ConnectionError("refused"), times: int = 1) -> None:  # noqa: B008  # never changed
    for _ in range(times):
        with pytest.raises(RedisUnavailable), redis_errors():
            raise error


def answer() -> None:
    with redis_errors():
        pass


def test_an_outage_is_logged_once_then_each_minute_and_its_end(lines: list[str], now: SimpleNamespace) -> None:
    fail(times=500)
    assert lines == ["redis: refused"]
    now.seconds += 61
    fail(times=3)
    assert lines[1:] == ["redis: refused (499 times more since the last line)"]
    now.seconds += 9
    answer()
    answer()
    assert lines[2:] == ["redis: answers again after 70.0 s"]
    fail()
    assert lines[3:] == ["redis: refused"]


def test_an_outage_that_several_places_notice_is_logged_once(lines: list[str], now: SimpleNamespace) -> None:
    worker = logging.getLogger("digitq.redis.worker")
    worker.warning("%s: trying again in %.1f s", redis.ConnectionError("Connection closed by server."), 0.1)
    for _ in range(20):
        fail(redis.ConnectionError("Error 111 connecting to 10.0.0.1:6379."))
        worker.warning("%s: trying again in %.1f s", redis.ConnectionError("Error 111 connecting"), 0.1)
        try:
            with redis_errors():
                raise redis.ConnectionError("Error 111 connecting")
        except RedisUnavailable as error:
            worker.warning("no heartbeat: %s", error)
    assert lines == ["Connection closed by server.: trying again in 0.1 s"]
    fail(redis.BusyLoadingError("LOADING the dataset"))
    assert lines[1:] == ["redis: LOADING the dataset"]
    answer()
    assert [line.partition(" after")[0] for line in lines[2:]] == ["redis: answers again"]


def test_errors_of_different_kinds_do_not_hide_each_other(lines: list[str], now: SimpleNamespace) -> None:
    for _ in range(20):
        fail(redis.exceptions.OutOfMemoryError("OOM"))
        fail(redis.exceptions.ReadOnlyError("READONLY"))
        answer()  # to reading, while writing is refused
    assert lines == ["redis: OOM", "redis: READONLY"]


def test_causes_of_one_class_do_not_hide_each_other_and_what_varies_in_them_is_no_other_cause(
    lines: list[str], now: SimpleNamespace
) -> None:
    heartbeat = logging.getLogger("digitq.redis.heartbeat")
    refused = ("MISCONF Errors writing to the AOF file: No space left", "NOREPLICAS Not enough good replicas.")
    for number in range(20):
        for text in refused:
            fail(redis.ResponseError(f"Command # {number} (SET key {number}) of pipeline caused error: {text}"))
        fail(redis.ConnectionError(f"Error {number} connecting to 10.0.0.{number}:6379."))
        for words in ("Redis cannot be reached", "The queue's memory is full"):
            heartbeat.warning("no heartbeat: %s", RedisUnavailable(words))
    assert [line.partition("caused error: ")[2] or line for line in lines] == [
        *refused, "redis: Error 0 connecting to 10.0.0.0:6379.",
        "no heartbeat: Redis cannot be reached", "no heartbeat: The queue's memory is full",
    ]  # fmt: skip


def test_a_client_or_a_disk_that_fails_is_not_redis(lines: list[str], now: SimpleNamespace) -> None:
    logging.getLogger("digitq.redis").warning("a response was broken off: %s", TimeoutError("client"))
    logging.getLogger("digitq.redis").warning("no /metrics: %s", OSError("in use"))
    answer()
    assert len(lines) == 2


def test_what_is_no_repeated_error_is_logged_each_time(lines: list[str], now: SimpleNamespace) -> None:
    for _ in range(3):
        logging.getLogger("digitq.redis").warning("redis: %d of %d replicas have it", 1, 2)
        logging.getLogger("digitq.redis").error("redis: %s", RedisUnavailable("x"))
    assert len(lines) == 6


def test_a_bounded_number_of_kinds_is_remembered(
    lines: list[str], now: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats, "MOST_KINDS", 3)
    log = logging.getLogger("digitq.redis")
    for word in ("a", "b", "c", "d", "a"):
        log.warning("%s", ValueError(word))
    assert lines == ["a", "b", "c", "d", "a"]
    log.warning("%s", ValueError("d"))
    assert len(lines) == 5


def test_a_number_in_an_error_makes_no_other_cause(lines: list[str], now: SimpleNamespace) -> None:
    for number in (1, 22, 333):
        logging.getLogger("digitq.redis").warning("%s", ValueError(f"{number} replicas of {number} have it"))
    assert lines == ["1 replicas of 1 have it"]
