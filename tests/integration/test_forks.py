"""Tests of the state that a forked process must not share with its parent."""

from __future__ import annotations

import subprocess
import sys

from shared import ROOT


def test_a_forked_process_has_random_bytes_of_its_own() -> None:
    script = """
import os
from shared.ids import random_bytes

random_bytes()  # others are kept for the next calls
if child := os.fork():
    os.waitpid(child, 0)
os.write(1, random_bytes())
"""
    out = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=60, capture_output=True).stdout
    assert len(out) == 48 and out[:24] != out[24:]
