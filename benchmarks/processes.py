"""CPU time and memory of processes, from /proc. Without /proc the figures are left out."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

#: Group -> words in the command line that mark a process and all below it as of that group.
GROUPS = {
    "redis": ("valkey-server", "redis-server"),
    "web": ("digitq web", "granian", "bin/mosec"),
    "worker": ("digitq worker", "rq worker", "-m celery", "-m dramatiq", "multiprocessing.spawn"),
}
TICKS = os.sysconf("SC_CLK_TCK")


def groups(root: int) -> dict[str, list[int]]:
    """Return all processes under `root` by group; the rest is "other"."""
    children = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            children[int(_fields(stat)[1])].append(int(stat.parent.name))
    found = defaultdict(list)
    for pid, group in _walk(root, "other", children):
        found[group].append(pid)
    return dict(found)


def _walk(pid: int, group: str, children: dict[int, list[int]]) -> Iterator[tuple[int, str]]:
    with suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        if group == "other":
            group = next((name for name, words in GROUPS.items() if any(word in command for word in words)), group)
        yield pid, group
        for child in children.get(pid, ()):
            yield from _walk(child, group, children)


def _fields(stat: Path) -> list[str]:
    """Return the fields after the command, which may contain anything: state, parent, ..."""
    return stat.read_text().rpartition(")")[2].split()


def cpu_seconds(pids: list[int]) -> float:
    """Return user plus system time in seconds."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            total += sum(map(int, _fields(Path(f"/proc/{pid}/stat"))[11:13]))
    return total / TICKS


def pss_mb(pid: int) -> float:
    """Return its memory in MB (10^6 bytes), of shared pages its part (PSS): sums over processes count no page twice.

    0 for a dead process.
    """
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def rss_mb(pid: int) -> float:
    """Return resident memory in MB (10^6 bytes); 0 for a dead process."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return 0.0
