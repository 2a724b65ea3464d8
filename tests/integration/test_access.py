"""The refusal of a process without access rules to start."""

from __future__ import annotations

import subprocess
import sys

import pytest

from shared import ROOT


@pytest.mark.parametrize("command", ["web", "up"])
def test_otherwise_it_refuses_to_start_and_says_why(command: str, cli_env: dict[str, str]) -> None:
    env = {**cli_env, "DIGITQ_HOST": "0.0.0.0"}
    done = subprocess.run([sys.executable, "-m", "digitq", command], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 2 and "DIGITQ_ALLOW_ANONYMOUS=1" in done.stderr
