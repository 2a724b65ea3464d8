"""Programs of the system that some tests need: a browser, proxies."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def tool(package: str, *names: str) -> str:
    """The path of the first of these programs, else of the one named like its package.

    Without it the test is skipped; it fails where `REQUIRE_TOOLS` is set, as in CI.
    """
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    for name in names or (package,):
        if path := shutil.which(name, path=places):
            return path
    hint = f"needs {package} (apt-get install {package})"
    if os.environ.get("REQUIRE_TOOLS"):
        pytest.fail(f"{hint}, and REQUIRE_TOOLS is set")
    pytest.skip(hint)


def is_there(pid: int) -> bool:
    """Return True if the process runs; a zombie that nobody has asked how does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
