"""Following a primary that moves: whom to believe, when to let go, and who has to have what is accepted."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from shared import ROOT
from shared.connections import sentinel_report
from shared.connections.acks import missed
from shared.connections.connection import redis_errors
from shared.connections.sentinel import Follower
from shared.connections.sentinel_report import Replica, Report, address, failover_of, look
from shared.errors import RedisUnavailable

A, B, C = ("10.0.0.1", 1), ("10.0.0.2", 1), ("10.0.0.3", 1)
GOOD = Replica(follows=True, eligible=True)
PROMOTED = Replica(follows=False, eligible=True)
AWAY = Replica(follows=False, eligible=False)
#: Its priority is 0.
BACKUP = Replica(follows=True, eligible=False)
BEFORE = Report(epoch=3, primary=A, down=False, moving=False, replicas={B: GOOD, C: GOOD})
AFTER = Report(epoch=4, primary=B, down=False, moving=False, replicas={A: PROMOTED, C: AWAY})


@pytest.fixture
def follower() -> Follower:
    """One whose sentinels speak when the test has them speak."""
    follower = Follower([], "digits")
    follower._over = threading.Event()
    for number in range(3):
        follower.update(number, BEFORE, follower._over)
    return follower


def tell(follower: Follower, number: int, report: Report | None) -> None:
    follower.update(number, report, follower._over)


def hear(follower: Follower, event: str, text: str = "slave x 10.0.0.2 1 @ digits 10.0.0.1 1") -> None:
    message = {"type": "message", "channel": event.encode(), "data": text.encode()}
    if failover := failover_of(message, "digits"):
        follower.hold(failover)


class Line:
    """A connection to somewhere, and the other end of it."""

    def __init__(self, to: tuple[str, int]) -> None:
        self.host, self.port = to
        self._sock, self.far = socket.socketpair()

    def close(self) -> None:
        self._sock.close()
        self.far.close()

    @property
    def closed(self) -> bool:
        self.far.setblocking(False)
        try:
            return self.far.recv(1) == b""
        except BlockingIOError:
            return False


Make = Callable[[tuple[str, int]], Line]


@pytest.fixture
def line() -> Iterator[Make]:
    """Make connections."""
    with ExitStack() as lines:
        yield lambda to: lines.enter_context(closing(Line(to)))


def test_the_latest_configuration_counts_whoever_else_says_something_else(follower: Follower) -> None:
    tell(follower, 1, AFTER)
    assert follower.primary() == B
    tell(follower, 0, BEFORE)
    tell(follower, 1, None)
    assert follower.primary() == A  # nobody is left who knows better
    tell(follower, 2, AFTER)
    assert follower.primary() == B


def test_a_sentinel_that_comes_back_with_an_older_configuration_is_not_believed(follower: Follower) -> None:
    tell(follower, 0, None)
    tell(follower, 1, AFTER)
    tell(follower, 0, BEFORE)
    assert follower.primary() == B


def test_with_one_epoch_the_later_change_counts(follower: Follower) -> None:
    tell(follower, 2, replace(AFTER, epoch=3))
    assert follower.primary() == B
    tell(follower, 0, BEFORE)  # as it has said all the time
    assert follower.primary() == B


def test_a_service_that_was_set_up_anew_is_followed_although_its_epochs_begin_anew(follower: Follower) -> None:
    for number in range(3):
        tell(follower, number, replace(AFTER, epoch=0))
    assert follower.primary() == B


def test_connections_to_a_replaced_primary_are_closed_also_those_in_use(follower: Follower, line: Make) -> None:
    old = [line(A), line(A)]
    assert all(follower.admit(one) for one in old)
    tell(follower, 0, AFTER)
    assert all(one.closed for one in old)
    assert not follower.admit(line(A))
    new = line(B)
    assert follower.admit(new)
    assert not new.closed


def test_the_first_primary_is_no_change_and_whatever_may_have_changed_since_is() -> None:
    follower, turns = Follower([], "digits"), [0]

    def changed() -> bool:
        turns.append(follower.turn)
        return turns[-1] != turns[-2]

    follower._over = threading.Event()
    tell(follower, 0, BEFORE)
    assert not changed()
    tell(follower, 0, AFTER)
    assert changed()
    follower.stop()
    assert changed()


def test_once_a_replica_is_chosen_nothing_is_written_until_it_leads(follower: Follower, line: Make) -> None:
    old = line(A)
    assert follower.admit(old)
    hear(follower, "+selected-slave")
    assert old.closed
    assert not follower.admit(line(A))
    for call in (follower.primary, follower.snapshot):
        with pytest.raises(redis.ConnectionError, match="a failover is under way"):
            call()
    tell(follower, 1, AFTER)
    assert follower.primary() == B


def test_who_is_refused_for_want_of_a_primary_is_told_why(follower: Follower) -> None:
    lost = Follower([], "digits")
    unseen = Follower([], "digits")
    unseen._over = threading.Event()
    tell(unseen, 0, replace(BEFORE, down=True))
    hear(follower, "+selected-slave")
    for one, words in (
        (lost, "No sentinel knows a primary of Redis"),
        (unseen, "The sentinels do not see the primary of Redis"),
        (follower, "Another Redis takes over: a failover is under way"),
    ):
        with pytest.raises(RedisUnavailable) as raised, redis_errors():
            one.primary()
        assert str(raised.value) == words


@pytest.mark.parametrize("event", ["-failover-abort-no-good-slave", "-failover-abort-not-elected"])
def test_a_failover_that_comes_to_nothing_leaves_the_primary(follower: Follower, event: str) -> None:
    hear(follower, "+selected-slave")
    hear(follower, event, "master digits 10.0.0.1 1")
    assert follower.primary() == A


def test_a_failover_of_which_nothing_more_is_heard_does_not_hold_for_ever(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("shared.connections.sentinel.time", SimpleNamespace(monotonic=lambda: now))
    hear(follower, "+selected-slave")
    now += 5.1
    assert follower.primary() == A


def test_a_word_of_a_failover_that_is_over_comes_too_late(follower: Follower) -> None:
    tell(follower, 1, AFTER)
    hear(follower, "+selected-slave")
    assert follower.primary() == B


def test_another_service_of_the_same_sentinels_is_none_of_our_business(follower: Follower) -> None:
    hear(follower, "+selected-slave", "slave x 10.0.0.2 1 @ others 10.0.0.1 1")
    assert follower.primary() == A


def test_a_primary_that_no_sentinel_sees_is_not_tried(follower: Follower) -> None:
    for number in range(3):
        assert follower.primary() == A
        tell(follower, number, replace(BEFORE, down=True))
    with pytest.raises(redis.ConnectionError, match="do not see"):
        follower.primary()


def test_without_any_sentinel_the_primary_stays_where_it_was(follower: Follower) -> None:
    for number in range(3):
        tell(follower, number, None)
    assert follower.primary() == A
    assert follower.snapshot().required == {B, C}


# ---------------------------------------------------------------------- acknowledgements


def info(offset: int, role: str = "master", **replicas: int) -> dict[str, Any]:
    """INFO replication: how far each has confirmed."""
    hosts = {"b": B[0], "c": C[0]}
    said = [{"ip": hosts[name], "port": 1, "state": "online", "offset": at} for name, at in replicas.items()]
    found = {f"slave{number}": one for number, one in enumerate(said)}
    return {"role": role, "master_repl_offset": offset, "connected_slaves": len(found), **found}


def test_all_that_could_be_promoted_have_to_have_it(follower: Follower) -> None:
    before = follower.snapshot()
    assert before.required == {B, C}
    assert missed(follower, before, info(100), info(120, b=100, c=110)) == ""
    assert missed(follower, before, info(100), info(120, b=99, c=110)) == ", and 10.0.0.2:1 has not"
    assert missed(follower, before, info(100), info(120, c=110)) == ", and 10.0.0.2:1 has not"


def test_a_promoted_replica_counts_although_it_is_none_any_more(follower: Follower) -> None:
    for number in range(3):
        tell(follower, number, replace(BEFORE, replicas={B: PROMOTED, C: GOOD}))
    assert missed(follower, follower.snapshot(), info(100), info(120, c=120))


def test_one_that_all_sentinels_see_away_does_not_count(follower: Follower) -> None:
    tell(follower, 0, replace(BEFORE, replicas={B: AWAY, C: GOOD}))
    tell(follower, 1, replace(BEFORE, replicas={B: AWAY, C: GOOD}))
    assert follower.snapshot().required == {B, C}
    tell(follower, 2, replace(BEFORE, replicas={B: AWAY, C: GOOD}))
    assert follower.snapshot().required == {C}
    assert missed(follower, follower.snapshot(), info(100), info(120, c=120)) == ""
    assert missed(follower, follower.snapshot(), info(100), info(120, b=5, c=120)) == ""  # it hangs


def test_the_old_primary_does_not_count_before_it_follows_the_new_one(follower: Follower) -> None:
    for number in range(3):
        tell(follower, number, AFTER)
    assert follower.snapshot().required == set()
    tell(follower, 0, replace(AFTER, replicas={A: GOOD, C: GOOD}))
    assert follower.snapshot().required == {A, C}


def test_one_that_no_sentinel_knows_yet_counts_as_soon_as_the_primary_knows_it(follower: Follower) -> None:
    for number in range(3):
        tell(follower, number, replace(BEFORE, replicas={B: GOOD}))
    follower._seen.discard(C)
    before = follower.snapshot()
    assert missed(follower, before, info(100), info(120, b=100, c=50)) == ", and 10.0.0.3:1 has not"


def test_one_that_is_never_promoted_may_be_late(follower: Follower) -> None:
    for number in range(3):
        tell(follower, number, replace(BEFORE, replicas={B: GOOD, C: BACKUP}))
    assert missed(follower, follower.snapshot(), info(100), info(120, b=100, c=50)) == ""


def test_writes_before_a_failover_do_not_count_after_it(follower: Follower) -> None:
    before = follower.snapshot()
    tell(follower, 0, AFTER)
    assert missed(follower, before, info(100), info(120, b=100, c=100)) == ", and the primary was replaced"


def test_what_a_replica_has_taken_does_not_count(follower: Follower) -> None:
    before = follower.snapshot()
    assert missed(follower, before, info(100), info(120, "slave", b=100, c=100))


def test_while_a_sentinel_leads_a_failover_nothing_is_accepted(follower: Follower) -> None:
    tell(follower, 2, replace(BEFORE, moving=True))
    with pytest.raises(redis.ConnectionError, match="under way"):
        follower.snapshot()
    assert follower.primary() == A  # what needs no acknowledgement goes on


# ---------------------------------------------------------------------- what sentinels say


class Said:
    """A sentinel's answers."""

    def __init__(self, flags: str = "master", leads: tuple[str, int] = A, **replica: str) -> None:
        self._flags, self._leads = flags, leads
        self._replica = {
            "ip": B[0], "port": "1", "flags": "slave", "role-reported": "slave", "master-link-status": "ok",
            "master-link-down-time": "0", "slave-priority": "100",
        } | {name.replace("_", "-"): text for name, text in replica.items()}  # fmt: skip

    def execute_command(self, *words: str) -> Any:
        def flat(fields: dict[str, str]) -> list[bytes]:
            return [text.encode() for pair in fields.items() for text in pair]

        if words[1] == "GET-MASTER-ADDR-BY-NAME":
            return [self._leads[0].encode(), str(self._leads[1]).encode()]
        if words[1] == "REPLICAS":
            return [flat(self._replica)]
        service = {"ip": A[0], "port": "1", "flags": self._flags, "config-epoch": "3"}
        return flat(service | {"down-after-milliseconds": "1000"})


