"""What a long-lived process has loaded is no work for Python's collector."""

from __future__ import annotations

import gc

from shared.runtime.garbage_collector import tune


def test_what_is_loaded_is_left_alone_and_what_comes_is_still_collected():
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
