"""The worker: an RQ SimpleWorker that claims, classifies and finishes pictures in batches.

Walk: `work` loops over `maintain` (upkeep.py), `claim` and `run` (together.py); `run_batch` there is the fast path,
`run_alone` (alone.py) is RQ's own path for every job that is not a plain picture.
"""

from __future__ import annotations

import logging
import random
import signal
import time
from collections.abc import Callable, Collection, Sequence
from types import FrameType
from typing import Any

from redis import RedisError
from rq.utils import now
from rq.worker.base import WorkerStatus

from shared import keys
from shared.claims import Claim
from shared.errors import RedisUnavailable
from shared.store import Store
from worker.inference.classify import Classified, Pictures
from worker.queue.doorbell import Doorbell
from worker.queue.heartbeat import give_up
from worker.queue.together import RunsTogether
from worker.queue.upkeep import MAINTENANCE_SECONDS

log = logging.getLogger("digitq.worker")

#: Every so many claims another queue is asked first, so that a flood of urgent pictures cannot starve the rest.
TURNS = 8


class BatchWorker(RunsTogether):
    """Serves digitq's queues. `classify` takes the pictures and gives a result for each, in order."""

    def __init__(
        self,
        store: Store,
        classify: Callable[[Pictures], Classified],
        *,
        queues: Sequence[str] = keys.QUEUES,
        card: dict[str, Any] | None = None,
        allowed: Collection[str] = (),
        name: str | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(store, queues, card, allowed, name, device)
        self.classify = classify
        self.bell = Doorbell(store.client, queues)
        self._claims = 0
        self._company = False

    def work(self, burst: bool = False, logging_level: str | None = None, **_: Any) -> bool:  # type: ignore[override]  # RQ's further options do not apply
        """Serves until told to stop; with `burst`, until the queues are empty. True if it ran anything."""
        self.bootstrap(logging_level or "WARNING")
        self._install_signal_handlers()
        self.pulse.beat()
        self.pulse.start()
        self.set_state(WorkerStatus.IDLE)  # as `rq info` shows it
        worked, failures = False, 0
        try:
            while not self._stop_requested:
                try:
                    self.maintain(burst)
                    start = time.perf_counter()
                    claims = [] if self._stop_requested else self.claim()
                    if claims:
                        self.run(claims)
                        self._note_speed(claims, time.perf_counter() - start)
                        worked = True
                    elif burst:
                        break
                    else:
                        self.bell.wait(MAINTENANCE_SECONDS)
                    failures = 0
                except (RedisUnavailable, RedisError, OSError) as error:
                    failures += 1
                    self._back_off(error.__cause__ or error, failures)
                except MemoryError:
                    give_up("out of memory")
                except Exception as error:  # a bug of ours must not take the queue down with it
                    failures += 1
                    log.exception("unexpected")
                    self._back_off(error, failures)
        finally:
            self._say_goodbye()
        return worked

    def _note_speed(self, claims: Sequence[Claim], seconds: float) -> None:
        """Of whole batches of pictures; a chunk notes its slices."""
        if claims[0].batchable:
            self.speed.add(len(claims), seconds)

    def _back_off(self, error: BaseException, failures: int) -> None:
        """Exponential back-off with full jitter, so that a fleet does not return in one wave."""
        seconds = random.uniform(0.05, min(2.0, 0.1 * 2**failures))
        log.warning("%s: trying again in %.1f s", error, seconds)
        self.bell.hang_up()
        time.sleep(seconds)

    def _say_goodbye(self) -> None:
        self.pulse.stop()
        try:
            self.store.leave(self.name)
            self.teardown()
        except (RedisUnavailable, RedisError, OSError) as error:
            log.warning("could not sign off: %s", error)
        self.bell.close()

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Warm shutdown: the batch in hand is finished, nothing more is claimed. A second signal stops at once."""
        self._stop_requested = True
        self._shutdown_requested_date = now()
        signal.signal(signal.SIGINT, self.request_force_stop)
        signal.signal(signal.SIGTERM, self.request_force_stop)
        self.bell.ring()

    def claim(self) -> list[Claim]:
        """What waits, up to a batch; under the lease from the moment it leaves the queue."""
        self._claims += 1
        order, limit = self._order(), self.store.settings.batch_max_size
        claims = self.take(order, limit)
        wait_ms = self.store.settings.batch_max_wait_ms
        if wait_ms and self._company and claims and claims[0].batchable and len(claims) < limit:
            time.sleep(wait_ms / 1000)
            taken = self._taken
            more = self.take(order, limit - len(claims))
            self._taken = taken
            if more and (more[0].attempt > 1 or not more[0].batchable):
                self.store.release(self.name, more)  # it goes alone
            else:
                claims += more
        self._company = len(claims) > 1
        return claims

    def _order(self) -> list[str]:
        names = self.queue_names()
        turn = self._claims % TURNS
        first = {TURNS - 1: names[-1], TURNS // 2 - 1: names[len(names) // 2]}.get(turn, names[0])
        return [first, *(name for name in names if name != first)]
