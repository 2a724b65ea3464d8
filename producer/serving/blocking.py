"""`Waiting` for programs without an event loop: runs one on a thread, for all threads that submit or wait."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from producer.serving.waiting import Waiting
from shared.prediction import Prediction
from shared.store import Store
from shared.submission import Submission

T = TypeVar("T")


class BlockingWaiting:
    """Submits and waits as `Waiting` does, on the calling thread. Starts its loop on first use; close it."""

    def __init__(self, store: Store) -> None:
        self._store, self._pid = store, os.getpid()
        self._lock = threading.Lock()
        self._waiting: Waiting | None = None
        self._running: set[Future[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop", daemon=True)

    def submit(self, picture: Submission, seconds: float = 0) -> Prediction:
        """Submit a picture, and wait up to `seconds` for its end. Raises what Store.submit raises."""
        return self._run(self._started().submit(picture, seconds))

    def fetch(self, id: str, seconds: float = 0) -> Prediction:
        """Return a prediction once it has ended, at the latest after `seconds`. Raises what Store.fetch raises."""
        return self._run(self._started().fetch(id, seconds))

    def _started(self) -> Waiting:
        if self._pid != os.getpid():
            self.__init__(self._store)  # type: ignore[misc]  # threads and locks do not survive a fork
        with self._lock:
            if self._waiting is None:
                self._waiting = Waiting(self._store)
                self._thread.start()
            return self._waiting

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        running = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        self._running.add(running)
        try:
            return running.result()
        finally:
            self._running.discard(running)
            running.cancel()  # after Ctrl-C; otherwise it has ended

    def close(self) -> None:
        """End the threads; waiting calls return at once."""
        if self._waiting is not None and self._pid == os.getpid():
            self._loop.call_soon_threadsafe(self._waiting.stop)
            wait(self._running)
            asyncio.run_coroutine_threadsafe(self._loop.shutdown_default_executor(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._waiting.close()
        self._loop.close()
