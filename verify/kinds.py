"""What can go wrong, one function each: it does its harm and returns when recovery begins (Unix seconds).

A worker's death is over at once, and its pictures have to be taken over; an outage of Redis is over when it answers.
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

#: Goals of recovery, in seconds, after a process of ours has died and after Redis is back.
AFTER_A_DEATH, AFTER_REDIS = 10.0, 5.0
#: What `appendfsync everysec` may lose when the server dies (Redis delays an overdue fsync by up to two seconds).
EVERYSEC_SECONDS = 2.0
#: How long a worker that was paused may need to write what is too late; nobody judges before.
LATE_SECONDS = 1.0
#: How long workers stand still for pictures to gather before a malformed job, and behind it; and how long that is kept.
GATHER_SECONDS, JUNK_TTL_SECONDS = 0.4, 60
#: Memory of a server that fills up, as a share of what it uses; seconds after which users must be served all the same.
SPARE_SHARE, MADE_ROOM_SECONDS = 1.05, 3.0
#: Stacks that a fault may be for.
SINGLE, WATCHED, EITHER = "single", "watched", "either"

Fault = Callable[[Scene], float]


def kill(scene: Scene) -> float:
    """kill -9 of a worker, if possible with claims in its hands."""
    child = caught(scene)
    child.kill()
    at = time.time()
    scene.last()
    return at


def web(scene: Scene) -> float:
    """kill -9 of one of the web's processes: the server's, or the one that supervises it."""
    scene.stack.web.kill_any(scene.dice)
    at = time.time()
    scene.last()
    return at


def pause(scene: Scene) -> float:
    """SIGSTOP of a worker, with claims in its hands, until its lease is over; what it writes then is too late."""
    child, at, lease = caught(scene), time.time(), scene.stack.settings.lease_seconds
    scene.last(lease + 1.5, lease + 3)
    time.sleep(max(0.0, at + lease + 1.5 - time.time()))
    child.signal(signal.SIGCONT)
    time.sleep(LATE_SECONDS)
    return at


def clock(scene: Scene) -> float:
    """A worker's clock jumps by an hour, forth, back and to the truth in turn; it goes on working."""
    child = scene.stack.workers[0]
    if child in scene.stack.alive():
        child.signal(signal.SIGUSR1)
    scene.last(2, 2)
    return time.time()


def redis_pause(scene: Scene) -> float:
    """SIGSTOP of the server for a while."""
    with stopped(scene.stack.server):
        scene.last(1, 4)
    return time.time()


def redis_kill(scene: Scene) -> float:
    """kill -9 and restart of the server with appendfsync everysec."""
    at = time.time()
    restart(scene)
    over = time.time()
    scene.ledger.expose(at - EVERYSEC_SECONDS, over)
    scene.last()
    return over


def redis_kill_always(scene: Scene) -> float:
    """kill -9 and restart of the server with appendfsync always: nothing may be lost."""
    with configured(scene.stack, "appendfsync", "always", "everysec"):
        time.sleep(EVERYSEC_SECONDS)
        restart(scene)
        over = time.time()
        scene.last()
    return over


def redis_power(scene: Scene) -> float:
    """The machine of the server loses its power: what was written in the last second is not on the disk."""
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
    """Every connection to Redis is reset, several times."""
    for _ in range(scene.dice.randint(1, 8)):
        scene.stack.proxy.cut()
        scene.last(0, 0.2)
    return time.time()


def slow(scene: Scene) -> float:
    """Every packet to and from Redis is late."""
    scene.stack.proxy.delay = scene.dice.uniform(0.05, 0.25)
    scene.last(3, 3)
    scene.stack.proxy.delay = 0.0
    return time.time()


def disk(scene: Scene) -> float:
    """A slow disk under appendfsync always: the server stands still with every write, again and again."""
    end = time.monotonic() + 3
    with configured(scene.stack, "appendfsync", "always", "everysec"):
        while time.monotonic() < end:
            with stopped(scene.stack.server):
                time.sleep(scene.dice.uniform(0.1, 0.4))
            time.sleep(0.05)
        scene.last()
    return time.time()


def junk(scene: Scene) -> float:
    """Amid waiting pictures stands a job whose picture is a key of another type; its neighbours must not suffer."""
    from rq import Queue  # here: `verify --url` runs without the worker's part

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
    """A worker with claims in its hands, a web process and the server die together."""
    caught(scene).kill()
    scene.stack.web.kill_any(scene.dice)
    return redis_kill(scene)


def redis_full(scene: Scene) -> float:
    """The server's memory is full, with noeviction; in a pair until all that was accepted has ended."""
    at = time.time()
    with configured(scene.stack, "maxmemory", "1mb", "0"):
        scene.last(1, 3, hinders=False)
    scene.ledger.evict(at, time.time())
    return time.time()


def full(scene: Scene) -> float:
    """The server may use hardly more memory than it does: users go on as fast as what has ended is deleted."""
    at, used = time.time(), scene.stack.client.info("memory")["used_memory"]
    with configured(scene.stack, "maxmemory", str(int(used * SPARE_SHARE)), "0"):
        scene.last(7, 9, hinders=False)
    scene.ledger.evict(at, time.time())
    return at + MADE_ROOM_SECONDS


def failover(scene: Scene) -> float:
    """kill -9 of the primary of three; sentinels have a replica take over, and it comes back as one."""
    at = time.time()
    server, _ = scene.stack.sentinels.kill()
    return taken_over(scene, at, server)


def demote(scene: Scene) -> float:
    """SENTINEL FAILOVER: another takes over from a primary that lives, and is told of it only seconds later."""
    at = time.time()
    scene.stack.sentinels.failover()
    return taken_over(scene, at)


class Kind(NamedTuple):
    """A fault, or a pair, and what has to follow it."""

    fault: Fault
    #: Seconds in which the next picture has to have its digit.
    goal: float
    #: Whether what was accepted before has to end in that time, too.
    all_of_it: bool
    #: Whether what was accepted cannot end while the fault lasts.
    hinders: bool = True
    #: Which stack it is for: one with a single server, one with sentinels, or either.
    stack: str = SINGLE


#: By name. Of a pair the one that stands before the other here comes first.
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
