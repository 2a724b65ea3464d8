"""Claims jobs from the queues in batches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from secrets import token_hex

from shared.claims import Claim
from shared.store import Store
from worker.telemetry import metrics

#: Claims per cycle; one of them starts with the middle queue and one with the last, so that neither starves.
CYCLE = 8


class Claimer:
    """Claims up to a batch of jobs under a lease, the most urgent queue first."""

    def __init__(self, store: Store, worker: str, queues: Sequence[str]) -> None:
        self._store, self._worker, self._queues = store, worker, queues
        #: `time.perf_counter` of the last claim.
        self.claimed_at = 0.0
        self._count = 0
        self._previous_was_shared = False

    def claim(self, queues: Sequence[str], limit: int) -> list[Claim]:
        """Claims up to `limit` jobs from these queues, in their order."""
        claims = self._store.claim(self._worker, queues, limit, token_hex(6))
        self.claimed_at = time.perf_counter()
        metrics.RETRIES.inc(sum(claim.attempt > 1 for claim in claims))
        return claims

    def claim_batch(self) -> list[Claim]:
        """Claims the next batch; after a batch of several pictures it waits for more, if so configured."""
        self._count += 1
        queues, settings = self._order(), self._store.settings
        claims = self.claim(queues, settings.batch_max_size)
        missing = settings.batch_max_size - len(claims)
        if settings.batch_max_wait_ms and self._previous_was_shared and claims and claims[0].batchable and missing:
            time.sleep(settings.batch_max_wait_ms / 1000)
            claims += self._claim_more(queues, missing)
        self._previous_was_shared = len(claims) > 1
        return claims

    def _claim_more(self, queues: Sequence[str], limit: int) -> list[Claim]:
        first_claimed_at = self.claimed_at
        more = self.claim(queues, limit)
        self.claimed_at = first_claimed_at
        if more and (more[0].attempt > 1 or not more[0].batchable):
            self._store.release(self._worker, more)  # it must not share a batch
            return []
        return more

    def _order(self) -> list[str]:
        queues, turn = self._queues, self._count % CYCLE
        first = {CYCLE - 1: queues[-1], CYCLE // 2 - 1: queues[len(queues) // 2]}.get(turn, queues[0])
        return [first, *(name for name in queues if name != first)]
