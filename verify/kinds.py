"""The faults, one function each: it injects the fault and returns when recovery begins (Unix seconds).

Recovery from a worker's death begins at once; recovery from an outage of Redis begins when Redis answers again.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

from shared import keys
from verify.deaf import deaf
from verify.means import Scene, caught, configured, restart, stopped, taken_over
from verify.policy import evict
from verify.slow_clients import slow_clients

#: Recovery goals in seconds: after the death of a process, and after Redis is back.
AFTER_A_DEATH, AFTER_REDIS = 10.0, 5.0
#: Seconds of data that `appendfsync everysec` may lose (Redis delays an overdue fsync by up to two seconds).
EVERYSEC_SECONDS = 2.0
#: Seconds in which a paused worker tries to write its late results; the check comes after that.
LATE_SECONDS = 1.0
#: Seconds for which workers are stopped so that pictures queue before and behind a malformed job; and its TTL.
GATHER_SECONDS, JUNK_TTL_SECONDS = 0.4, 60
#: Memory limit of a server that fills up, relative to its use; seconds after which users must be served again.
SPARE_SHARE, MADE_ROOM_SECONDS = 1.05, 3.0
#: Kinds of stack that a fault needs.
SINGLE, WATCHED, EITHER = "single", "watched", "either"

Fault = Callable[[Scene], float]


def kill(scene: Scene) -> float:
    """Kills a worker with SIGKILL, preferably while it holds claims."""
    child = caught(scene)
    child.kill()
    at = time.time()
    scene.last()
    return at


def web(scene: Scene) -> float:
    """Kills one of the web processes with SIGKILL: the server or its supervisor."""
    scene.stack.web.kill_any(scene.dice)
    at = time.time()
    scene.last()
    return at


def pause(scene: Scene) -> float:
    """Stops a worker that holds claims (SIGSTOP) until its lease has expired; its late results must be rejected."""
    child, at, lease = caught(scene), time.time(), scene.stack.settings.lease_seconds
    scene.last(lease + 1.5, lease + 3)
    time.sleep(max(0.0, at + lease + 1.5 - time.time()))
    child.signal(signal.SIGCONT)
    time.sleep(LATE_SECONDS)
    return at


def clock(scene: Scene) -> float:
    """A worker's clock jumps by an hour, forward, back and to the right time in turn, while it works."""
    child = scene.stack.workers[0]
    if child in scene.stack.alive():
        child.signal(signal.SIGUSR1)
    scene.last(2, 2)
    return time.time()


def redis_pause(scene: Scene) -> float:
    """Stops Redis (SIGSTOP) for a while."""
    with stopped(scene.stack.server):
        scene.last(1, 4)
    return time.time()


def redis_kill(scene: Scene) -> float:
    """Kills and restarts Redis with appendfsync everysec."""
    at = time.time()
    restart(scene)
    over = time.time()
    scene.ledger.expose(at - EVERYSEC_SECONDS, over)
    scene.last()
    return over


def redis_kill_always(scene: Scene) -> float:
    """Kills and restarts Redis with appendfsync always: nothing may be lost."""
    with configured(scene.stack, "appendfsync", "always", "everysec"):
        time.sleep(EVERYSEC_SECONDS)
        restart(scene)
        over = time.time()
        scene.last()
    return over


