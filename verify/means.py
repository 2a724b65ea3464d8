"""Parts of faults: stops a worker with claims, pauses a process, reconfigures and restarts the server."""

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

#: Seconds to try to stop a worker that holds claims.
CATCH_SECONDS = 5.0
#: Seconds that sent data may take to arrive.
ARRIVAL_SECONDS = 0.05
#: Longest second fault of a pair, in seconds, if accepted pictures do not end: longer than any goal.
HOLD_SECONDS = 12.0
#: Seconds that a server may take to restart.
RESTART_SECONDS = 20.0


@dataclass
class Scene:
    """The stack and the settings of a fault."""

    stack: Stack
    ledger: Ledger
    dice: random.Random
    #: Timeout in seconds for all steps.
    patience: float = 30.0
    #: In a pair: plays the second fault; the first one calls it once it has had its effect.
    partner: Callable[[], None] | None = None
    #: In a pair: when the first fault had its effect, Unix seconds.
    hurt_at: float | None = None

    def last(self, low: float = 0, high: float = 0, hinders: bool = True) -> None:
        """Let the fault last for `low` to `high` seconds; in a pair, the first one plays the second here.

        A second fault that does not hinder accepted pictures from ending lasts until they have ended.
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
    """Stop a worker (SIGSTOP) that holds claims, or any worker if none is found in time; return it."""
    end = time.monotonic() + CATCH_SECONDS
    while True:
        child = scene.dice.choice(scene.stack.alive() or scene.stack.workers)
        child.signal(signal.SIGSTOP)
        if _holds_for_good(scene.stack, child) or time.monotonic() > end:
            return child
        child.signal(signal.SIGCONT)
        time.sleep(scene.dice.uniform(0, 0.02))


def _holds_for_good(stack: Stack, child: Child) -> bool:
    """True if it still holds claims once everything that it sent has arrived."""
    if not stack.holds(child):
        return False
    time.sleep(ARRIVAL_SECONDS)
    return stack.holds(child)


@contextmanager
def stopped(child: Child) -> Iterator[None]:
    """Pause the process in the meantime."""
    child.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        child.signal(signal.SIGCONT)


@contextmanager
def configured(stack: Stack, name: str, value: str, usual: str) -> Iterator[None]:
    """Run the server with this option in the meantime; after a restart it has the usual one."""
    stack.client.config_set(name, value)
    try:
        yield
    finally:
        with suppress(redis.RedisError):
            stack.client.config_set(name, usual)


def restart(scene: Scene, cut: tuple[Path, int] | None = None) -> None:
    """Kill the server with SIGKILL, optionally cut its log to a length, and wait until it answers again."""
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
    """Record a change of the primary, restart a dead server, wait until all are in sync; return when it changed."""
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
