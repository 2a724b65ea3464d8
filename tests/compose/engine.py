"""A Docker engine, the compose file on it, and the clients that must not notice what happens to it."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Self
from urllib.request import urlopen

import pytest

from producer import NEVER, Client, Retry
from shared import ROOT
from shared.errors import DigitqError, Lost
from tests.pictures import seven

PROJECT = "digitq-test"
#: For what takes the web process or Redis away: a client that goes on asking until they are back.
PATIENT = Retry(attempts=1000, longest=1.0, seconds=120.0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


PORT = free_port()
URL = f"http://127.0.0.1:{PORT}"


def run(*words: str, check: bool = True, **env: str) -> str:
    """Return what the command prints; its messages go to the test's own output."""
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, "PORT": str(PORT), **env}, check=check, text=True, stdout=subprocess.PIPE
    )
    return done.stdout.strip()


def here_or_skip(image: str) -> None:
    if run("docker", "image", "inspect", "-f", "{{.Id}}", image, check=False) == "":
        run("docker", "pull", "-q", image, check=False) or pytest.skip(f"no image {image} here")


def logs_of(container: str) -> str:
    done = subprocess.run(["docker", "logs", container], check=True, text=True, capture_output=True)
    return done.stdout + done.stderr


def compose_command() -> list[str]:
    """`COMPOSE`, such as "docker-compose" for version 1; otherwise what is there."""
    if named := os.environ.get("COMPOSE"):
        return shlex.split(named)
    v2 = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    return ["docker", "compose"] if v2 else ["docker-compose"]


def compose(*words: str, files: tuple[str, ...] = (), check: bool = True, **env: str) -> str:
    names = ("docker-compose.yml", *files, "tests/compose/network.yml")
    options = [option for name in names for option in ("-f", name)]
    return run(*compose_command(), *options, "-p", PROJECT, *words, check=check, **env)


def containers(service: str) -> list[str]:
    return compose("ps", "-q", service).split()


def wait_until_ready(workers: int, url: str = URL, seconds: float = 180) -> None:
    """This many workers live and the web process answers: exactly, so that those who left have said so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(OSError), urlopen(f"{url}/readyz", timeout=2) as response:
            if json.load(response)["workers"] == workers:
                return
        time.sleep(0.3)
    raise AssertionError(f"not {workers} workers after {seconds} s")


class Load:
    """Four clients that submit a picture every few milliseconds until the end of the `with`, and keep books."""

    def __init__(self, url: str = URL, retry: Retry = NEVER) -> None:
        self.accepted: list[str] = []
        self.errors: list[str] = []
        self._url, self._retry, self._ending = url, retry, threading.Event()
        self._threads = [threading.Thread(target=self._submit) for _ in range(4)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _submit(self) -> None:
        picture = seven()
        with Client(self._url, retry=self._retry) as client:
            while not self._ending.wait(0.02):
                try:
                    self.accepted.append(client.submit(picture).id)
                except DigitqError as error:
                    self.errors.append(f"{type(error).__name__}: {error}")

    def goes_on(self, pictures: int = 100, seconds: float = 60) -> None:
        """Return when that many more are accepted."""
        goal, end = len(self.accepted) + pictures, time.monotonic() + seconds
        while len(self.accepted) < goal:
            assert time.monotonic() < end, f"{len(self.accepted)} accepted, {self.errors[-1:]}"
            time.sleep(0.05)

    def ends(self) -> Counter[str]:
        """Count the accepted pictures by final state."""
        found: Counter[str] = Counter()
        with Client(self._url, retry=PATIENT) as client:
            for id in self.accepted:
                try:
                    found[client.get(id, wait=60).state.value] += 1
                except Lost:
                    found["lost"] += 1
        print(f"accepted {len(self.accepted)}, ended {dict(found)}, errors {Counter(self.errors)}")
        return found
