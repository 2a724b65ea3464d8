"""Finds out how much memory this machine or container has for its processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def memory_bytes(root: Path = Path("/")) -> int:
    """Return the installed memory, or the smallest limit of this process's control groups (v1, v2) if that is less.

    Returns 0 if the system does not say. `root` is the folder of /proc and /sys.
    """
    installed = 0
    with suppress(ValueError, OSError, AttributeError):
        installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min((size for size in (installed, *_group_limits(root)) if size > 0), default=0)


def _group_limits(root: Path) -> Iterator[int]:
    """Yield the limits of this process's control group and of its ancestors; in a container it is the topmost."""
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
            with suppress(OSError, ValueError):  # no such file, or "max"
                yield int((folder / name).read_text())
            if folder == mount:
                break
