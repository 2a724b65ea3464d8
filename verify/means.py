"""How faults are done: catching a worker at work, holding a process still, changing and restarting the server."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import redis

from verify.children import Child
from verify.ledger import Ledger
from verify.sentinels import Server
from verify.stack import Stack

#: How long to try to catch a worker with claims in its hands.
CATCH_SECONDS = 5.0
#: How long what a process has sent may be on its way.
ARRIVAL_SECONDS = 0.05
#: How long the second fault of a pair lasts where what was accepted before does not end: longer than any goal.
HOLD_SECONDS = 12.0
#: How long a server may take to come back.
RESTART_SECONDS = 20.0


@dataclass
class Scene:
    """What a fault may touch."""

    stack: Stack
    ledger: Ledger
    dice: random.Random
    #: Seconds that anything may take.
    patience: float = 30.0
    #: In a pair: plays the second fault; the first one calls it when its harm is done.
    partner: Callable[[], None] | None = None
    #: In a pair: when the harm of the first was done, Unix seconds.
    hurt_at: float | None = None

    def last(self, low: float = 0, high: float = 0, hinders: bool = True) -> None:
        """What the fault has done lasts for so many seconds; in a pair the first one plays the second here.

        A second one that does not hinder what was accepted from ending lasts until it has ended.
        """
        if self.partner is not None:
            partner, self.partner, self.hurt_at = self.partner, None, time.time()
            partner()
        elif self.hurt_at is None or hinders:
            time.sleep(self.dice.uniform(low, high))
        else:
            end = time.monotonic() + min(HOLD_SECONDS, self.patience)
            while self.ledger.waiting(self.hurt_at) and time.monotonic() < end:
                time.sleep(0.05)


def caught(scene: Scene) -> Child:
    """A worker, stopped; with claims in its hands, if it ever has some when we look."""
    end = time.monotonic() + CATCH_SECONDS
    while True:
        child = scene.dice.choice(scene.stack.alive() or scene.stack.workers)
        child.signal(signal.SIGSTOP)
        if _holds_for_good(scene.stack, child) or time.monotonic() > end:
            return child
        child.signal(signal.SIGCONT)
        time.sleep(scene.dice.uniform(0, 0.02))


def _holds_for_good(stack: Stack, child: Child) -> bool:
    """True if it still holds claims once what it sent before it was stopped must have arrived."""
    if not stack.holds(child):
        return False
    time.sleep(ARRIVAL_SECONDS)
    return stack.holds(child)


@contextmanager
def stopped(child: Child) -> Iterator[None]:
    """The process stands still meanwhile."""
    child.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        child.signal(signal.SIGCONT)


@contextmanager
def configured(stack: Stack, name: str, value: str, usual: str) -> Iterator[None]:
    """The server runs with this option meanwhile; one that was killed comes back with the usual ones."""
    stack.client.config_set(name, value)
    try:
        yield
    finally:
        with suppress(redis.RedisError):
            stack.client.config_set(name, usual)


def restart(scene: Scene, cut: tuple[Path, int] | None = None) -> None:
    """kill -9 of the server, perhaps with its log cut off at a length, and its return."""
    server = scene.stack.server
    pid = server.pid
    server.kill(down=scene.dice.uniform(0.3, 1.5))
    server.wait_dead(pid)
    if cut:
        os.truncate(*cut)
    end = time.monotonic() + RESTART_SECONDS
    while not scene.stack.answers() and time.monotonic() < end:
        time.sleep(0.02)


def taken_over(scene: Scene, began_at: float, dead: Server | None = None) -> float:
    """Another primary was made since then. Returns when it was; whoever died comes back, and all follow it."""
    over = time.time()
    scene.ledger.move(began_at, over)
    scene.last()
    if dead:
        dead.start()
    end = time.monotonic() + RESTART_SECONDS
    while time.monotonic() < end:
        with suppress(redis.RedisError, ValueError):
            if scene.stack.sentinels.whole():
                break
        time.sleep(0.1)
    return over
