"""Modules loaded at the start are excluded from garbage collection."""

from __future__ import annotations

import gc

import pytest

from shared.runtime.garbage_collector import tune


# It collects what earlier tests of this process have left, too, and must not fail for them.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_loaded_objects_are_frozen_and_later_garbage_is_still_collected():
    before = gc.get_threshold()
    try:
        tune()
        assert gc.get_freeze_count() > 10_000
        assert gc.isenabled()
        ring: list[object] = []
        ring.append(ring)
        del ring
        assert gc.collect() >= 1
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
