"""Follows the primary of a Sentinel service and knows which replicas Sentinel could promote.

The order of a planned failover (`SENTINEL FAILOVER`, sentinel.c): the leading sentinel selects a replica
(`+selected-slave`) and some 100 ms later sends it `REPLICAOF NO ONE`. Within a second it sees the replica lead
(`+promoted-slave`, the configuration epoch rises), tells the other sentinels (`+switch-master`) and points the other
replicas to the new primary. The old primary is told last: the sentinels ask it for INFO every 10 s and demote it at the
first answer more than 8 s later, if it was up throughout. Until then it accepts writes, and then loses them.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakSet

from redis.sentinel import MasterNotFoundError

from shared.connections.redis_failures import FailoverUnderWay, PrimaryUnseen
from shared.connections.sentinel_report import Address, Failover, Report, listen

log = logging.getLogger("digitq.redis")

#: Seconds that the first connection waits for a sentinel to name the primary.
FIRST_SECONDS = 0.5
#: Seconds after which connections are allowed again when no sentinel reports the end of a failover.
HOLD_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The replicas that have to acknowledge a write, as known before it is sent."""

    #: `Follower.turn` at that time; as long as it stays the same, so does the primary.
    turn: int
    #: The replicas that Sentinel could promote.
    required: frozenset[Address]
    #: Replicas that Sentinel knows and could not promote. Any other that the primary lists is required too.
    exempt: frozenset[Address]
    #: The number of acknowledgements to wait for.
    count: int


class Follower:
    """Follows one service for one connection pool, with a thread for each sentinel from the first connection on.

    Closes every connection to a primary that is replaced or about to be, those in use too: their callers get an error.
    """

    def __init__(self, sentinels: Sequence[Address], name: str) -> None:
        self._sentinels, self._name = sentinels, name
        self._reset()
        _followers.add(self)

    def _reset(self) -> None:
        """Set the initial state; also in a forked child, which has no threads and may have inherited a held lock."""
        self._changed = threading.Condition()
        self._reports: dict[int, Report] = {}
        self._connections: WeakSet[Any] = WeakSet()
        self._primary: Address | None = None
        #: Replicas that have followed this primary. One that reports to be a primary itself still counts: it was
        #: promoted and acknowledges nothing here. After a failover the old primary does not count until it follows.
        self._seen: set[Address] = set()
        #: Rises with each change of the primary and each failover that begins.
        self.turn = 0
        self._changes, self._held_until, self._online = 0, 0.0, 0
        #: Stops the running threads.
        self._over: threading.Event | None = None

    def primary(self) -> Address:
        """Return where to connect to. Raises redis-py's ConnectionError if unknown, or during a failover."""
        with self._changed:
            self._start()
            if not self._changed.wait_for(lambda: self._primary is not None, FIRST_SECONDS) or not self._primary:
                raise MasterNotFoundError(f"no sentinel knows the primary of {self._name}")
            if self._held_until > time.monotonic():
                raise FailoverUnderWay("a failover is under way")
            if self._reports and all(report.down for report in self._reports.values()):
                raise PrimaryUnseen(f"the sentinels do not see the primary of {self._name}")
            return self._primary

    def admit(self, connection: Any) -> bool:
        """Register a new connection, to be closed at a failover. Returns False if it leads elsewhere by now."""
        with self._changed:
            leads = (connection.host, connection.port) == self._primary and self._held_until <= time.monotonic()
            if leads:
                self._connections.add(connection)
            return leads

    def drop(self) -> None:
        """Shuts the sockets down; the threads that own the connections notice and close them."""
        self.turn += 1
        for connection in self._connections:
            with suppress(OSError, AttributeError):  # it may just have been closed
                connection._sock.shutdown(socket.SHUT_RDWR)
        self._connections = WeakSet()

    def snapshot(self) -> Snapshot:
        """Return who has to acknowledge a write that is sent next.

        Raises redis-py's ConnectionError during a failover.
        """
        with self._changed:
            self.primary()
            if any(report.moving for report in self._reports.values()):
                raise FailoverUnderWay("a failover is under way")
            known = [report.replicas for report in self._reports.values() if report.primary == self._primary]
            listed = {one for replicas in known for one in replicas}
            eligible = {one for replicas in known for one, replica in replicas.items() if replica.eligible}
            required = self._seen & eligible if known else self._seen
            count = max(len(required), self._online)
            return Snapshot(self.turn, frozenset(required), frozenset(listed - eligible), count)

    def confirm(self, before: Snapshot, replicas: set[Address]) -> bool:
        """Record the required replicas that the primary lists as online. Returns False after a failover since."""
        with self._changed:
            if self.turn != before.turn:
                return False
            self._seen |= replicas
            self._online = len(replicas)
            return True

    def _start(self) -> None:
        if self._over is None:
            self._over = threading.Event()
            for number, where in enumerate(self._sentinels):
                args = (number, where, self._over)
                threading.Thread(target=self._listen, args=args, name=f"sentinel-{number}", daemon=True).start()

    def stop(self) -> None:
        """Stop the threads; the next connection starts them again."""
        with self._changed:
            if self._over:
                self._over.set()
            self._over = self._primary = None
            self._reports.clear()
            self.turn += 1  # the primary may be replaced before anybody follows it again

    def _listen(self, number: int, where: Address, over: threading.Event) -> None:
        for said in listen(where, self._name, over):
            if isinstance(said, Failover):
                self.hold(said)
            else:
                self.update(number, said, over)

    def hold(self, failover: Failover) -> None:
        """Allow no connection from the beginning of a failover until it ends; the next `update` tells who leads."""
        with self._changed:
            if failover.primary != self._primary:
                return  # it is over already
            self._held_until = time.monotonic() + HOLD_SECONDS if failover.begins else 0.0
            if failover.begins:
                log.warning("redis: a failover begins")
                self.drop()

    def update(self, number: int, report: Report | None, over: threading.Event | None) -> None:
        """Record what a sentinel reports, None if it is out of reach, and follow the latest configuration."""
        with self._changed:
            if over is not self._over:
                return  # from a thread that was stopped
            last = self._reports.pop(number, None)
            if report:
                if not last or last.primary != report.primary:
                    self._changes += 1
                    last = replace(report, change=self._changes)
                self._reports[number] = replace(report, change=last.change)
            if self._reports:
                best = max(self._reports.values(), key=lambda report: (report.epoch, report.change))
                self._follow(best.primary)
            self._changed.notify_all()

    def _follow(self, primary: Address) -> None:
        if primary != self._primary:
            if self._primary:
                log.warning("redis: %s:%d is the primary now", *primary)
                self.drop()
            self._primary, self._seen, self._held_until, self._online = primary, set(), 0.0, 0
        for report in self._reports.values():
            if report.primary == primary:
                self._seen |= {one for one, replica in report.replicas.items() if replica.follows}


#: The followers of this process.
_followers: WeakSet[Follower] = WeakSet()


def _forked() -> None:
    for follower in _followers:
        follower._reset()


os.register_at_fork(after_in_child=_forked)
