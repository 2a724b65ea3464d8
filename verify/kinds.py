"""The faults, one function each: it has its effect and returns when the recovery begins (Unix seconds).

After a worker's death recovery begins at once; after an outage of Redis, when Redis answers.
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

#: Goals of recovery, in seconds, after a process of digitq has died and after Redis is back.
AFTER_A_DEATH, AFTER_REDIS = 10.0, 5.0
#: Seconds of writes that `appendfsync everysec` may lose when the server dies: Redis delays an overdue fsync by up to
#: two seconds.
EVERYSEC_SECONDS = 2.0
#: Seconds in which a worker that was paused may still try to write its late results.
LATE_SECONDS = 1.0
#: Seconds that workers are paused so that pictures queue up before and after a malformed job; retention of that job.
GATHER_SECONDS, JUNK_TTL_SECONDS = 0.4, 60
#: Memory limit of a server that fills up, relative to its use; seconds after which users must be served again.
SPARE_SHARE, MADE_ROOM_SECONDS = 1.05, 3.0
#: The stacks of a fault.
SINGLE, WATCHED, EITHER = "single", "watched", "either"

Fault = Callable[[Scene], float]


def kill(scene: Scene) -> float:
    """Kill a worker with SIGKILL, if possible one that holds claims."""
    child = caught(scene)
    child.kill()
    at = time.time()
    scene.last()
    return at


def web(scene: Scene) -> float:
    """Kill one of the web processes with SIGKILL: the server or its supervisor."""
    scene.stack.web.kill_any(scene.dice)
    at = time.time()
    scene.last()
    return at


def pause(scene: Scene) -> float:
    """Pause a worker that holds claims until its lease is over; its writes are then too late."""
    child, at, lease = caught(scene), time.time(), scene.stack.settings.lease_seconds
    scene.last(lease + 1.5, lease + 3)
    time.sleep(max(0.0, at + lease + 1.5 - time.time()))
    child.signal(signal.SIGCONT)
    time.sleep(LATE_SECONDS)
    return at


def clock(scene: Scene) -> float:
    """Change a worker's clock by an hour, forth, back and to the right time in turn; it continues to work."""
    child = scene.stack.workers[0]
    if child in scene.stack.alive():
        child.signal(signal.SIGUSR1)
    scene.last(2, 2)
    return time.time()


def redis_pause(scene: Scene) -> float:
    """Pause the server."""
    with stopped(scene.stack.server):
        scene.last(1, 4)
    return time.time()


def redis_kill(scene: Scene) -> float:
    """Kill the server with SIGKILL and restart it, with appendfsync everysec."""
    at = time.time()
    restart(scene)
    over = time.time()
    scene.ledger.expose(at - EVERYSEC_SECONDS, over)
    scene.last()
    return over


def redis_kill_always(scene: Scene) -> float:
    """Kill the server with SIGKILL and restart it, with appendfsync always: nothing may be lost."""
    with configured(scene.stack, "appendfsync", "always", "everysec"):
        time.sleep(EVERYSEC_SECONDS)
        restart(scene)
        over = time.time()
        scene.last()
    return over


def redis_power(scene: Scene) -> float:
    """Simulate a power failure of the server: the writes of the last second are not on disk."""
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
    """Reset every connection to Redis, several times."""
    for _ in range(scene.dice.randint(1, 8)):
        scene.stack.proxy.cut()
        scene.last(0, 0.2)
    return time.time()


def slow(scene: Scene) -> float:
    """Delay every packet to and from Redis."""
    scene.stack.proxy.delay = scene.dice.uniform(0.05, 0.25)
    scene.last(3, 3)
    scene.stack.proxy.delay = 0.0
    return time.time()


def disk(scene: Scene) -> float:
    """Simulate a slow disk under appendfsync always: pause the server repeatedly."""
    end = time.monotonic() + 3
    with configured(scene.stack, "appendfsync", "always", "everysec"):
        while time.monotonic() < end:
            with stopped(scene.stack.server):
                time.sleep(scene.dice.uniform(0.1, 0.4))
            time.sleep(0.05)
        scene.last()
    return time.time()


def junk(scene: Scene) -> float:
    """Put a job whose picture is a key of another type among queued pictures, which must not be affected."""
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
    """Kill a worker that holds claims, a web process and the server together."""
    caught(scene).kill()
    scene.stack.web.kill_any(scene.dice)
    return redis_kill(scene)


def redis_full(scene: Scene) -> float:
    """Fill the server's memory, with noeviction; in a pair until all accepted pictures have ended."""
    at = time.time()
    with configured(scene.stack, "maxmemory", "1mb", "0"):
        scene.last(1, 3, hinders=False)
    scene.ledger.evict(at, time.time())
    return time.time()


def full(scene: Scene) -> float:
    """Limit the server's memory to hardly more than it uses: pictures are accepted as fast as old ones are evicted."""
    at, used = time.time(), scene.stack.client.info("memory")["used_memory"]
    with configured(scene.stack, "maxmemory", str(int(used * SPARE_SHARE)), "0"):
        scene.last(7, 9, hinders=False)
    scene.ledger.evict(at, time.time())
    return at + MADE_ROOM_SECONDS


def failover(scene: Scene) -> float:
    """Kill the primary; the sentinels promote a replica, and the old primary returns as one."""
    at = time.time()
    server, _ = scene.stack.sentinels.kill()
    return taken_over(scene, at, server)


def demote(scene: Scene) -> float:
    """Promote a replica by SENTINEL FAILOVER while the primary lives and learns of it seconds later."""
    at = time.time()
    scene.stack.sentinels.failover()
    return taken_over(scene, at)


class Kind(NamedTuple):
    """A fault, or a pair, and its requirements."""

    fault: Fault
    #: Seconds until the next picture must have its digit.
    goal: float
    #: Whether pictures accepted before must end in that time, too.
    all_of_it: bool
    #: Whether accepted pictures cannot end during the fault.
    hinders: bool = True
    #: Its stack: with a single server, with sentinels, or either.
    stack: str = SINGLE


#: The faults by name. In a pair, the one listed first here comes first.
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
