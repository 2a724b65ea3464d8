"""The lines of the log about Redis, without those that are repeated."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shared.connections import connection
from shared.runtime.repeats import Repeats


@contextmanager
def lines_about_redis() -> Iterator[list[str]]:
    """The lines that are logged in the block."""
    told: list[str] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    one, handler, logger = Repeats(), Listening(), logging.getLogger("digitq.redis")
    handler.addFilter(one)
    logger.addHandler(handler)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "repeats", one)
        yield told
    logger.removeHandler(handler)
