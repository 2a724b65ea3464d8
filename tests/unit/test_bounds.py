"""The memory warning of a worker at its start."""

from __future__ import annotations

import logging

import pytest

from worker.queue.limits import warn_of_little_memory

MB = 1024**2


def test_a_worker_warns_with_figures_where_the_largest_picture_takes_more_memory_than_there_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    warn_of_little_memory(1500 * MB, 50_000_000, 900 * MB)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "900 MB of memory are available here, and a picture of 50 megapixels" in record.message
    assert "up to 1500 MB" in record.message and "DIGITQ_MAX_PIXELS" in record.message


@pytest.mark.parametrize("available", [0, 1500 * MB, 16_000 * MB])
def test_a_worker_with_enough_memory_or_where_nobody_tells_says_nothing(
    available: int, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_little_memory(1500 * MB, 50_000_000, available)
    assert caplog.records == []
