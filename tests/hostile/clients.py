"""Clients that misbehave, against a stack of this machine: others must be answered meanwhile, and nothing may grow.

python -m tests.hostile.clients [SHARE [ATTACK…]]     or: make hostile-clients

SHARE of the full counts (1: all of them). Each attack lasts seconds; all of them take some five minutes.
"""

from __future__ import annotations

import http.client
import re
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from producer import Client
from tests.hostile.attacks import ATTACK_SECONDS, ATTACKS, Crowd
from tests.hostile.run import memory_mb
from tests.pictures import seven
from tests.stack import Stack, up

#: What others may have to wait, in seconds (the 99th percentile); by how many MB the web process may grow.
MOST_SECONDS, MOST_GROWTH_MB = 1.0, 100
#: How long until all descriptors of an attack are back.
RETURN_SECONDS = 45.0
PATIENCE_SECONDS = 5.0


@dataclass
class Others:
    """Whoever uses the server meanwhile: every answer's time, and what went wrong."""

    port: int
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"healthz": [], "upload": []})
    troubles: list[str] = field(default_factory=list)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        stop = threading.Event()
        ways: dict[str, Callable[[], None]] = {"healthz": self._look, "upload": self._upload}
        threads = [threading.Thread(target=self._repeat, args=(stop, name, ways[name])) for name in ways]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _repeat(self, stop: threading.Event, name: str, ask: Callable[[], None]) -> None:
        while not stop.wait(0.05):
            began = time.monotonic()
            try:
                ask()
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.troubles.append(f"{name}: {type(error).__name__} {error}")
            self.seconds[name].append(time.monotonic() - began)

    def _look(self) -> None:
        self._ask("GET", "/healthz", None, (200,))

    def _upload(self) -> None:
        self._ask("POST", "/v1/predictions", seven(), (202,))

    def _ask(self, method: str, path: str, body: bytes | None, good: tuple[int, ...]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            answer.read()
            assert answer.status in good, answer.status
        finally:
            connection.close()

    def worst(self) -> dict[str, float]:
        """The 99th percentile of each."""
        return {
            name: statistics.quantiles(all_, n=100)[98] if len(all_) > 1 else float("inf")
            for name, all_ in self.seconds.items()
        }


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
    others, crowd = Others(port), Crowd(stack)
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
    worst, back = others.worst(), time.monotonic() - end + RETURN_SECONDS
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
    """Prints figures for each attack; 1 if others had to wait or something has grown."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    bad: list[str] = []
    with ExitStack() as open_:
        folder = open_.enter_context(tempfile.TemporaryDirectory(prefix="digitq-"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))  # the server raises its own
        stack = open_.enter_context(up(Path(folder), workers=1))
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        with Client(stack.url) as sdk:
            for _ in range(20):
                sdk.submit(seven()).wait(10)
        for name in names or ATTACKS:
            bad += attacked(stack, name, share)
    print(*bad, sep="\n")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0, *sys.argv[2:]))
