"""Runs a module, such as `digitq worker`, with a clock that jumps by an hour at every SIGUSR1.

    python -m verify.crooked_clock digitq worker

`time.time` and `datetime.now` jump. The monotonic clock does not, as on a machine whose clock is set, nor does the
clock of the Redis server, which is another machine's.
"""

from __future__ import annotations

import datetime
import itertools
import runpy
import signal
import sys
import time
from datetime import datetime as TrueDatetime  # noqa: N812  # the class that is replaced
from typing import Any

#: Seconds by which the clock is wrong after each jump.
JUMPS = (3600.0, -3600.0, 0.0)

_true_time = time.time
_offset = 0.0
_jumps = itertools.cycle(JUMPS)


class _Kind(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, TrueDatetime)


class CrookedDatetime(TrueDatetime, metaclass=_Kind):
    """A datetime whose `now` is wrong."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        """Return the wrong time."""
        return TrueDatetime.fromtimestamp(crooked_time(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        """Return the wrong time without a time zone."""
        return TrueDatetime.fromtimestamp(crooked_time(), datetime.UTC).replace(tzinfo=None)


def crooked_time() -> float:
    """Return Unix seconds, wrong by the last jump."""
    return _true_time() + _offset


def _jump(*_: Any) -> None:
    global _offset
    _offset = next(_jumps)


def main(module: str, *arguments: str) -> None:
    """Patch the clock before the module and its imports are loaded."""
    signal.signal(signal.SIGUSR1, _jump)
    time.time = crooked_time
    datetime.datetime = CrookedDatetime  # type: ignore[misc]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
