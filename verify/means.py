"""Building blocks of faults: catch a worker with claims, stop a process, configure and restart Redis."""

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

#: Seconds to try to catch a worker that holds claims.
CATCH_SECONDS = 5.0
#: Seconds for which data sent by a process may be in transit.
ARRIVAL_SECONDS = 0.05
#: Maximum seconds of the second fault of a pair, if accepted pictures do not finish: longer than any goal.
HOLD_SECONDS = 12.0
#: Seconds that a server may take to come back.
RESTART_SECONDS = 20.0


@dataclass
class Scene:
    """The context of a fault."""

    stack: Stack
    ledger: Ledger
    dice: random.Random
    #: Timeout in seconds.
    patience: float = 30.0
    #: In a pair: injects the second fault; called by the first one once it is injected.
    partner: Callable[[], None] | None = None
    #: In a pair: when the first fault was injected, Unix seconds.
    hurt_at: float | None = None

    def last(self, low: float = 0, high: float = 0, hinders: bool = True) -> None:
        """Keeps the fault up for `seconds`; in a pair the first fault injects the second here.

        A second fault that lets accepted pictures finish lasts until they have finished.
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
    """Stops a worker, with claims if it holds some at one of the checks, and returns it."""
    end = time.monotonic() + CATCH_SECONDS
    while True:
        child = scene.dice.choice(scene.stack.alive() or scene.stack.workers)
        child.signal(signal.SIGSTOP)
        if _holds_for_good(scene.stack, child) or time.monotonic() > end:
            return child
        child.signal(signal.SIGCONT)
        time.sleep(scene.dice.uniform(0, 0.02))


def _holds_for_good(stack: Stack, child: Child) -> bool:
    """True if it still holds claims after everything it had sent must have arrived."""
    if not stack.holds(child):
        return False
    time.sleep(ARRIVAL_SECONDS)
    return stack.holds(child)


@contextmanager
def stopped(child: Child) -> Iterator[None]:
    """Stops the process (SIGSTOP) during the body."""
    child.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        child.signal(signal.SIGCONT)


@contextmanager
def configured(stack: Stack, name: str, value: str, usual: str) -> Iterator[None]:
    """Sets an option of Redis during the body; a killed server comes back with the usual options."""
    stack.client.config_set(name, value)
    try:
        yield
    finally:
        with suppress(redis.RedisError):
            stack.client.config_set(name, usual)


def restart(scene: Scene, cut: tuple[Path, int] | None = None) -> None:
    """Kills Redis, optionally truncates its log, and waits until it is back."""
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
    """Waits until the new primary leads, every server follows it, and returns when it was promoted."""
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
