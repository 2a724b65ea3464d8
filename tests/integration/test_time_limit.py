"""A time limit holds, whoever else is in the process."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import Mock

import pytest
from rq.timeouts import JobTimeoutException

from shared.errors import EmptyBatch, UndecodableImage
from shared.prediction import Outcome
from worker.inference.classify import Classified, Pictures
from worker.queue.batch_worker import BatchWorker
from worker.queue.jobs import NOT_CLASSIFIED, code_and_message
from worker.queue.limits import ALARM_INTERVAL_SECONDS
from worker.queue.picture_runner import BatchClassifier


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
            time.sleep(2 * ALARM_INTERVAL_SECONDS)  # in which no other alarm comes
            cleaned = True
    assert cleaned


@pytest.mark.parametrize("seconds", [1, -1, 0])
def test_no_alarm_comes_after_the_end_or_where_there_is_no_limit(seconds: int) -> None:
    with BatchWorker.death_penalty_class(seconds, JobTimeoutException):
        assert (signal.getitimer(signal.ITIMER_REAL)[0] <= 1) == (seconds > 0)  # the tests have one, of minutes
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_picture_that_takes_too_long_is_late_whatever_the_decoder_makes_of_it() -> None:
    def classify(images: Pictures) -> Classified:
        results: list[Outcome | Exception] = []
        for image in images:
            try:
                time.sleep(30 if image == b"slow" else 0)
                results.append(EmptyBatch("quick"))
            except Exception:  # as around Pillow, which raises nearly anything for damaged bytes
                results.append(UndecodableImage("damaged"))
        return Classified(results)

    classifier = BatchClassifier(classify, Mock(), lambda: False)
    quick, slow, other = classifier([b"quick", b"slow", b"other"], 1).results
    assert code_and_message(slow) == ("timeout", NOT_CLASSIFIED)  # type: ignore[arg-type]
    assert isinstance(quick, EmptyBatch) and isinstance(other, EmptyBatch)
