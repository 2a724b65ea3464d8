"""Follows the primary of a Sentinel service: where it is, when to let go of it, and which replicas may replace it.

What Sentinel does at `SENTINEL FAILOVER` (sentinel.c): the leading sentinel chooses a replica (`+selected-slave`), some
100 ms later sends it `SLAVEOF NO ONE`, learns within a second that it leads (`+promoted-slave`, the configuration epoch
rises), tells the other sentinels (`+switch-master`) and sends the other replicas to it. Nobody tells the old primary:
it goes on answering as one for some ten seconds, until it is made a replica and loses all it has written since.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakSet

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError

from shared.redis_server.sentinel_report import Address, Report, address, look

log = logging.getLogger("digitq.redis")

#: A replica is about to be promoted: what the old primary takes from now on may be lost.
BEGINS = frozenset({"+selected-slave", "+failover-state-send-slaveof-noone"})
#: A failover came to nothing: the old primary stays.
ABORTS = frozenset({"-failover-abort-not-elected", "-failover-abort-no-good-slave", "-failover-abort-slave-timeout"})
#: Something else has changed that is worth a look.
CHANGES = frozenset(
    {"+promoted-slave", "+switch-master", "+failover-end", "+slave", "+sdown", "-sdown", "+odown", "-odown"}
)
#: Seconds between two looks at a sentinel without an event, and before one that is out of reach is tried again.
LOOK_SECONDS = 1.0
#: Seconds for a sentinel to answer in; nobody waits for that but a thread of its own.
ANSWER_SECONDS = 1.0
#: Seconds that the first connection waits for a sentinel to say where the primary is.
FIRST_SECONDS = 0.5
#: Seconds for which nothing is written after a failover has begun, should nobody tell how it ended.
HOLD_SECONDS = 5.0


class PrimaryUnseen(redis.ConnectionError):
    """The sentinels do not see the primary."""


class FailoverUnderWay(redis.ConnectionError):
    """The primary was replaced, or is about to be."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Who has to have a write, as far as known before it is sent."""

    #: The follower's; while it stays the same, the connections go to the same primary.
    turn: int
    #: All that Sentinel could promote.
    required: frozenset[Address]
    #: Those that the sentinels know and could not promote; any other that the primary knows has to have it too.
    exempt: frozenset[Address]
    #: For how many acknowledgements it is worth while to wait.
    count: int


