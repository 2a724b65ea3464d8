"""Limits the time that a job may take, and the memory of a worker process."""

from __future__ import annotations

import logging
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Any

from shared.memory import memory_bytes

log = logging.getLogger("digitq.worker")

#: Seconds between two alarms of a time limit, until the main thread has received one.
ALARM_INTERVAL_SECONDS = 0.25
#: The largest use is that of a WebP with transparency: 20 bytes a pixel, measured over every format and mode.
BYTES_PER_PIXEL = 24
#: Memory beyond that for the 64 uploads of a batch, for TensorFlow and as a reserve.
SPARE_BYTES = 1024**3


class OutOfTime(BaseException):
    """A time limit has expired. No Exception, for decoders take any Exception for a sign of a damaged picture."""


class TimeLimit:
    """Raises `exception` in the main thread when a block takes longer than `seconds`; 0 or less is no limit.

    The alarm repeats: Linux may deliver SIGALRM to any thread that is in a system call, such as the heartbeat, and the
    main thread then stays blocked. RQ creates the object too, with keywords that do not matter here.
    """

    def __init__(self, seconds: float, exception: type[BaseException], **_: Any) -> None:
        self._seconds, self._exception = seconds, exception

    def __enter__(self) -> None:
        if self._seconds > 0:
            signal.signal(signal.SIGALRM, self._expire)
            signal.setitimer(signal.ITIMER_REAL, self._seconds, ALARM_INTERVAL_SECONDS)

    def __exit__(self, *_: object) -> None:
        with suppress(self._exception):  # it may expire while it is switched off: the block is done
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def _expire(self, signum: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)  # another alarm would interrupt the clean-up
        raise self._exception(f"Task exceeded maximum timeout value ({self._seconds} seconds)")


def limit_memory(max_pixels: int, spare: int = SPARE_BYTES) -> None:
    """Limits this process to the memory that the largest picture takes; beyond it, allocations raise MemoryError.

    Sets RLIMIT_DATA, which counts private writable memory, and on Linux only.
    """
    if sys.platform != "linux":
        return
    import resource

    with open("/proc/self/statm") as statm:  # noqa: PTH123  # pages: all, resident, shared, code, 0, data and stack
        pages = [int(number) for number in statm.read().split()]
    resident, used = pages[1] * resource.getpagesize(), pages[5] * resource.getpagesize()
    warn_of_little_memory(resident + BYTES_PER_PIXEL * max_pixels, max_pixels, memory_bytes())
    wanted = used + spare + BYTES_PER_PIXEL * max_pixels
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    log.debug("memory is limited to %d MB, %d MB are used", soft // 1024**2, used // 1024**2)


def warn_of_little_memory(needed: int, max_pixels: int, available: int) -> None:
    """Log a warning if the largest picture needs more bytes than the machine or container has (0: unknown).

    The kernel then kills the worker before the limit is reached, and its jobs run again.
    """
    if 0 < available < needed:
        log.warning(
            "%d MB of memory are available here, and a picture of %d megapixels can take a worker up to %d MB: "
            "the kernel may kill it. Give it more memory, or lower DIGITQ_MAX_PIXELS",
            available // 1024**2, max_pixels // 1_000_000, needed // 1024**2,
        )  # fmt: skip
