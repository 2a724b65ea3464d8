"""Both images, built once."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.compose.engine import compose


@pytest.fixture(scope="session")
def images() -> None:
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.fail("needs a Docker engine")
    compose("build")
