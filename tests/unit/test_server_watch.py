"""Tests of how often a server is checked, by which thread, and what of it is logged."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from shared.errors import RedisMisconfigured, RedisUnavailable
from shared.redis_server import server_check
from shared.redis_server.rights import missing
from shared.redis_server.server_check import KNOWN_SECONDS, WRONG_SECONDS, ServerCheck
from shared.redis_server.server_findings import ERROR, NOTE, WARNING, Finding
from shared.settings import Settings

EVICTION, NO_LOG = Finding(ERROR, "eviction", "it evicts", "noeviction"), Finding(WARNING, "no_log", "no log", "one")
REPLICA, REMARK = Finding(ERROR, "replica", "it is a replica", "the primary"), Finding(NOTE, "note", "x", "y")


class Server:
    """A server that is judged as the test says, and its clock."""

    def __init__(self) -> None:
        self.found: list[Finding] = []
        self.later: list[list[Finding]] = []
        self.looks, self.now, self.dropped, self.asked = 0, 100.0, list[bool](), 0
        pool = SimpleNamespace(connection_kwargs={}, disconnect=lambda inuse_connections: self.dropped.append(True))
        self.client: Any = SimpleNamespace(connection_pool=pool, config_get=self.config)
        self.allowed = True

    def read(self, client: object, settings: Settings, read_config: Any) -> list[Finding]:
        self.looks += 1
        read_config(client)
        return self.later.pop(0) if self.later else self.found

    def config(self, *names: str) -> dict[str, str]:
        self.asked += 1
        if not self.allowed:
            raise redis.exceptions.NoPermissionError
        return {"save": ""}

    def check(self) -> ServerCheck:
        return ServerCheck(self.client, Settings())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    one = Server()
    monkeypatch.setattr(server_check, "read_server", one.read)
    monkeypatch.setattr(server_check, "time", SimpleNamespace(monotonic=lambda: one.now))
    return one


def test_findings_are_known_for_seconds_and_for_less_while_one_is_an_error(server: Server) -> None:
    check = server.check()
    assert not check.known
    for found, seconds in (([], KNOWN_SECONDS), ([NO_LOG], KNOWN_SECONDS), ([NO_LOG, EVICTION], WRONG_SECONDS)):
        server.found, before = found, server.looks
        assert check.findings() == tuple(found)
        server.now += seconds - 0.01
        assert check.known and check.findings() == tuple(found) and server.looks == before + 1
        server.now += 0.01
        assert not check.known


def test_notes_are_no_findings_of_a_server_in_use(server: Server) -> None:
    server.found = [REMARK, NO_LOG]
    assert server.check().findings() == (NO_LOG,)


def test_a_finding_is_logged_when_it_appears_and_when_it_is_over(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    check = server.check()
    for found in ([NO_LOG], [NO_LOG, EVICTION], [NO_LOG, EVICTION], [EVICTION], []):
        server.found = found
        with caplog.at_level(logging.INFO, "digitq.redis"):
            check.findings()
        server.now += KNOWN_SECONDS
    assert [(one.levelname, one.getMessage().split(":")[1].strip()) for one in caplog.records] == [
        ("WARNING", "no_log"), ("ERROR", "eviction"), ("INFO", "no_log is over"), ("INFO", "eviction is over"),
    ]  # fmt: skip


def test_connections_to_a_replica_are_left_for_the_primary(server: Server) -> None:
    check = server.check()
    server.later = [[REPLICA], [NO_LOG]]
    assert check.findings() == (NO_LOG,) and server.dropped == [True]
    server.now += KNOWN_SECONDS
    server.found = [NO_LOG]
    check.findings()
    assert server.dropped == [True] and server.looks == 3


def test_errors_refuse_what_would_be_lost_and_warnings_do_not(server: Server) -> None:
    server.found = [NO_LOG]
    check = server.check()
    check.require()
    server.now += KNOWN_SECONDS
    server.found = [EVICTION]
    with pytest.raises(RedisMisconfigured, match="it evicts") as wrong:
        check.require()
    assert wrong.value.extensions["retry_after_seconds"] == 5
    server.now += KNOWN_SECONDS
    server.found = [REPLICA]
    with pytest.raises(RedisUnavailable) as moving:
        check.require()
    assert not isinstance(moving.value, RedisMisconfigured)


def test_a_setting_that_the_user_may_not_read_is_asked_for_once_and_never_by_a_user_with_a_name(server: Server) -> None:
    check = server.check()
    for _ in range(2):
        check.findings()
        server.now += KNOWN_SECONDS
    assert server.asked == 2
    server.allowed = False
    for _ in range(2):
        check.findings()
        server.now += KNOWN_SECONDS
    assert server.asked == 3
    server.client.connection_pool.connection_kwargs["username"] = "worker"
    server.check().findings()
    assert server.asked == 3


def test_one_thread_asks_and_the_others_wait_for_the_first_answer_only(server: Server) -> None:
    asks, answered, found = threading.Event(), threading.Event(), list[object]()
    check = server.check()

    def slowly(*_: object) -> list[Finding]:
        asks.set()
        assert answered.wait(30)
        server.looks += 1
        return [NO_LOG]

    def ask() -> None:
        found.append(check.findings())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_check, "read_server", slowly)
        first, second = threading.Thread(target=ask), threading.Thread(target=ask)
        first.start()
        assert asks.wait(30)
        patch.setattr(server_check, "FIRST_SECONDS", 0.01)
        with pytest.raises(RedisUnavailable, match="in time"):
            check.findings()
        patch.setattr(server_check, "FIRST_SECONDS", 30)
        second.start()
        answered.set()
        first.join(30)
        second.join(30)
        assert (found, server.looks) == ([(NO_LOG,)] * 2, 1)
        # Later ones are told what is known, even while a thread asks again.
        server.now += KNOWN_SECONDS
        asks.clear()
        answered.clear()
        third = threading.Thread(target=ask)
        third.start()
        assert asks.wait(30)
        assert check.findings() == (NO_LOG,)
        answered.set()
        third.join(30)


@pytest.mark.parametrize(
    ("answer", "denied"),
    [(None, []), (redis.ResponseError("unknown command"), []), (redis.exceptions.NoPermissionError("no"), ["PING"])],
)
def test_a_refusal_for_another_reason_is_no_missing_right(
    answer: Exception | None, denied: list[str], server: Server
) -> None:
    sent: list[tuple[str, ...]] = []

    def read(push_request: bool) -> None:
        if answer and sent[-1] == ("PING",):
            raise answer

    connection = SimpleNamespace(
        send_command=lambda *words: sent.append(words), read_response=read, disconnect=lambda: sent.append(("gone",))
    )
    pool = server.client.connection_pool
    pool.get_connection, pool.release = lambda: connection, lambda one: sent.append(("released",))
    assert missing(server.client, "worker") == denied
    assert sent[-2:] == [("gone",), ("released",)] and ("DISCARD",) in sent
