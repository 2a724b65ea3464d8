"""Bounds the memory of the worker process, so that one picture cannot take all of the machine's."""

from __future__ import annotations

import logging
import sys

from shared.runtime.memory import memory_bytes

log = logging.getLogger("digitq.worker")

#: The dearest picture is a WebP with transparency: 20 bytes a pixel, measured over every format and mode.
BYTES_PER_PIXEL = 24
#: What 64 pictures in hand, TensorFlow and chance may take beyond that.
SPARE_BYTES = 1024**3


def bound_memory(max_pixels: int, spare: int = SPARE_BYTES) -> None:
    """From now on this process gets no more than the largest picture takes: whoever asks for it meets a MemoryError.

    The limit is one of what is private and writable (RLIMIT_DATA), which Linux alone counts.
    """
    if sys.platform != "linux":
        return
    import resource

    with open("/proc/self/statm") as statm:  # noqa: PTH123  # pages: all, resident, shared, code, 0, data and stack
        pages = [int(number) for number in statm.read().split()]
    resident, held = pages[1] * resource.getpagesize(), pages[5] * resource.getpagesize()
    warn_of_little_memory(resident + BYTES_PER_PIXEL * max_pixels, max_pixels, memory_bytes())
    most = held + spare + BYTES_PER_PIXEL * max_pixels
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    log.debug("memory is bounded at %d MB, %d MB are held", soft // 1024**2, held // 1024**2)


def warn_of_little_memory(needed: int, max_pixels: int, available: int) -> None:
    """Logs a warning where the largest picture takes more memory than this machine or container has.

    Then the kernel kills the worker before the bound does, and what it held runs again. All sizes are in bytes; 0
    available: unknown.
    """
    if 0 < available < needed:
        log.warning(
            "%d MB of memory are available here, and a picture of %d megapixels can take a worker up to %d MB: "
            "the kernel may kill it. Give it more memory, or lower DIGITQ_MAX_PIXELS",
            available // 1024**2, max_pixels // 1_000_000, needed // 1024**2,
        )  # fmt: skip
