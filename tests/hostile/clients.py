"""Clients that misbehave, against a stack of this machine: others must be answered meanwhile, and nothing may grow.

python -m tests.hostile.clients [SHARE [ATTACK…]]     or: make hostile-clients

SHARE of the full counts (1: all of them). Each attack lasts seconds; all of them take some five minutes.
"""

from __future__ import annotations

import re
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from producer import Client
from tests.hostile.attacks import ATTACKS, HostileCrowd
from tests.hostile.run import memory_mb
from tests.pictures import seven
from tests.stack import Stack, up
from verify.crowd import ATTACK_SECONDS, Others, many_descriptors

#: What others may have to wait, in seconds (the 99th percentile); by how many MB the web process may grow.
MOST_SECONDS, MOST_GROWTH_MB = 1.0, 100
#: How long until all descriptors of an attack are back.
RETURN_SECONDS = 45.0


def descriptors(pids: list[int]) -> int:
    """Open ones of the processes, without those to Redis, which are kept for the next call."""
    local = {line.split()[6] for line in Path("/proc/net/unix").read_text().splitlines()[1:]}
    found = 0
    for path in (path for pid in pids for path in Path(f"/proc/{pid}/fd").iterdir()):
        with suppress(OSError):
            found += re.sub(r"\D", "", str(path.readlink())) not in local
    return found


def attacked(stack: Stack, name: str, share: float) -> list[str]:
    """One attack; what should not be."""
    port, pids = int(stack.url.rpartition(":")[2]), stack.pids("digitq web")
    others, crowd = Others(port, seven()), HostileCrowd(stack)
    idle, open_before, most = sum(map(memory_mb, pids)), descriptors(pids), 0
    open_most = open_before
    began = time.monotonic()
    with others.at_work():
        worker = threading.Thread(target=ATTACKS[name], args=(crowd, share))
        worker.start()
        while worker.is_alive() or time.monotonic() - began < ATTACK_SECONDS:
            most, open_most = max(most, sum(map(memory_mb, pids))), max(open_most, descriptors(pids))
            time.sleep(0.2)
        crowd.close()
    end = time.monotonic() + RETURN_SECONDS
    while (left := descriptors(pids)) > open_before + 20 and time.monotonic() < end:
        time.sleep(0.2)
    worst, back = others.percentile(99), time.monotonic() - end + RETURN_SECONDS
    print(f"{name}: {(ATTACKS[name].__doc__ or '').splitlines()[0]}")
    for what, seconds in others.seconds.items():
        print(f"  {what}: {len(seconds)} asked, p99 {worst[what] * 1000:.0f} ms, worst {max(seconds) * 1000:.0f} ms")
    print(f"  {len(others.troubles)} unanswered {sorted(set(others.troubles))[:3]}")
    print(
        f"  memory {idle} -> {most} MB; descriptors {open_before} -> {open_most}, {left} after {back:.1f} s", flush=True
    )
    bad = [f"{what} took {seconds:.1f} s" for what, seconds in worst.items() if seconds > MOST_SECONDS]
    bad += [f"{len(others.troubles)} unanswered"] if others.troubles else []
    bad += [f"grown by {most - idle} MB"] if most > idle + MOST_GROWTH_MB else []
    bad += [f"{left - open_before} descriptors are left"] if left > open_before + 20 else []
    return [f"{name}: {one}" for one in bad]


def main(share: float = 1.0, *names: str) -> int:
    """Print figures for each attack; 1 if others had to wait or something has grown."""
    bad: list[str] = []
    with ExitStack() as open_:
        folder = open_.enter_context(tempfile.TemporaryDirectory(prefix="digitq-"))
        stack = open_.enter_context(up(Path(folder), workers=1))  # it raises its own limit
        open_.enter_context(many_descriptors())
        with Client(stack.url) as sdk:
            for _ in range(20):
                sdk.submit(seven()).wait(10)
        for name in names or ATTACKS:
            bad += attacked(stack, name, share)
    print(*bad, sep="\n")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0, *sys.argv[2:]))
