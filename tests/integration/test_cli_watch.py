"""`digitq watch`: a line each second, a screen on a terminal, and back after a lost connection."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from producer import Client
from shared import ROOT
from shared.store import Store
from tests.pictures import seven
from tests.proxy import proxy
from tests.waits import until
from tests.web import Web, sevens, web


def start(*words: str, **options: int) -> subprocess.Popen[str]:
    # readline, which a test runner may load, writes its size of the terminal into the environment.
    env = {**{k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}, "TZ": "UTC"}
    return subprocess.Popen([sys.executable, "-m", "digitq", "watch", *words], cwd=ROOT, env=env, text=True,
                            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options})  # type: ignore[call-overload,no-any-return]  # fmt: skip


@pytest.fixture
def site(store: Store) -> Iterator[Web]:
    with web(store) as running:
        yield running


def test_one_line_each_second_and_ctrl_c_ends_it_with_0(site: Web, store: Store) -> None:
    store.renew("w-1", [])
    with Client(site.url) as client:
        client.submit(seven())
    process = start("--url", site.url)
    assert process.stdout is not None
    first, began = process.stdout.readline(), time.monotonic()
    _, third = process.stdout.readline(), process.stdout.readline()
    assert " queued=1 running=0 alive=1 busy=0 needed=-" in first
    assert first.split()[0] != third.split()[0] and 0.8 < time.monotonic() - began < 8
    process.send_signal(signal.SIGINT)
    _, trouble = process.communicate(timeout=10)
    assert (process.returncode, trouble) == (0, "")


def test_json_has_what_ended_and_the_status(site: Web, store: Store) -> None:
    process = start("--json", "--url", site.url)
    assert process.stdout is not None
    while json.loads(process.stdout.readline())["event"] != "status":  # `reset`, if it was the first to listen
        pass
    with Client(site.url) as client, sevens(store):
        id = client.submit(seven()).wait(5).id
    found = [json.loads(process.stdout.readline()) for _ in range(3)]
    assert any(one["event"] == "prediction" and (one["id"], one["digit"]) == (id, 7) for one in found)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)


def test_it_comes_back_after_the_connection_was_cut(site: Web) -> None:
    came: list[float] = []

    def after_two_seconds(_: int) -> bool:
        came.append(time.monotonic())
        return broken.cuts == 0 and came[-1] - came[0] > 2

    with proxy(site.url, after_two_seconds) as broken:
        process = start("--url", broken.url, "--seconds", "7")
        out, trouble = process.communicate(timeout=20)
    assert process.returncode == 0 and broken.cuts == 1 and broken.connections == 2
    assert "connecting again" in trouble and len(out.splitlines()) >= 3


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        process = start("--url", f"http://127.0.0.1:{probe.getsockname()[1]}")
        out, trouble = process.communicate(timeout=20)
    assert (process.returncode, out) == (3, "")
    assert "does not answer" in trouble


def test_a_page_is_no_stream_of_events(site: Web) -> None:
    process = start("--url", f"{site.url}/docs?")  # whatever is asked for there is the page
    assert "Is this the URL of digitq?" in process.communicate(timeout=20)[1]
    assert process.returncode == 3


def test_on_a_terminal_it_is_a_screen(site: Web, store: Store) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 70, 0, 0))
    with Client(site.url) as client, sevens(store):
        client.submit(seven(), "before.png").wait(5)
        process = start("--url", site.url, stdout=theirs)
        os.close(theirs)
        until(lambda: "GET /v1/events" in site.calls, 30)
        client.submit(seven(), "im7.png").wait(5)
    shown = bytearray()

    def is_shown() -> bool:
        while select.select([ours], [], [], 0)[0]:
            shown.extend(os.read(ours, 65536))
        return b"0 waiting" in shown and b"im7.png" in shown.rpartition(b"\x1b[H")[2]

    until(is_shown, 30)
    process.send_signal(signal.SIGINT)
    with suppress(OSError):  # the other end is closed
        while piece := os.read(ours, 65536):
            shown += piece
    os.close(ours)
    process.communicate(timeout=10)
    last = shown.decode().split("\x1b[H")[-1]
    assert process.returncode == 0
    assert "0 waiting" in last and "pictures/s" in last and "before.png: 7" in last
    assert "im7.png: 7  (91.0%, accept)" in last
    assert shown.startswith(b"\x1b[?25l") and shown.rstrip().endswith(b"\x1b[?25h")
    assert all(
        len(line.replace("\x1b[K", "").replace("\x1b[J", "")) <= 70 for line in last.split("\x1b[?25h")[0].split("\r\n")
    )