class Follower:
    """Follows one service for one pool, with a thread for each sentinel, from the first connection on.

    A primary that is replaced, or about to be, loses all connections at once, those in use too: whoever waits on one
    sees it closed.
    """

    def __init__(self, sentinels: Sequence[Address], name: str) -> None:
        self._sentinels, self._name = sentinels, name
        self._reset()
        _followers.add(self)

    def _reset(self) -> None:
        """Begins anew, also in a process that was forked: no thread is left there, and its lock may have been held."""
        self._changed = threading.Condition()
        self._reports: dict[int, Report] = {}
        self._connections: WeakSet[Any] = WeakSet()
        self._primary: Address | None = None
        #: Replicas that were seen to follow this primary. One that reports to be a primary itself still counts: it was
        #: promoted, and can acknowledge nothing here. The old primary after a failover has not followed yet.
        self._seen: set[Address] = set()
        #: Counts primaries and failovers.
        self.turn = 0
        self._changes, self._held_until, self._online = 0, 0.0, 0
        #: Ends the threads that run now.
        self._over: threading.Event | None = None

    # ------------------------------------------------------------------ for connections

    def primary(self) -> Address:
        """Where to connect to. Raises redis-py's ConnectionError if nobody knows, or while a failover is under way."""
        with self._changed:
            self._start()
            if not self._changed.wait_for(lambda: self._primary is not None, FIRST_SECONDS) or not self._primary:
                raise MasterNotFoundError(f"no sentinel knows the primary of {self._name}")
            self._check_held()
            if self._reports and all(report.down for report in self._reports.values()):
                raise PrimaryUnseen(f"the sentinels do not see the primary of {self._name}")
            return self._primary

    def admit(self, connection: Any) -> bool:
        """True if a new connection goes to the primary as it is now; from now on it may be dropped."""
        with self._changed:
            if (connection.host, connection.port) != self._primary or self._held_until > time.monotonic():
                return False
            self._connections.add(connection)
            return True

    def _check_held(self) -> None:
        if self._held_until > time.monotonic():
            raise FailoverUnderWay("a failover is under way")

    def drop(self) -> None:
        """Closes the way, and leaves the connection to its owner, another thread, who sees its end at once."""
        self.turn += 1
        for connection in self._connections:
            with suppress(OSError, AttributeError):  # it may just have been closed
                connection._sock.shutdown(socket.SHUT_RDWR)
        self._connections = WeakSet()

    # ------------------------------------------------------------------ for acknowledged writes

    def snapshot(self) -> Snapshot:
        """Who has to acknowledge a write that is sent after this.

        Raises redis-py's ConnectionError during a failover.
        """
        self.primary()
        with self._changed:
            self._check_held()
            known = [report for report in self._reports.values() if report.primary == self._primary]
            if any(report.moving for report in self._reports.values()):
                raise FailoverUnderWay("a failover is under way")
            listed = {one for report in known for one in report.replicas}
            eligible = {one for one in listed if any(_eligible(report, one) for report in known)}
            required = self._seen & eligible if known else self._seen
            count = max(len(required), self._online)
            return Snapshot(self.turn, frozenset(required), frozenset(listed - eligible), count)

    def stands(self, snapshot: Snapshot) -> bool:
        """True if there was no failover since."""
        with self._changed:
            return self.turn == snapshot.turn

    def online(self, replicas: Iterable[Address]) -> None:
        """The primary itself says that these follow it, those left out that do not matter."""
        with self._changed:
            known = set(replicas)
            self._seen |= known
            self._online = len(known)

    # ------------------------------------------------------------------ listening to the sentinels

    def _start(self) -> None:
        if self._over is None:
            self._over = threading.Event()
            for number, where in enumerate(self._sentinels):
                threading.Thread(
                    target=self._watch, args=(number, where, self._over), name=f"sentinel-{number}", daemon=True
                ).start()

    def stop(self) -> None:
        """Ends the threads; the next connection starts them again."""
        with self._changed:
            if self._over:
                self._over.set()
                self._over = None
            self._reports.clear()
            self._primary = None
            self.turn += 1  # it may be another one by then

    def _watch(self, number: int, where: Address, over: threading.Event) -> None:
        options: dict[str, Any] = {"socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": ANSWER_SECONDS}
        while not over.is_set():
            client = redis.Redis(*where, protocol=2, retry=Retry(NoBackoff(), 0), **options)
            try:
                with client, client.pubsub() as events:  # type: ignore[no-untyped-call]
                    events.subscribe(*BEGINS, *ABORTS, *CHANGES)
                    while not over.is_set():
                        self.told(number, look(client, self._name), over)
                        if message := events.get_message(timeout=LOOK_SECONDS):
                            self.heard(message)
            except Exception as error:  # whatever it is, the other sentinels are followed, and this one is tried again
                log.debug("sentinel %s:%d: %s", *where, error)
                self.told(number, None, over)
                over.wait(LOOK_SECONDS)

    def heard(self, message: Mapping[str, Any]) -> None:
        """An event of a sentinel: `master NAME ip port` or `slave … @ NAME ip port`; the address is the primary's."""
        if message["type"] != "message":
            return
        event, words = message["channel"].decode(), message["data"].decode().split()
        if event not in BEGINS | ABORTS or self._name not in words:
            return
        of = address(words[-2], words[-1])
        with self._changed:
            if of != self._primary:
                return  # it comes late
            if event in BEGINS:
                log.warning("redis: a failover begins")
                self._held_until = time.monotonic() + HOLD_SECONDS
                self.drop()
            else:
                self._held_until = 0.0

    def told(self, number: int, report: Report | None, over: threading.Event | None = None) -> None:
        """What a sentinel says now; None if it is out of reach."""
        with self._changed:
            if over is not self._over:
                return  # a thread of before
            last = self._reports.pop(number, None)
            if report:
                self._changes += last is None or last.primary != report.primary
                change = last.change if last and last.primary == report.primary else self._changes
                self._reports[number] = replace(report, change=change)
            self._settle()
            self._changed.notify_all()

    def _settle(self) -> None:
        """Takes the word of the sentinel that knows the latest configuration."""
        if not self._reports:
            return  # it stays where it was
        best = max(self._reports.values(), key=lambda report: (report.epoch, report.change))
        if best.primary != self._primary:
            if self._primary:
                log.warning("redis: %s:%d is the primary now", *best.primary)
                self.drop()
            self._primary, self._seen, self._held_until, self._online = best.primary, set(), 0.0, 0
        for report in self._reports.values():
            if report.primary == self._primary:
                self._seen |= {one for one, replica in report.replicas.items() if replica.follows}


def _eligible(report: Report, one: Address) -> bool:
    replica = report.replicas.get(one)
    return replica is not None and replica.eligible


#: This process's.
_followers: WeakSet[Follower] = WeakSet()


def _forked() -> None:
    for follower in _followers:
        follower._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
