"""Mutated uploads through a live stack: every one ends in a 4xx or a terminal state, nobody dies, nothing grows.

python -m tests.hostile.run [UPLOADS [SEED]]          or: make hostile
"""

from __future__ import annotations

import gzip
import http.client
import json
import random
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from tests.hostile.mutations import mutated
from tests.hostile.seeds import seeds
from tests.pictures import seven
from tests.stack import Stack, up

#: Users at a time; uploads after which every process has met everything once, and between two looks at its memory; by
#: how many MB it may grow. (The server keeps what it is given for a day.)
USERS, WARM_UP, STEP, MOST_GROWTH_MB = 16, 4_000, 16_000, 100
#: How long an upload may take to end.
PATIENCE_SECONDS = 120
BOUNDARY = "hostile"


class Upload(NamedTuple):
    path: str
    media: str
    body: bytes


def uploads(dice: random.Random) -> Iterator[Upload]:
    """Without end: most are pictures, some are forms and batches."""
    pictures, known = list(seeds().values()), batches()
    while True:
        kind = dice.random()
        if kind < 0.8:
            yield Upload("/v1/predictions", "image/png", mutated(dice.choice(pictures), dice, pictures))
        elif kind < 0.9:
            body = form(dice.choice(pictures))
            yield Upload("/v1/predictions", f"multipart/form-data; boundary={BOUNDARY}", mutated(body, dice, known))
        else:
            yield Upload("/v1/batches", "application/octet-stream", mutated(dice.choice(known), dice, known))


@cache
def batches() -> list[bytes]:
    """Whole ones."""
    return [archive(list(seeds().values())[:9]), archive([seven()] * 3), idx(), gzip.compress(idx())]


def form(picture: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="7.png"\r\n\r\n'
    return head.encode() + picture + f"\r\n--{BOUNDARY}--\r\n".encode()


def archive(pictures: Sequence[bytes]) -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for number, picture in enumerate(pictures):
            file.writestr(f"{number}.png", picture)
    return out.getvalue()


def idx() -> bytes:
    return b"\0\0\x08\x03" + b"".join(number.to_bytes(4, "big") for number in (5, 28, 28)) + bytes(range(245)) * 16


class Users(threading.local):
    """One connection for each thread."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, object]]:
        try:
            self.connection.request(method, path, body, headers)
            answer = self.connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (http.client.HTTPException, OSError):
            self.connection.close()
            raise

    def end_of(self, upload: Upload) -> str:
        """The code of the refusal, or how it ended. What should not be is kept as a file."""
        try:
            end = self._end_of(upload)
        except Exception as error:
            end = f"{type(error).__name__}: {error}"
        if not is_fine(end):
            Path(f"bad-{zlib.crc32(upload.body):x}").write_bytes(upload.body)
        return end

    def _end_of(self, upload: Upload) -> str:
        end = time.monotonic() + PATIENCE_SECONDS
        status, told = self.ask("POST", upload.path, upload.body, **{"Content-Type": upload.media, "Prefer": "wait=30"})
        if status >= 400:
            return f"{status} {told['code']}"
        while told["state"] in ("queued", "running") and time.monotonic() < end:
            status, told = self.ask("GET", f"{upload.path}/{told['id']}?wait=30")
        error = told.get("error")
        return f"{told['state']} {error['code']}" if isinstance(error, dict) else str(told["state"])


def memory_mb(pid: int) -> int:
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) // 1024


def processes(stack: Stack) -> dict[str, int]:
    """Name and pid -> resident memory in MB."""
    words = ("digitq web", "digitq worker", "-server ")
    return {f"{word.strip()} {pid}": memory_mb(pid) for word in words for pid in stack.pids(word)}


def is_fine(end: str) -> bool:
    """A refusal of ours, or an end that has a name."""
    return end[0] == "4" or (end.split()[0] in ("succeeded", "failed", "finished") and "internal" not in end)


def main(count: int = 20_000, seed: int = 1) -> int:
    """Print how all ended, and the memory of each process before and after."""
    source, began = uploads(random.Random(seed)), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="digitq-") as name, up(Path(name), workers=2) as stack:
        users = Users(int(stack.url.rpartition(":")[2]))
        with ThreadPoolExecutor(USERS) as pool:
            ends = Counter(pool.map(users.end_of, islice(source, min(WARM_UP, count))))
            memory = [processes(stack)]
            while ends.total() < count:
                ends += Counter(pool.map(users.end_of, islice(source, min(STEP, count - ends.total()))))
                memory.append(processes(stack))
        troubles = [line for line in (Path(name) / "up.log").read_text().splitlines() if "INFO" not in line]
    print(f"{ends.total()} uploads, seed {seed}, {time.monotonic() - began:.0f} s")
    print(*(f"{number:>7}  {end}" for end, number in ends.most_common()), sep="\n")
    print(*(f"{name}: {' '.join(str(at.get(name, 'gone')) for at in memory)} MB" for name in memory[0]), sep="\n")
    before, after = memory[0], memory[-1]
    grown = [name for name, mb in before.items() if after.get(name, 0) > mb + MOST_GROWTH_MB and "server" not in name]
    dead, bad = before.keys() ^ after.keys(), [end for end in ends if not is_fine(end)]
    print(*troubles[-200:], sep="\n")
    print(f"bad ends {bad}, dead {sorted(dead)}, grown {grown}")
    return bool(bad or dead or grown)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
