"""What comes at the same time is asked of Redis together: one thread talks to it, the others wait for its word.

A thread that asks Redis by itself gives the interpreter's lock away and waits for it again some four times. With sixty
of them that, and not the work, is what the process does; and Redis reads one large command faster than many small.
While one call is under way the next group gathers by itself, so what comes alone waits for nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Generic, TypeVar

from producer.serving.inbox import Inbox

Q = TypeVar("Q")
A = TypeVar("A")

#: Questions, and their bytes, that close a group: more would take Redis longer than its client waits.
MOST, MOST_BYTES = 64, 1024 * 1024


class Errand(Generic[Q, A]):
    """A question on its way to Redis."""

    __slots__ = ("_answer", "_error", "asked", "inbox", "quiet")

    def __init__(self, asked: Q, inbox: Inbox, quiet: bool) -> None:
        self.asked, self.inbox, self.quiet = asked, inbox, quiet
        self._answer: A | None = None
        self._error: Exception | None = None

    @property
    def done(self) -> bool:
        """Whether Redis, or the way to it, has said something."""
        return self._answer is not None or self._error is not None

    def answer(self) -> A:
        """What Redis has said. Raises what the call has raised."""
        if self._error is not None:
            raise self._error
        assert self._answer is not None
        return self._answer

    def end(self, answer: A | None, error: Exception | None, usual: bool) -> None:
        """Notes what came of it, and wakes whoever waits for it; not for the usual answer if it is to be `quiet`."""
        self._answer, self._error = answer, error
        if not (self.quiet and usual):
            self.inbox.put(None)


class Together(Generic[Q, A]):
    """Asks what has gathered, as much at once as may be: `call` takes questions and answers each, in order.

    `size` tells the bytes of a question, `usual` which answer nobody has to be woken for who is quiet.
    """

    def __init__(
        self, call: Callable[[Sequence[Q]], Sequence[A]], size: Callable[[Q], int] = lambda _: 0,
        usual: Callable[[A], bool] = lambda _: False,
    ) -> None:  # fmt: skip
        self._call, self._size, self._usual = call, size, usual
        self._waiting: SimpleQueue[Errand[Q, A] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def send(self, asked: Q, inbox: Inbox, quiet: bool = False) -> Errand[Q, A]:
        """Sends it on its way; `inbox` gets a None with the answer, unless all is well and it is to be `quiet`."""
        errand: Errand[Q, A] = Errand(asked, inbox, quiet)
        self._waiting.put(errand)
        if self._thread is None or not self._thread.is_alive():
            self._start()
        return errand

    def waiting(self) -> int:
        """How many are not on their way yet."""
        return self._waiting.qsize()

    def _start(self) -> None:
        """On first use, and again in a process that was forked since: threads do not come along."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="together", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while first := self._waiting.get():
            group = self._gathered(first)
            try:
                answers = self._call([errand.asked for errand in group])
            except Exception as error:  # whatever it is, those who wait must end
                # Who came meanwhile would only wait for the same error.
                for errand in [*group, *self._gathered()]:
                    errand.end(None, error, usual=False)
                continue
            for errand, answer in zip(group, answers, strict=True):
                errand.end(answer, None, self._usual(answer))

    def close(self) -> None:
        """Ends the thread, once what was sent has its answer; who sends after that gets another."""
        with self._lock:
            if self._thread is not None:
                self._thread = None
                self._waiting.put(None)

    def _gathered(self, *first: Errand[Q, A]) -> list[Errand[Q, A]]:
        """The first and what waits behind it, within bounds."""
        group = list(first)
        size = sum(self._size(errand.asked) for errand in group)
        while len(group) < MOST and size < MOST_BYTES and not self._waiting.empty():
            errand = self._waiting.get()
            if errand is None:  # for the thread, when this group has its answers
                self._waiting.put(None)
                break
            group.append(errand)
            size += self._size(errand.asked)
        return group
