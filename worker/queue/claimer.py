"""Claims jobs from the queues in batches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from secrets import token_hex

from shared.claims import Claim, Finish, Ran
from shared.operations.leases import Ended
from shared.store import Store
from worker.telemetry import metrics

#: Claims per cycle; one of them starts with the middle queue and one with the last, so that neither starves.
CYCLE = 8


class Claimer:
    """Claims up to a batch of jobs under a lease, the most urgent queue first.

    `ahead` are the claims of the same round trip as the end of the last batch, which run next; None if nothing was
    asked for. The owner keeps its leases.
    """

    def __init__(self, store: Store, worker: str, queues: Sequence[str]) -> None:
        self._store, self._worker, self._queues = store, worker, queues
        #: `time.perf_counter` of the last claim.
        self.claimed_at = 0.0
        self.ahead: list[Claim] | None = None
        self._count = 0
        self._order: list[str] = []
        self._previous_was_shared = False

    def claim(self, queues: Sequence[str], limit: int) -> list[Claim]:
        """Claims up to `limit` jobs from these queues, in their order."""
        claims = self._store.claim(self._worker, queues, limit, token_hex(6))
        self._note(claims)
        return claims

    def _note(self, claims: Sequence[Claim]) -> None:
        self.claimed_at = time.perf_counter()
        if retries := sum(claim.attempt > 1 for claim in claims):
            metrics.RETRIES.inc(retries)

    def claim_batch(self) -> list[Claim]:
        """Claims the next batch; after a batch of several pictures it waits for more, if so configured."""
        if self.ahead is None:
            self._turn()
            claims = self.claim(self._order, self._store.settings.batch_max_size)
        else:
            claims, self.ahead = self.ahead, None
        settings = self._store.settings
        missing = settings.batch_max_size - len(claims)
        if settings.batch_max_wait_ms and self._previous_was_shared and claims and claims[0].batchable and missing:
            time.sleep(settings.batch_max_wait_ms / 1000)
            claims += self._claim_more(self._order, missing)
        self._previous_was_shared = len(claims) > 1
        return claims

    def finish_and_claim(self, finishes: Sequence[Finish], ran: Ran, seconds: float) -> Ended:
        """Finish a batch, and claim the next one into `ahead`. Returns what `Store.finish` does."""
        self._turn()
        limit = self._store.settings.batch_max_size
        ended, self.ahead = self._store.finish_and_claim(
            self._worker, finishes, ran, seconds, self._order, limit, token_hex(6)
        )
        self._note(self.ahead or [])
        return ended

    def give_back(self) -> None:
        """Release the claims of `ahead` without an attempt. Raises RedisUnavailable."""
        claims, self.ahead = self.ahead, None
        if claims:
            self._store.release(self._worker, claims)

    def _claim_more(self, queues: Sequence[str], limit: int) -> list[Claim]:
        first_claimed_at = self.claimed_at
        more = self.claim(queues, limit)
        self.claimed_at = first_claimed_at
        if more and (more[0].attempt > 1 or not more[0].batchable):
            self._store.release(self._worker, more)  # it must not share a batch
            return []
        return more

    def _turn(self) -> None:
        """Choose the order of the queues for the next claim."""
        self._count += 1
        queues, turn = self._queues, self._count % CYCLE
        first = {CYCLE - 1: queues[-1], CYCLE // 2 - 1: queues[len(queues) // 2]}.get(turn, queues[0])
        self._order = [first, *(name for name in queues if name != first)]
