"""Pictures that come at the same time are handed in together: one thread talks to Redis, the others wait for its word.

A thread that asks Redis by itself gives the interpreter's lock away and waits for it again some four times. With sixty
of them that, and not the work, is what the process does; and Redis reads one large command faster than many small.
While one call is under way the next group gathers by itself, so a picture that comes alone waits for nobody.
"""

from __future__ import annotations

import logging
import threading
from queue import SimpleQueue
from typing import Any

from producer.inbox import Inbox, ThreadInbox, run
from shared.prediction import Prediction
from shared.store import Answer, Store
from shared.submission import Submission

log = logging.getLogger("digitq.web")

#: Pictures, and bytes, that close a group: more would take Redis longer than its client waits.
MOST, MOST_BYTES = 64, 1024 * 1024


class Upload:
    """A picture on its way to the queue."""

    __slots__ = ("answer", "inbox", "picture", "quiet")

    def __init__(self, picture: Submission, inbox: Inbox, quiet: bool) -> None:
        #: What Redis, or the way to it, has said; None as long as nothing is known.
        self.answer: Answer | Exception | None = None
        self.picture, self.inbox, self.quiet = picture, inbox, quiet

    def answered(self, answer: Answer | Exception) -> None:
        """Notes the answer, and wakes whoever waits for it; not for the usual one if it is to be `quiet`."""
        self.answer = answer
        if not (self.quiet and not isinstance(answer, Exception) and answer[0] == b"accepted"):
            self.inbox.put(None)

    def repeated(self) -> bool:
        """Whether another picture stands for this one."""
        return not isinstance(self.answer, Exception | None) and self.answer[0] == b"repeated"


class Together:
    """Hands in what comes, as much at once as has gathered."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: SimpleQueue[Upload | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, picture: Submission) -> Prediction:
        """Hands in one picture. Raises what Store.submit raises."""
        inbox = ThreadInbox()
        upload = self.send(picture, inbox, quiet=False)
        run(inbox.get())
        return self.accepted(upload)

    def send(self, picture: Submission, inbox: Inbox, quiet: bool = True) -> Upload:
        """Sends it on its way; `inbox` gets a None with the answer, unless all is well and it is to be `quiet`."""
        upload = Upload(picture, inbox, quiet)
        self._waiting.put(upload)
        if self._thread is None or not self._thread.is_alive():
            self._start()
        return upload

    def accepted(self, upload: Upload) -> Prediction:
        """What became of an upload that has its answer. Raises what Store.submit raises."""
        if isinstance(upload.answer, Exception):
            raise upload.answer
        assert upload.answer is not None
        return self._store.accepted(upload.picture, upload.answer)

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
                answers: list[Any] = self._store.submit_all([upload.picture for upload in group])
            except Exception as error:  # whatever it is, those who wait must end
                # Who came meanwhile would only wait for the same error.
                group += self._gathered()
                answers = [error] * len(group)
            for upload, answer in zip(group, answers, strict=True):
                upload.answered(answer)

    def close(self) -> None:
        """Ends the thread, once what was sent has its answer; who sends after that gets another."""
        with self._lock:
            if self._thread is not None:
                self._thread = None
                self._waiting.put(None)

    def _gathered(self, *first: Upload) -> list[Upload]:
        """The first and what waits behind it, within bounds."""
        group = list(first)
        size = sum(len(upload.picture.image) for upload in group)
        while len(group) < MOST and size < MOST_BYTES and not self._waiting.empty():
            upload = self._waiting.get()
            if upload is None:  # for the thread, when this group has its answers
                self._waiting.put(None)
                break
            group.append(upload)
            size += len(upload.picture.image)
        return group
