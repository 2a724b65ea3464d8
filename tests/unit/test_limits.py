"""The limit of a worker's memory."""

from __future__ import annotations

import resource

import pytest

from worker.queue import limits
from worker.queue.limits import BYTES_PER_PIXEL, limit_memory

FAR = 2**50


@pytest.mark.parametrize(
    ("hard", "beyond"), [(resource.RLIM_INFINITY, FAR), (2**30, 0)], ids=["none", "a limit of 1 GB"]
)
def test_memory_is_limited_to_what_the_largest_picture_takes_and_never_beyond_the_operators_limit(
    hard: int, beyond: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (hard, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: set_to.append((which, limits)))
    monkeypatch.setattr(limits, "memory_bytes", lambda: 0)
    limit_memory(FAR // BYTES_PER_PIXEL, spare=1000)
    [(which, (soft, kept))] = set_to
    assert (which, kept) == (resource.RLIMIT_DATA, hard)
    if beyond:
        assert beyond - BYTES_PER_PIXEL < soft - 1000 < beyond + 2**40  # and what is used already
    else:
        assert soft == hard
