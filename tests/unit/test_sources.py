"""The leave-one-source-out estimate."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.sources import left_out


def test_a_source_is_scored_with_the_best_settings_of_all_others() -> None:
    # Settings:         shipped  second  third
    right = np.array([[True, False, False], [True, True, True], [False, True, True], [False, True, False]])
    found = left_out(right, ["a", "a", "b", "b"])
    assert found["a"] == (pytest.approx(0.5), 1.0)  # the second is best on b
    assert found["b"] == (pytest.approx(0.0), 0.0)  # the shipped one is best on a


def test_ties_count_by_their_mean() -> None:
    found = left_out(np.array([[True, False], [True, True]]), ["a", "b"])
    assert found["a"] == (pytest.approx(0.5), 1.0)
