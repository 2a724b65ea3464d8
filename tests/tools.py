"""Requirements of some tests on the system: programs such as a browser or a proxy, and data."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest


def tool(package: str, *names: str) -> str:
    """The path of the first of these programs, else of the one named like its package.

    Without it the test is skipped or fails: see `lacking`.
    """
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    found = (shutil.which(name, path=places) for name in names or (package,))
    return next(filter(None, found), None) or lacking(f"needs {package} (apt-get install {package})")


def lacking(hint: str) -> NoReturn:
    """Skip a test for what it needs; fail it where `REQUIRE_TOOLS` is set, as in CI."""
    if os.environ.get("REQUIRE_TOOLS"):
        pytest.fail(f"{hint}, and REQUIRE_TOOLS is set")
    pytest.skip(hint)


def is_there(pid: int) -> bool:
    """Return True if the process runs; a zombie that nobody has asked how does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
