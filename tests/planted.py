"""A worker whose pictures can take it down: the real one but for its model, with less patience and less memory.

python -m tests.planted
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace

import numpy as np

from shared.settings import Settings
from tests import fakes
from worker import service
from worker.inference.classify import Classified
from worker.queue import heartbeat
from worker.queue.limits import limit_memory


def leave() -> None:
    os._exit(3)


def allocate() -> None:
    hoard = []
    while True:
        hoard.append(np.zeros(2**24, np.uint8))  # untouched, so that no slow machine is late for the end


def hang() -> None:
    """As native code does: deaf to the signal that ends a batch."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(3600)


def lock() -> None:
    """The same, and no other thread gets to run."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    ctypes.PyDLL(None).sleep(3600)


#: What is harmful, and with which status its worker ends.
HARM = {
    b"leave": (leave, 3),
    b"allocate": (allocate, heartbeat.HUNG),
    b"hang": (hang, heartbeat.HUNG),
    b"lock": (lock, 1),
}


class Planted:
    """A classifier that pictures can harm."""

    model = SimpleNamespace(card={"version": "planted"}, version="planted")
    preprocessing = "none"

    def __call__(self, images: Sequence[bytes]) -> Classified:
        for image in images:
            if image in HARM:
                HARM[image][0]()
        return fakes.classify(images)


if __name__ == "__main__":
    planted = Planted()
    served = SimpleNamespace(classifier=lambda: planted, refused="", device="cpu")
    service.served = lambda: served  # type: ignore[assignment,return-value]
    service.limit_memory = partial(limit_memory, spare=2**28)
    heartbeat.GRACE_SECONDS = 1
    heartbeat.LOCKED_SECONDS = 3.0
    service.serve(Settings.from_env())
