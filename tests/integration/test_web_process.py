"""granian's processes under `digitq web`: a killed one is replaced, and none outlives the one that started it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2

from shared import ROOT
from shared.standalone.up import http_ok
from shared.store import Store
from tests.conftest import start_server
from tests.pictures import seven
from tests.tools import is_there
from tests.waits import until
from tests.web import free_port, sevens, web_process


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_process_that_is_killed_again_and_again_is_replaced_by_the_same_parent(redis_url: str) -> None:
    port = free_port()
    with web_process(redis_url, port) as parent:
        for _ in range(4):
            [child] = children(parent.pid)
            os.kill(child, signal.SIGKILL)
            until(lambda child=child: children(parent.pid) not in ([], [child]))
            until(lambda: http_ok(f"http://127.0.0.1:{port}/healthz"))
        assert parent.poll() is None


def test_a_process_whose_parent_was_killed_ends_although_redis_does_not_answer() -> None:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="digitq-") as folder:
        server, redis_url = start_server(Path(folder))
        try:
            with web_process(redis_url, port) as parent:
                [child] = children(parent.pid)
                server.send_signal(signal.SIGSTOP)
                parent.kill()
                parent.wait()
                until(lambda: not is_there(child))
        finally:
            server.kill()
            server.wait()


def test_a_second_web_process_on_a_port_ends_with_the_reason(redis_url: str, tmp_path: Path) -> None:
    """The first goes on serving. Without the check both would listen, and share the requests."""
    port, log = free_port(), tmp_path / "log"
    with web_process(redis_url, port) as first:
        command = [sys.executable, "-m", "digitq", "web"]
        env = {**os.environ, "REDIS_URL": redis_url, "DIGITQ_PORT": str(port)}
        with log.open("wb") as file, subprocess.Popen(command, cwd=ROOT, env=env, stderr=file) as second:
            try:
                assert until(lambda: second.poll() is not None), "the second serves"
            finally:
                second.kill()
        assert (second.returncode, f"port {port} is in use" in log.read_text()) == (2, True)
        assert "Traceback" not in log.read_text()
        assert first.poll() is None
        assert http_ok(f"http://127.0.0.1:{port}/healthz")


SERVER = """
import multiprocessing, os, sys, time
from producer.serving.server import server_pid

def start(path):
    while os.getppid() == server:  # it is killed before this process has started to watch it
        time.sleep(0.01)
    with open(path, "w") as file:
        print(server_pid(), os.getppid(), file=file)

server = os.getpid()
multiprocessing.get_context("fork").Process(target=start, args=(sys.argv[1],)).start()
os.kill(server, 9)
"""


def test_a_process_whose_server_is_killed_while_it_starts_knows_that_it_is_gone(tmp_path: Path) -> None:
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(tmp_path / "seen")], cwd=ROOT)
    server.wait()
    until(lambda: (tmp_path / "seen").exists() and (tmp_path / "seen").read_text().endswith("\n"))
    watched, adopted_by = map(int, (tmp_path / "seen").read_text().split())
    assert watched == server.pid != adopted_by


OWNERS = {"alice": "correct-horse-battery", "bob": "staple-of-all-staples"}


def test_nothing_leaks_between_the_interleaved_requests_of_two_owners(
    store: Store, redis_url: str, tmp_path: Path
) -> None:
    """Each request waits on the event loop while others run there, and goes to threads and through Flask's context."""
    keys = ",".join(f"{owner}:{key}" for owner, key in OWNERS.items())
    port, log = free_port(), tmp_path / "log"
    env = {"DIGITQ_API_KEYS": keys, "DIGITQ_LOG_FORMAT": "json", "DIGITQ_LOG_LEVEL": "DEBUG"}
    with log.open("wb") as file, web_process(redis_url, port, file, **env), sevens(store, 3, 0.01):
        answers = asyncio.run(interleaved(f"http://127.0.0.1:{port}"))
    owned = {owner: {one["id"] for one in answers if one["owner"] == owner and "id" in one} for owner in OWNERS}
    assert all(len(ids) == 40 for ids in owned.values())
    for one in answers:
        assert one["request_id"] == one["given_id"]
        assert set(one.get("history", ())) <= owned[one["owner"]]
    for owner, ids in owned.items():
        assert all(store.fetch(id, owner).digit == 7 for id in ids)
    expected = {one["id"]: one["given_id"] for one in answers if "id" in one}
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    logged = {line["prediction_id"]: line.get("request_id") for line in lines if line["message"] == "accepted"}
    assert logged == expected


async def interleaved(url: str) -> list[dict[str, Any]]:
    """Return the responses to both owners, whose clients upload, wait, and read their history at the same time."""

    async def one(owner: str, number: int) -> list[dict[str, Any]]:
        found = []
        headers = {"X-API-Key": OWNERS[owner], "Prefer": "wait=20"}
        async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
            form = {"file": ("7.png", BytesIO(seven()))}
            for at, (method, sent) in enumerate(
                [("POST", {"content": seven()}), ("POST", {"files": form}), ("GET", {})]
            ):
                given = f"{owner}-{number}-{at}"
                answer = await client.request(method, "/v1/predictions", headers={"X-Request-ID": given}, **sent)
                body = answer.json()
                about = (
                    {"history": [row["id"] for row in body["predictions"]]} if method == "GET" else {"id": body["id"]}
                )
                found.append({"owner": owner, "given_id": given, "request_id": answer.headers["X-Request-ID"], **about})
        return found

    answers = await asyncio.gather(*(one(owner, number) for number in range(20) for owner in OWNERS))
    return [answer for several in answers for answer in several]
