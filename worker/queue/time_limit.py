"""How long a batch or a job may take."""

from __future__ import annotations

import signal
from types import FrameType

from rq.timeouts import UnixSignalDeathPenalty

#: Seconds between two alarms, until one has been heard.
AGAIN_SECONDS = 0.25


class TimeLimit(UnixSignalDeathPenalty):
    """RQ's time limit, but the alarm comes again until it is heard.

    An alarm is the whole process's, and Linux lets any thread take it that is busy with the kernel at that moment: a
    heartbeat, say. Then the main thread, which it is meant for, is not woken from what it waits for.
    """

    def setup_death_penalty(self) -> None:
        """Sets the alarm; a limit of RQ's that is none is left to RQ."""
        super().setup_death_penalty()  # type: ignore[no-untyped-call]  # RQ has no types here
        if self._timeout > 0:
            signal.setitimer(signal.ITIMER_REAL, self._timeout, AGAIN_SECONDS)

    def handle_death_penalty(self, signum: int, frame: FrameType | None) -> None:
        """It was heard: no other may interrupt what cleans up."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        super().handle_death_penalty(signum, frame)  # type: ignore[no-untyped-call]  # RQ has no types here
