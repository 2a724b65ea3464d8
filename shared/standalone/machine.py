"""How much memory this machine has for its processes: what is installed, or less where a container is limited."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def memory_bytes(root: Path = Path("/")) -> int:
    """Returns the smallest of the installed memory and the limits of the control groups (v1 and v2) of this process.

    Returns 0 where the system does not tell. `root` is where /proc and /sys are.
    """
    installed = 0
    with suppress(ValueError, OSError, AttributeError):
        installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min((size for size in (installed, *_group_limits(root)) if size > 0), default=0)


def _group_limits(root: Path) -> Iterator[int]:
    """The limits of the process's own control group and of all above it. In a container its own is the topmost."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mount, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            mount, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        group = mount / path.lstrip("/")
        for folder in (group, *group.parents):
            with suppress(OSError, ValueError):  # there is none, or it says "max"
                yield int((folder / name).read_text())
            if folder == mount:
                break
