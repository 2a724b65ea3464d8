"""Tests of the connection pools: neighbours of a dead connection, and connections that follow a primary."""

from __future__ import annotations

import gc
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from shared.connections import pools
from shared.connections.pools import PIECE_BYTES, FollowedConnection, FollowedPool, Pool
from shared.connections.redis_failures import FailoverUnderWay


class Plain:
    """A connection as the pool sees it."""

    def __init__(self, **_: object) -> None:
        self.is_connected, self.closed = True, 0
        self.pid = os.getpid()
        self.retry = SimpleNamespace(get_retries=lambda: 0)

    def connect(self) -> None:
        self.is_connected = True

    def can_read(self, timeout: float = 0) -> bool:
        return False

    def should_reconnect(self) -> bool:
        return False

    def disconnect(self, *_: object) -> None:
        self.is_connected = False
        self.closed += 1

    def set_re_auth_token(self, *_: object) -> None: ...

    def reset_should_reconnect(self) -> None: ...

    def re_auth(self) -> None: ...


@pytest.fixture
def three() -> tuple[Pool, list[Any]]:
    """A pool and three connections that are in use."""
    pool = Pool(connection_class=Plain)  # type: ignore[arg-type]
    return pool, [pool.get_connection() for _ in range(3)]


def test_a_connection_that_is_released_dead_closes_the_idle_ones_and_none_in_use(three: tuple[Pool, list[Any]]) -> None:
    pool, (idle, dead, busy) = three
    pool.release(idle)
    assert (idle.closed, pool.closings) == (0, 0)
    dead.is_connected = False
    pool.release(dead)
    assert (idle.closed, busy.closed, pool.closings) == (1, 0, 1)


def test_a_connection_that_is_discarded_closes_no_other(three: tuple[Pool, list[Any]]) -> None:
    pool, (idle, useless, busy) = three
    pool.release(idle)
    pool.discard(useless)
    assert (idle.closed, useless.closed, busy.closed, pool.closings) == (0, 1, 0, 0)


def test_a_long_command_arrives_over_a_link_that_takes_longer_than_the_timeout() -> None:
    ours, theirs = socket.socketpair()
    connection: Any = Pool().make_connection()
    connection._sock, picture, seconds = ours, bytes(8_000_000), 0.05
    ours.settimeout(seconds)
    with ours, theirs, ThreadPoolExecutor(1) as pool:
        begun = time.monotonic()
        sending = pool.submit(connection.send_packed_command, [picture], check_health=False)
        left = len(picture)
        while left and (piece := theirs.recv(80_000)):
            left -= len(piece)
            time.sleep(0.002)
        sending.result(10)
        assert time.monotonic() - begun > 2 * seconds
        connection._sock = None


@pytest.mark.parametrize("url", ["redis://h", "rediss://h", "unix:///s"])
def test_connections_of_every_kind_cut_long_commands(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    connection: Any = Pool.from_url(url).make_connection()
    connection._sock = SimpleNamespace(sendall=lambda part: sent.append(bytes(part)))
    connection.send_packed_command([b"short", bytes(2 * PIECE_BYTES + 1)], check_health=False)
    assert [len(part) for part in sent] == [5, PIECE_BYTES, PIECE_BYTES, 1]
    connection._sock = None


class Follower:
    """Names a primary, and lets connections in or not."""

    def __init__(self) -> None:
        self.admits, self.asked, self.stopped = True, 0, 0

    def primary(self) -> tuple[str, int]:
        self.asked += 1
        return f"primary-{self.asked}", 6379

    def admit(self, connection: object) -> bool:
        return self.admits

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> FollowedConnection:
    def connect(self: Any, *_: object) -> None:
        self._sock = SimpleNamespace()

    monkeypatch.setattr(redis.Connection, "connect_check_health", connect)
    monkeypatch.setattr(redis.Connection, "disconnect", lambda self, *_: setattr(self, "_sock", None))
    follower: Any = Follower()
    return FollowedConnection(follower=follower)


def test_each_connect_goes_to_the_primary_of_the_moment(connection: FollowedConnection) -> None:
    connection.connect_check_health()
    assert (connection.host, connection.port) == ("primary-1", 6379)
    connection.connect_check_health()  # it is connected
    assert connection.host == "primary-1"
    connection.disconnect()
    connection.connect_check_health()
    assert connection.host == "primary-2"


def test_a_primary_that_was_replaced_meanwhile_is_left(connection: Any) -> None:
    connection._follower.admits = False
    with pytest.raises(FailoverUnderWay, match="just replaced"):
        connection.connect_check_health()
    assert connection._sock is None


def test_a_primary_that_has_become_a_replica_is_left_and_other_errors_are_not(
    connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [redis.ResponseError("x"), redis.exceptions.ReadOnlyError("READONLY")]

    def read(*_: object, **__: object) -> None:
        raise errors.pop(0)

    monkeypatch.setattr(redis.Connection, "read_response", read)
    connection.connect_check_health()
    with pytest.raises(redis.ResponseError, match="x"):
        connection.read_response()
    assert connection._sock is not None
    with pytest.raises(FailoverUnderWay, match="become a replica"):
        connection.read_response()
    assert connection._sock is None


def test_a_pool_that_is_closed_or_forgotten_stops_following() -> None:
    follower: Any = Follower()
    pool = FollowedPool(follower)
    pool.disconnect(inuse_connections=False)
    assert follower.stopped == 0
    pool.disconnect()
    assert follower.stopped == 1
    del pool
    gc.collect()
    assert follower.stopped == 2
    assert pools.FollowedPool.closings == 0
