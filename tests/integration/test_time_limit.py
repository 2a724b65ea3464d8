"""A time limit holds, whoever else is in the process."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rq.timeouts import JobTimeoutException

from worker.queue.batch_worker import BatchWorker
from worker.queue.limits import ALARM_INTERVAL_SECONDS


@contextmanager
def thief() -> Iterator[None]:
    """A thread that takes nine of ten alarms: a thread that changes its signal mask looks for pending signals."""
    done = threading.Event()

    def steal() -> None:
        while not done.is_set():
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])

    thread = threading.Thread(target=steal)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_an_alarm_that_another_thread_takes_is_not_the_last() -> None:
    for _ in range(3):
        start = time.monotonic()
        with thief(), pytest.raises(JobTimeoutException), BatchWorker.death_penalty_class(1, JobTimeoutException):
            time.sleep(30)
        assert 1 <= time.monotonic() - start < 20


def test_what_cleans_up_after_an_alarm_hears_no_other() -> None:
    with pytest.raises(JobTimeoutException), BatchWorker.death_penalty_class(1, JobTimeoutException):
        try:
            time.sleep(30)
        finally:
            time.sleep(2 * ALARM_INTERVAL_SECONDS)
            cleaned = True
    assert cleaned


@pytest.mark.parametrize("seconds", [1, -1, 0])
def test_no_alarm_comes_after_the_end_or_where_there_is_no_limit(seconds: int) -> None:
    with BatchWorker.death_penalty_class(seconds, JobTimeoutException):
        time.sleep(0.1)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
