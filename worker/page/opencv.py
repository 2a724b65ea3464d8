"""Imports OpenCV on first use: workers that read single digits never load it."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def opencv() -> Any:
    """Import OpenCV, limited to one thread: the worker's other processes use the other cores."""
    import cv2

    cv2.setNumThreads(1)
    return cv2
