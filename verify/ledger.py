"""The ledger of a run: accepted pictures, their final states, and broken guarantees.

It does not depend on how digitq works. Times are Unix seconds.
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

#: Tolerance in seconds between our clock and Redis's: the latency of a response.
MARGIN_SECONDS = 0.25
#: Seconds for which a result can be read however full the memory is.
KEPT_SECONDS = URGENT_SECONDS


class End(NamedTuple):
    """The final state of a prediction. Equal ends are the same end."""

    state: str
    #: The digit, or the code of the error.
    found: int | str | None
    finished_at: float


class Finding(NamedTuple):
    """A broken guarantee."""

    #: `lost`, `doubled`, `changed`, `wrong`, `unexpected` or `leftover`.
    what: str
    subject: str
    detail: str


@dataclass
class Entry:
    """An id that was accepted with 202."""

    id: str
    key: str
    #: The digit in the picture, or the expected error code.
    expected: int | str
    tried_at: float
    accepted_at: float
    #: True if a client waits for the result.
    followed: bool = True
    #: When it was cancelled before its end was known, and deleted after.
    taken_back_at: float | None = None
    forgotten_at: float | None = None
    end: End | None = None
    #: When it first finished; after a loss of data it may finish again.
    ended_at: float | None = None
    #: The code of a 404 or 410 instead of an end.
    missing: str = ""
    changes: list[str] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        """True once the end is known, or known to be missing."""
        return self.end is not None or bool(self.missing)


class Ledger:
    """Entries by id, and the periods in which data may have been lost. Thread-safe."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.counts: Counter[str] = Counter()
        self.unexpected: list[Finding] = []
        self._windows: list[tuple[float, float]] = []
        self._full: list[tuple[float, float]] = []
        self._moves: list[tuple[float, float]] = []
        self._lock = threading.Lock()

    def accept(self, id: str, key: str, expected: int | str, tried_at: float, followed: bool) -> Entry:
        """Records an accepted upload; repeating an id changes nothing."""
        with self._lock:
            if id in self.entries:
                self.counts["repeated"] += 1
            return self.entries.setdefault(id, Entry(id, key, expected, tried_at, time.time(), followed))

    def count(self, what: str) -> None:
        """Counts an event: `refused`, `cancel_204`, …"""
        with self._lock:
            self.counts[what] += 1

    def surprise(self, subject: str, error: BaseException) -> None:
        """Records a response that no fault explains."""
        with self._lock:
            self.unexpected.append(Finding("unexpected", subject, f"{type(error).__name__}: {error}"))

    def saw(self, entry: Entry, prediction: Prediction) -> None:
        """Records a prediction that was read; its first end must not change."""
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
        """Records a 404 or 410. Cancelled and deleted predictions may be gone."""
        if entry.taken_back_at and not entry.end and code == "not_found":
            entry.end = End(State.CANCELLED.value, None, entry.taken_back_at)
            entry.forgotten_at = entry.taken_back_at
        elif not entry.forgotten_at:
            entry.missing = code

    def expose(self, start: float, end: float) -> None:
        """Records a period whose writes may be lost, because the server died before they were on disk."""
        self._windows.append((start, end))

    def move(self, start: float, end: float) -> None:
        """Records a failover: the new primary has every accepted picture, but possibly not every result."""
        self._moves.append((start, end))

    def evict(self, start: float, end: float) -> None:
        """Records a period of full memory, in which older results may have been deleted."""
        self._full.append((start, end))

    def evicted(self, entry: Entry) -> bool:
        """True if an entry may have been evicted. A client that waited for it must have received its result."""
        ended_at = entry.ended_at or (None if entry.followed else entry.accepted_at)
        latest = max((end for _, end in self._full), default=0.0)
        return (
            entry.missing == "expired" and ended_at is not None and ended_at + KEPT_SECONDS <= latest + MARGIN_SECONDS
        )

    def exposed(self, *instants: float | None) -> bool:
        """True if one of the times lies in a period of possible loss."""
        return _within(instants, self._windows)

    def _note_change(self, entry: Entry, text: str) -> None:
        if _within((entry.end and entry.end.finished_at, entry.forgotten_at), self._windows + self._moves):
            self.count("ran_again")
        else:
            entry.changes.append(text)

    def waiting(self, before: float) -> list[Entry]:
        """Returns followed entries that were submitted before `instant` and have not finished."""
        with self._lock:
            entries = list(self.entries.values())
        return [e for e in entries if e.followed and not e.settled and e.tried_at <= before]

    def served_after(self, instant: float) -> float | None:
        """Returns the seconds until the first picture submitted from then on had its result; None if none has."""
        with self._lock:
            entries = list(self.entries.values())
        good = [e for e in entries if e.tried_at >= instant and e.end and e.end.state == State.SUCCEEDED]
        return min((e.ended_at - instant for e in good if e.ended_at), default=None)

    def settled_after(self, instant: float) -> float:
        """Returns the seconds until the last picture submitted before had finished, as far as they have."""
        with self._lock:
            entries = list(self.entries.values())
        return max((e.ended_at - instant for e in entries if e.accepted_at <= instant and e.ended_at), default=0.0)

    # ------------------------------------------------------------------ judgement

    def tally(self) -> dict[str, int]:
        """Counts accepted, final states, evicted, lost, and excusably lost pictures."""
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
        """Counts failures by code."""
        failed = [e.end for e in self.entries.values() if e.end and e.end.state == State.FAILED and not e.missing]
        return dict(Counter(str(end.found) for end in failed))

    def findings(self) -> list[Finding]:
        """Returns all broken guarantees that the responses show."""
        found = list(self.unexpected)
        for entry in self.entries.values():
            found += [Finding("changed", entry.id, text) for text in entry.changes]
            if (not entry.end or entry.missing) and (loss := self._loss(entry)):
                found.append(Finding("lost", entry.id, loss))
            elif entry.end and not entry.missing and (error := _error(entry)):
                found.append(Finding("wrong", entry.id, error))
        return found + self._doubles(self.entries.values())

    def _loss(self, entry: Entry) -> str | None:
        """Returns why a missing end breaks a guarantee; None if it was evicted, or reported lost when data was lost."""
        if self._lost_with_data(entry, entry.end and entry.end.finished_at) or self.evicted(entry):
            return None
        return f"answered {entry.missing}" if entry.missing else "has not ended"

    def _lost_with_data(self, entry: Entry, finished_at: float | None = None) -> bool:
        """True if an entry is gone because the server lost its data, and was reported so.

        After a period of full memory it is reported `expired`: losses and evictions cannot be told apart.
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
    """Returns what is wrong with the end of an entry; `poison` is expected, since faults kill workers."""
    state, found = entry.end.state if entry.end else "", entry.end.found if entry.end else None
    if state == State.SUCCEEDED:
        return None if found == entry.expected else f"read as {found}, is {entry.expected}"
    if state == State.FAILED and found not in (entry.expected, "poison"):
        return f"failed with {found}"
    return None
