"""A worker that waits for work."""

from __future__ import annotations

import threading
import time

from shared.keys import Priority
from shared.store import Store
from tests.working import serving


def test_an_idle_worker_starts_at_once_when_a_picture_comes(store: Store, settings: object) -> None:
    with serving(store) as worker:
        thread = threading.Thread(target=worker.wakeup.wait, args=[10])
        thread.start()
        time.sleep(0.3)
        start = time.monotonic()
        store.submit(b"7", priority=Priority.LOW)
        thread.join(5)
        assert time.monotonic() - start < 1
        assert [claim.image for claim in worker.claimer.claim_batch()] == [b"7"]