def seen(**said: Any) -> Report:
    return look(Said(**said), "digits")  # type: ignore[arg-type]


def test_a_replica_that_sentinel_would_not_choose_is_away() -> None:
    assert seen().replicas == {B: GOOD}
    assert seen(slave_priority="0").replicas == {B: BACKUP}
    for said in ({"flags": "master,x"}, {"master_link_down_time": "9999"}):
        assert seen(**said).replicas[B].eligible
    assert not seen(master_link_down_time="10001").replicas[B].eligible
    assert not seen(role_reported="master").replicas[B].follows
    assert not seen(master_link_status="err").replicas[B].follows


def test_a_sentinel_that_leads_a_failover_moves_until_it_has_seen_the_promotion() -> None:
    assert seen(flags="master,failover_in_progress").moving
    assert not seen(flags="master,failover_in_progress", leads=B).moving
    assert seen(flags="master,s_down").down


def test_names_and_numbers_of_one_host_are_the_same() -> None:
    assert address("localhost", "6379") == ("127.0.0.1", 6379)
    assert address("::1", b"6379") == ("::1", 6379)
    assert address("no-such-host.invalid", 1) == ("no-such-host.invalid", 1)


def test_the_name_of_a_host_is_looked_up_once_a_second_however_much_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, clock = list[str](), SimpleNamespace(seconds=1000.0)

    def lookup(host: str) -> str:
        asked.append(host)
        if host == "gone":
            raise OSError
        return f"10.0.0.{len(asked)}"

    monkeypatch.setattr(sentinel_report.socket, "gethostbyname", lookup)
    monkeypatch.setattr(sentinel_report, "time", SimpleNamespace(monotonic=lambda: clock.seconds))
    sentinel_report._resolved.cache_clear()
    for _ in range(100):
        assert address("redis-0.redis", "6379") == ("10.0.0.1", 6379)
        assert address("gone", "6379") == ("gone", 6379)
    assert asked == ["redis-0.redis", "gone"]
    clock.seconds += 1
    assert address("redis-0.redis", "6379") == ("10.0.0.3", 6379)
    sentinel_report._resolved.cache_clear()


def test_waiting_for_the_first_answer_of_a_sentinel_times_out() -> None:
    follower = Follower([], "digits")
    with pytest.raises(redis.ConnectionError, match="no sentinel knows"):
        follower.primary()
    follower.stop()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sentinel-")]


def test_a_forked_process_follows_anew_whoever_held_the_lock_meanwhile() -> None:
    script = """
import os, signal, threading
import redis
from shared.connections.sentinel import Follower

follower, held = Follower([], "digits"), threading.Event()
follower.turn = 7

def hold() -> None:
    with follower._changed:
        held.set()
        threading.Event().wait()

threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    try:
        follower.snapshot()
    except redis.ConnectionError:
        os._exit(follower.turn)
    os._exit(1)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255)
"""
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=60, check=False).returncode == 0
