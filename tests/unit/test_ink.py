"""The ink of a page is told from the grain of its paper."""

from __future__ import annotations

import cv2
import numpy as np

from worker.page.ink import find_ink


def test_coarse_grain_is_no_ink() -> None:
    grain = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 14, (100, 160)), (0, 0), 1.0)
    grey = (170 + grain).astype(np.uint8)
    stroke = np.s_[30:70, 40:46]
    grey[stroke] -= 70
    mask = find_ink(grey).mask
    around = mask.copy()
    around[24:76, 34:52] = False
    assert mask[stroke].all() and around.mean() < 0.002
