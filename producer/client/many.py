"""Many pictures at once: handed in with bounded concurrency, and waited for in whatever order they end."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from shared.keys import Priority
from shared.prediction import Prediction

A = TypeVar("A")
B = TypeVar("B")
#: A picture, alone or with its name.
Picture = bytes | tuple[str, bytes]

#: Calls under way at once.
PARALLEL = 16
#: How far the items that are read may be ahead of the results, in times of what is under way at once.
AHEAD = 4
#: Seconds for which one prediction is waited for while others want the place, and otherwise.
SHORT_SECONDS, LONG_SECONDS = 1.0, 5.0


def named(picture: Picture) -> tuple[str, bytes]:
    """Its name, or nothing, and its bytes."""
    return picture if isinstance(picture, tuple) else ("", picture)


class Rota:
    """Whom to ask for next: all take turns, so that one that takes long holds up nobody else. No I/O."""

    def __init__(self, predictions: Iterable[Prediction], timeout: float, parallel: int) -> None:
        self._waiting = deque(predictions)
        self._timeout, self._end, self._parallel = timeout, time.monotonic() + timeout, parallel

    def due(self, running: int) -> Iterator[tuple[Prediction, float]]:
        """Those to be asked for now, and for how many seconds. Raises TimeoutError when the time is over."""
        seconds = LONG_SECONDS if len(self._waiting) + running <= self._parallel else SHORT_SECONDS
        for _ in range(min(self._parallel - running, len(self._waiting))):
            left = self._end - time.monotonic()
            if left <= 0:
                missing = len(self._waiting) + running
                raise TimeoutError(f"{missing} predictions have not ended after {self._timeout:g} s")
            yield self._waiting.popleft(), min(left, seconds)

    def has_ended(self, prediction: Prediction) -> bool:
        """True for one that has; another has its next turn later."""
        if not prediction.state.terminal:
            self._waiting.append(prediction)
        return prediction.state.terminal


class Many(ABC):
    """What `Client` and `Queue` do with many pictures, made of what they do with one."""

    @abstractmethod
    def submit(
        self, image: bytes, filename: str = "", *, priority: Priority | str = Priority.NORMAL, idempotency_key: str = ""
    ) -> Prediction:
        """Hands in one picture."""

    @abstractmethod
    def get(self, id: str, wait: float = 0) -> Prediction:
        """A prediction as it stands, or as it has ended within `wait` seconds."""

    def submit_many(
        self, images: Iterable[Picture], *, priority: Priority | str = Priority.NORMAL, parallel: int = PARALLEL
    ) -> list[Prediction]:
        """Hands in pictures, alone or as (name, bytes), `parallel` at a time; their predictions, in order.

        Raises the first error that `submit` raises; those that were accepted before stay so. For thousands, and for
        all or none, see `submit_batch`.

        >>> [one.state.value for one in client.submit_many([image, ("im7.png", image)])]
        ['queued', 'queued']
        """

        def one(picture: Picture) -> Prediction:
            name, data = named(picture)
            return self.submit(data, name, priority=priority)

        return list(in_order(one, images, parallel))

    def as_completed(
        self, predictions: Iterable[Prediction], timeout: float = 60, *, parallel: int = PARALLEL
    ) -> Iterator[Prediction]:
        """Predictions as they end, in whatever way. Raises TimeoutError after `timeout` seconds, and what `get` raises.

        >>> sorted(one.digit for one in client.as_completed(client.submit_many([image] * 3), timeout=10))
        [7, 7, 7]
        """
        rota, pool = Rota(predictions, timeout, parallel), ThreadPoolExecutor(parallel)
        running: set[Future[Prediction]] = set()
        try:
            while True:
                running |= {pool.submit(self._look, one, seconds) for one, seconds in rota.due(len(running))}
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from filter(rota.has_ended, [one.result() for one in done])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _look(self, prediction: Prediction, seconds: float) -> Prediction:
        return prediction if prediction.state.terminal else self.get(prediction.id, seconds)

    def wait(self, predictions: Iterable[Prediction], timeout: float = 60) -> list[Prediction]:
        """The same predictions once all have ended, in whatever way. Raises TimeoutError after `timeout` seconds.

        >>> [one.digit for one in client.wait(client.submit_many([image, image]))]
        [7, 7]
        """
        wanted = list(predictions)
        ended = {one.id: one for one in self.as_completed(wanted, timeout)}
        return [ended[one.id] for one in wanted]


def in_order(function: Callable[[A], B], items: Iterable[A], parallel: int = PARALLEL) -> Iterator[B]:
    """function(item) for each, `parallel` at a time, in the order of the items, which are read only as far as needed.

    Raises the first error of the function. Whoever stops early does not wait for what is under way.
    """
    pool = ThreadPoolExecutor(parallel)
    ahead: deque[Future[B]] = deque()
    try:
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) >= AHEAD * parallel:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
