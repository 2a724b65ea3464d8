"""Records submitted and accepted pictures and their ends, and judges whether every promise was kept.

It knows nothing of how digitq works. Times are Unix seconds.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.prediction import Prediction, State
from shared.redis_server.room import URGENT_SECONDS

#: By how much our times and Redis's may differ: the time an answer takes.
MARGIN_SECONDS = 0.25
#: How long an end can be read, even if memory is full.
KEPT_SECONDS = URGENT_SECONDS


class End(NamedTuple):
    """The end of a prediction; equal values are the same end."""

    state: str
    #: The digit, or the code of the error.
    found: int | str | None
    finished_at: float


class Finding(NamedTuple):
    """A broken promise."""

    #: `lost`, `doubled`, `changed`, `wrong`, `unexpected` or `leftover`.
    what: str
    subject: str
    detail: str


@dataclass
class Entry:
    """An accepted upload."""

    id: str
    key: str
    #: The digit in the picture, or the code of the expected error.
    expected: int | str
    tried_at: float
    accepted_at: float
    #: Whether a client waits for its end.
    followed: bool = True
    #: When we asked to cancel it before we knew its end, and to delete it after.
    taken_back_at: float | None = None
    forgotten_at: float | None = None
    end: End | None = None
    #: When it first ended; after a loss of data it may end again.
    ended_at: float | None = None
    #: The code of a 404 or 410 instead of an end.
    missing: str = ""
    changes: list[str] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        """True if the end is known, or that there will be none."""
        return self.end is not None or bool(self.missing)


class Ledger:
    """The entries by id, and the times in which Redis may have lost data. Thread-safe."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.counts: Counter[str] = Counter()
        self.unexpected: list[Finding] = []
        self._windows: list[tuple[float, float]] = []
        self._full: list[tuple[float, float]] = []
        self._moves: list[tuple[float, float]] = []
        self._lock = threading.Lock()

    def accept(self, id: str, key: str, expected: int | str, tried_at: float, followed: bool) -> Entry:
        """Record an upload answered with 202; the same id again is not a second promise."""
        with self._lock:
            if id in self.entries:
                self.counts["repeated"] += 1
            return self.entries.setdefault(id, Entry(id, key, expected, tried_at, time.time(), followed))

    def count(self, what: str) -> None:
        """Count an event such as `refused` or `cancel_204`."""
        with self._lock:
            self.counts[what] += 1

    def surprise(self, subject: str, error: BaseException) -> None:
        """Record an answer that no fault excuses."""
        with self._lock:
            self.unexpected.append(Finding("unexpected", subject, f"{type(error).__name__}: {error}"))

    def saw(self, entry: Entry, prediction: Prediction) -> None:
        """Record a prediction that was read; its first end must not change."""
        if not prediction.state.terminal:
            if entry.end:
                self._note_change(entry, f"{entry.end.state}, then {prediction.state.value}")
            return
        found = prediction.digit if prediction.digit is not None else (prediction.error or {}).get("code")
        end = End(prediction.state.value, found, prediction.finished_at or 0.0)
        if entry.forgotten_at:
            self._note_change(entry, f"forgotten, then {end.state}")
        elif entry.end and entry.end != end:
            self._note_change(entry, f"{entry.end}, then {end}")
        entry.end, entry.missing = end, ""
        entry.ended_at = entry.ended_at or end.finished_at

    def missed(self, entry: Entry, code: str) -> None:
        """Record a 404 or 410, which is expected after we cancelled or deleted the prediction."""
        if entry.taken_back_at and not entry.end and code == "not_found":
            entry.end = End(State.CANCELLED.value, None, entry.taken_back_at)
            entry.forgotten_at = entry.taken_back_at
        elif not entry.forgotten_at:
            entry.missing = code

    def expose(self, start: float, end: float) -> None:
        """Record that writes between these times may be lost: the server died before they were on disk."""
        self._windows.append((start, end))

    def move(self, start: float, end: float) -> None:
        """Record a change of the primary between these times: the new one has all pictures, but maybe not all ends."""
        self._moves.append((start, end))

    def evict(self, start: float, end: float) -> None:
        """Record that memory was full between these times: predictions that ended long before may have been evicted."""
        self._full.append((start, end))

    def evicted(self, entry: Entry) -> bool:
        """True if an entry was evicted because memory was full. A client that waited must have been told its end."""
        ended_at = entry.ended_at or (None if entry.followed else entry.accepted_at)
        latest = max((end for _, end in self._full), default=0.0)
        return (
            entry.missing == "expired" and ended_at is not None and ended_at + KEPT_SECONDS <= latest + MARGIN_SECONDS
        )

    def exposed(self, *instants: float | None) -> bool:
        """True if data may have been lost at one of these times."""
        return _within(instants, self._windows)

    def _note_change(self, entry: Entry, text: str) -> None:
        if _within((entry.end and entry.end.finished_at, entry.forgotten_at), self._windows + self._moves):
            self.count("ran_again")
        else:
            entry.changes.append(text)

    def waiting(self, before: float) -> list[Entry]:
        """Return the followed entries submitted before this time that have not ended."""
        with self._lock:
            entries = list(self.entries.values())
        return [e for e in entries if e.followed and not e.settled and e.tried_at <= before]

    def served_after(self, instant: float) -> float | None:
        """Return the seconds until the first picture submitted after this time had its digit; None if none has."""
        with self._lock:
            entries = list(self.entries.values())
        good = [e for e in entries if e.tried_at >= instant and e.end and e.end.state == State.SUCCEEDED]
        return min((e.ended_at - instant for e in good if e.ended_at), default=None)

    def settled_after(self, instant: float) -> float:
        """Return the seconds until the last entry accepted before this time ended, of those that have."""
        with self._lock:
            entries = list(self.entries.values())
        return max((e.ended_at - instant for e in entries if e.accepted_at <= instant and e.ended_at), default=0.0)

    # ------------------------------------------------------------------ judgement

    def tally(self) -> dict[str, int]:
        """Count accepted, final states, evicted, lost, and excusably lost pictures."""
        evicted = [e for e in self.entries.values() if self.evicted(e)]
        numbers = Counter(e.end.state for e in self.entries.values() if e.end and not e.missing)
        lost = [self._loss(e) for e in self.entries.values() if (not e.end or e.missing) and not self.evicted(e)]
        states = {state.value: numbers[state.value] for state in State if state.terminal}
        declared = sum(loss is None for loss in lost)
        return {
            "accepted": len(self.entries),
            **states,
            "evicted": len(evicted),
            "lost": len(lost) - declared,
            "lost_declared": declared,
        }

    def failures(self) -> dict[str, int]:
        """Count the failed predictions by code."""
        failed = [e.end for e in self.entries.values() if e.end and e.end.state == State.FAILED and not e.missing]
        return dict(Counter(str(end.found) for end in failed))

    def findings(self) -> list[Finding]:
        """Return all broken promises that answers show."""
        found = list(self.unexpected)
        for entry in self.entries.values():
            found += [Finding("changed", entry.id, text) for text in entry.changes]
            if (not entry.end or entry.missing) and (loss := self._loss(entry)):
                found.append(Finding("lost", entry.id, loss))
            elif entry.end and not entry.missing and (error := _error(entry)):
                found.append(Finding("wrong", entry.id, error))
        return found + self._doubles(self.entries.values())

    def _loss(self, entry: Entry) -> str | None:
        """Say why an id without an end is a broken promise; None if it was evicted, or lost with Redis's data."""
        if self._lost_with_data(entry, entry.end and entry.end.finished_at) or self.evicted(entry):
            return None
        return f"answered {entry.missing}" if entry.missing else "has not ended"

    def _lost_with_data(self, entry: Entry, finished_at: float | None = None) -> bool:
        """True if an entry was lost with Redis's data, and the answer said so.

        If memory was full too, the answer is `expired`: lost and evicted entries cannot be told apart.
        """
        later = any(end >= entry.accepted_at + KEPT_SECONDS for _, end in self._full)
        said = entry.missing == "lost" or (entry.missing == "expired" and later)
        return said and self.exposed(entry.accepted_at, finished_at)

    def _doubles(self, entries: Iterable[Entry]) -> list[Finding]:
        by_key = defaultdict(list)
        for entry in entries:
            if not self._lost_with_data(entry) and not self.evicted(entry):
                by_key[entry.key].append(entry.id)
        return [Finding("doubled", key, f"is {' and '.join(ids)}") for key, ids in by_key.items() if len(ids) > 1]


def _within(instants: Iterable[float | None], windows: Iterable[tuple[float, float]]) -> bool:
    known = [at for at in instants if at]
    return any(s - MARGIN_SECONDS <= at <= e + MARGIN_SECONDS for at in known for s, e in windows)


def _error(entry: Entry) -> str | None:
    """Say what is wrong with the end of an entry; `poison` is a correct failure, caused by our faults."""
    state, found = entry.end.state if entry.end else "", entry.end.found if entry.end else None
    if state == State.SUCCEEDED:
        return None if found == entry.expected else f"read as {found}, is {entry.expected}"
    if state == State.FAILED and found not in (entry.expected, "poison"):
        return f"failed with {found}"
    return None
