"""Python's garbage collector in a process that lives long."""

from __future__ import annotations

import gc

#: Objects more than before upon which it looks at the newest; Python's own is 700.
NEW_OBJECTS = 20_000


def settle() -> None:
    """What is loaded by now stays: the collector no longer goes through it, and less often through what comes.

    It holds the interpreter's lock meanwhile: a busy web process lost a tenth of its throughput to it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, 10, 10)
