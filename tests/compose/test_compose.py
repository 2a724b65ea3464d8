"""Both images and the compose file on a real engine: `make compose-test`."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from producer import State
from shared.errors import DigitqError
from shared.home import ROOT
from tests.pictures import seven
from tests.stack import client_of

pytestmark = [
    pytest.mark.skipif(not os.environ.get("COMPOSE_TEST"), reason="builds images for minutes: make compose-test"),
    pytest.mark.timeout(1800),
]


def compose(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    v2 = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    command = ["docker", "compose"] if v2 else ["docker-compose"]
    files = ["-f", "docker-compose.yml", "-f", "tests/compose/network.yml", "-p", "digitq-test"]
    env = {**os.environ, "PORT": str(PORT)}
    return subprocess.run([*command, *files, *words], cwd=ROOT, env=env, check=check, text=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


PORT = free_port()
URL = f"http://127.0.0.1:{PORT}"


def wait_until_ready(workers: int) -> None:
    from urllib.request import urlopen

    for _ in range(240):
        try:
            with urlopen(f"{URL}/readyz", timeout=2) as response:
                if f'"workers": {workers}' in response.read().decode():
                    return
        except OSError:
            pass
        time.sleep(0.5)
    compose("ps")
    compose("logs", "--tail", "30")
    raise AssertionError("the stack is not ready")


@pytest.fixture(scope="module")
def stack() -> Iterator[None]:
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.fail("needs a Docker engine")
    compose("build")
    compose("up", "-d", "--scale", "worker=3")
    try:
        wait_until_ready(workers=3)
        yield
    finally:
        compose("down", "-v", "--timeout", "10", check=False)


def test_three_workers_classify_a_hundred_pictures(stack: None) -> None:
    with client_of(URL) as client, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda size: client.submit(seven(size)).wait(30), range(28, 128)))
    assert [one.digit for one in found] == [7] * 100


def test_a_stop_under_load_loses_nothing(stack: None) -> None:
    stopping, picture = threading.Event(), seven()
    accepted: list[str] = []

    def upload() -> None:
        with client_of(URL) as client:
            while not stopping.is_set():
                try:
                    accepted.append(client.submit(picture).id)
                except DigitqError:
                    time.sleep(0.05)

    threads = [threading.Thread(target=upload) for _ in range(16)]
    for thread in threads:
        thread.start()
    time.sleep(5)
    compose("stop")
    stopping.set()
    for thread in threads:
        thread.join()
    compose("start")
    wait_until_ready(workers=3)
    with client_of(URL) as client:
        states = [client.get(id, wait=60).state for id in accepted]
    print(f"accepted {len(accepted)}, succeeded {states.count(State.SUCCEEDED)}")
    assert len(accepted) > 100
    assert set(states) == {State.SUCCEEDED}
