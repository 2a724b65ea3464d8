"""A unit test that starts a process or opens a connection fails."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.unit.guard import guarded


def connect() -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("/nowhere/redis.sock")


def listen() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))


def start() -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


@pytest.fixture
def without_server() -> None:
    """The guard of the other tests is off: here it is what is tested."""


@pytest.mark.parametrize("forbidden", [connect, listen, start])
def test_what_needs_a_server_or_a_process_fails(forbidden: Callable[[], None]) -> None:
    with pytest.raises(AssertionError, match="may not do this"), guarded():
        forbidden()


def test_it_fails_also_where_the_error_is_caught() -> None:
    with pytest.raises(AssertionError, match="may not do this"), guarded(), contextlib.suppress(AssertionError):
        listen()


def test_a_pair_of_sockets_within_the_process_is_no_connection() -> None:
    with guarded():
        for one in socket.socketpair():
            one.close()