def redis_power(scene: Scene) -> float:
    """Power loss of the machine of Redis: the writes of the last second are not on its disk."""
    log = max((scene.stack.folder / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
    size = log.stat().st_size
    time.sleep(1)
    at = time.time()
    restart(scene, cut=(log, size))
    over = time.time()
    scene.ledger.expose(at - EVERYSEC_SECONDS, over)
    scene.last()
    return over


def cut(scene: Scene) -> float:
    """Resets every connection to Redis, several times."""
    for _ in range(scene.dice.randint(1, 8)):
        scene.stack.proxy.cut()
        scene.last(0, 0.2)
    return time.time()


def slow(scene: Scene) -> float:
    """Delays every packet to and from Redis."""
    scene.stack.proxy.delay = scene.dice.uniform(0.05, 0.25)
    scene.last(3, 3)
    scene.stack.proxy.delay = 0.0
    return time.time()


def disk(scene: Scene) -> float:
    """A slow disk with appendfsync always: Redis blocks on writes again and again."""
    end = time.monotonic() + 3
    with configured(scene.stack, "appendfsync", "always", "everysec"):
        while time.monotonic() < end:
            with stopped(scene.stack.server):
                time.sleep(scene.dice.uniform(0.1, 0.4))
            time.sleep(0.05)
        scene.last()
    return time.time()


def junk(scene: Scene) -> float:
    """A job between queued pictures has an image key of the wrong type; the others must not be affected."""
    from rq import Queue  # imported here: `verify --url` runs without the worker's requirements

    client, id = scene.stack.client, f"junk-{scene.dice.getrandbits(64):x}"
    with ExitStack() as still:
        for child in scene.stack.workers:
            still.enter_context(stopped(child))
        time.sleep(GATHER_SECONDS)
        client.hset(keys.image(id), "no", "picture")
        client.expire(keys.image(id), JUNK_TTL_SECONDS)
        ttl = {"result_ttl": JUNK_TTL_SECONDS, "failure_ttl": JUNK_TTL_SECONDS}
        Queue("digitq", connection=client, serializer="json").enqueue(keys.JOB_FUNCTION, id, job_id=id, **ttl)
        scene.last(GATHER_SECONDS, GATHER_SECONDS)
    return time.time()


def storm(scene: Scene) -> float:
    """A worker that holds claims, a web process and Redis die together."""
    caught(scene).kill()
    scene.stack.web.kill_any(scene.dice)
    return redis_kill(scene)


def redis_full(scene: Scene) -> float:
    """Redis's memory is full, with noeviction; in a pair until all accepted pictures have finished."""
    at = time.time()
    with configured(scene.stack, "maxmemory", "1mb", "0"):
        scene.last(1, 3, hinders=False)
    scene.ledger.evict(at, time.time())
    return time.time()


def full(scene: Scene) -> float:
    """Redis gets a memory limit just above its use: uploads go on as fast as old results are deleted."""
    at, used = time.time(), scene.stack.client.info("memory")["used_memory"]
    with configured(scene.stack, "maxmemory", str(int(used * SPARE_SHARE)), "0"):
        scene.last(7, 9, hinders=False)
    scene.ledger.evict(at, time.time())
    return at + MADE_ROOM_SECONDS


def failover(scene: Scene) -> float:
    """Kills the primary of three servers; sentinels promote a replica, and the primary returns as a replica."""
    at = time.time()
    server, _ = scene.stack.sentinels.kill()
    return taken_over(scene, at, server)


def demote(scene: Scene) -> float:
    """SENTINEL FAILOVER: a replica replaces a live primary, which learns of it only seconds later."""
    at = time.time()
    scene.stack.sentinels.failover()
    return taken_over(scene, at)


class Kind(NamedTuple):
    """A fault or a pair, and its recovery goals."""

    fault: Fault
    #: Seconds until the next picture must have its result.
    goal: float
    #: Whether pictures accepted before must finish in that time, too.
    all_of_it: bool
    #: Whether accepted pictures cannot finish during the fault.
    hinders: bool = True
    #: The stack that it needs: a single Redis, one with sentinels, or either.
    stack: str = SINGLE


#: By name. In a pair, the fault listed first is injected first.
KINDS: dict[str, Kind] = {
    "kill": Kind(kill, AFTER_A_DEATH, True, stack=EITHER),
    "storm": Kind(storm, AFTER_A_DEATH, True),
    "web": Kind(web, AFTER_A_DEATH, True, stack=EITHER),
    "pause": Kind(pause, AFTER_A_DEATH, True, stack=EITHER),
    "junk": Kind(junk, AFTER_A_DEATH, True, stack=EITHER),
    "clock": Kind(clock, AFTER_A_DEATH, True, stack=EITHER),
    "redis-pause": Kind(redis_pause, AFTER_REDIS, False),
    "redis-kill": Kind(redis_kill, AFTER_REDIS, False),
    "redis-kill-always": Kind(redis_kill_always, AFTER_REDIS, False),
    "redis-power": Kind(redis_power, AFTER_REDIS, False),
    "cut": Kind(cut, AFTER_REDIS, False),
    "slow": Kind(slow, AFTER_REDIS, False),
    "disk": Kind(disk, AFTER_REDIS, False),
    "failover": Kind(failover, AFTER_REDIS, False, stack=WATCHED),
    "demote": Kind(demote, AFTER_REDIS, False, stack=WATCHED),
    "slow-clients": Kind(slow_clients, AFTER_A_DEATH, True, hinders=False),
    "full": Kind(full, AFTER_REDIS, False, hinders=False),
    "redis-full": Kind(redis_full, AFTER_REDIS, False, hinders=False),
    "deaf": Kind(deaf, AFTER_A_DEATH, True),
    "evict": Kind(evict, AFTER_REDIS, False, hinders=False),
}
