"""Our own books: what was handed in, what was promised, how it ended, and whether the promise was kept.

It knows nothing of how digitq works; instants are Unix seconds.
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

#: By how much an instant of ours and one of Redis's may differ: an answer's way back.
MARGIN_SECONDS = 0.25
#: How long an end can be read whatever happens to the memory.
KEPT_SECONDS = URGENT_SECONDS


class End(NamedTuple):
    """How a prediction ended; two ends that are equal are the same end."""

    state: str
    #: The digit, or the error's code.
    found: int | str | None
    finished_at: float


class Finding(NamedTuple):
    """Something that must not be."""

    #: `lost`, `doubled`, `changed`, `wrong`, `unexpected` or `leftover`.
    what: str
    subject: str
    detail: str


@dataclass
class Entry:
    """One id that was answered with 202."""

    id: str
    key: str
    #: The digit in the picture, or the code of the error that it deserves.
    expected: int | str
    tried_at: float
    accepted_at: float
    #: Somebody waits for its end.
    followed: bool = True
    #: When we asked to take it back before we knew its end, and to forget it after.
    taken_back_at: float | None = None
    forgotten_at: float | None = None
    end: End | None = None
    #: When it first ended; a server that lost its data may have it end again.
    ended_at: float | None = None
    #: The code of a 404 or 410, instead of an end.
    missing: str = ""
    changes: list[str] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        """An end is known, or that there will be none."""
        return self.end is not None or bool(self.missing)


class Ledger:
    """The entries by id, and when the server's data may have been lost. Safe for any number of threads."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.counts: Counter[str] = Counter()
        self.unexpected: list[Finding] = []
        self._windows: list[tuple[float, float]] = []
        self._full: list[tuple[float, float]] = []
        self._moves: list[tuple[float, float]] = []
        self._lock = threading.Lock()

    def accept(self, id: str, key: str, expected: int | str, tried_at: float, followed: bool) -> Entry:
        """An upload was answered with 202; again under the same id is no second promise."""
        with self._lock:
            if id in self.entries:
                self.counts["repeated"] += 1
            return self.entries.setdefault(id, Entry(id, key, expected, tried_at, time.time(), followed))

    def count(self, what: str) -> None:
        """Something worth a number: `refused`, `cancel_204`, …"""
        with self._lock:
            self.counts[what] += 1

    def surprise(self, subject: str, error: BaseException) -> None:
        """An answer that no fault excuses."""
        with self._lock:
            self.unexpected.append(Finding("unexpected", subject, f"{type(error).__name__}: {error}"))

    def saw(self, entry: Entry, prediction: Prediction) -> None:
        """The prediction was read; its first end is the one that has to stay."""
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
        """The prediction was answered with 404 or 410. What we took back or forgot may be gone."""
        if entry.taken_back_at and not entry.end and code == "not_found":
            entry.end = End(State.CANCELLED.value, None, entry.taken_back_at)
            entry.forgotten_at = entry.taken_back_at
        elif not entry.forgotten_at:
            entry.missing = code

    def expose(self, start: float, end: float) -> None:
        """What was written between these instants may be gone: the server died before it was on the disk."""
        self._windows.append((start, end))

    def move(self, start: float, end: float) -> None:
        """Between these instants another server took over: it has all that was accepted, but maybe not every end."""
        self._moves.append((start, end))

    def evict(self, start: float, end: float) -> None:
        """Between these instants memory was full: what had ended long enough before may have been deleted."""
        self._full.append((start, end))

    def evicted(self, entry: Entry) -> bool:
        """True if an entry is gone because it had to make room. Who waited for its end must have been told it."""
        ended_at = entry.ended_at or (None if entry.followed else entry.accepted_at)
        latest = max((end for _, end in self._full), default=0.0)
        return (
            entry.missing == "expired" and ended_at is not None and ended_at + KEPT_SECONDS <= latest + MARGIN_SECONDS
        )

    def exposed(self, *instants: float | None) -> bool:
        """True if one of the instants lies where data may have been lost."""
        return _within(instants, self._windows)

    def _note_change(self, entry: Entry, text: str) -> None:
        if _within((entry.end and entry.end.finished_at, entry.forgotten_at), self._windows + self._moves):
            self.count("ran_again")
        else:
            entry.changes.append(text)

    def waiting(self, before: float) -> list[Entry]:
        """Followed entries that were handed in before and have not ended yet."""
        with self._lock:
            entries = list(self.entries.values())
        return [e for e in entries if e.followed and not e.settled and e.tried_at <= before]

    def served_after(self, instant: float) -> float | None:
        """Seconds until the first picture that was handed in from then on had its digit; None if none has."""
        with self._lock:
            entries = list(self.entries.values())
        good = [e for e in entries if e.tried_at >= instant and e.end and e.end.state == State.SUCCEEDED]
        return min((e.ended_at - instant for e in good if e.ended_at), default=None)

    def settled_after(self, instant: float) -> float:
        """Seconds until the last of those that were handed in before had ended, as far as they have."""
        with self._lock:
            entries = list(self.entries.values())
        return max((e.ended_at - instant for e in entries if e.accepted_at <= instant and e.ended_at), default=0.0)

    # ------------------------------------------------------------------ the judgement

    def tally(self) -> dict[str, int]:
        """Accepted, how they ended, deleted to make room, lost, and lost where the server could not know better."""
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
        """How many failed, by code."""
        failed = [e.end for e in self.entries.values() if e.end and e.end.state == State.FAILED and not e.missing]
        return dict(Counter(str(end.found) for end in failed))

    def findings(self) -> list[Finding]:
        """Everything that must not be, as far as answers can tell."""
        found = list(self.unexpected)
        for entry in self.entries.values():
            found += [Finding("changed", entry.id, text) for text in entry.changes]
            if (not entry.end or entry.missing) and (loss := self._loss(entry)):
                found.append(Finding("lost", entry.id, loss))
            elif entry.end and not entry.missing and (error := _error(entry)):
                found.append(Finding("wrong", entry.id, error))
        return found + self._doubles(self.entries.values())

    def _loss(self, entry: Entry) -> str | None:
        """Why an id without an end is a broken promise; None where it made room, or was declared lost and data was."""
        if self._lost_with_data(entry, entry.end and entry.end.finished_at) or self.evicted(entry):
            return None
        return f"answered {entry.missing}" if entry.missing else "has not ended"

    def _lost_with_data(self, entry: Entry, finished_at: float | None = None) -> bool:
        """True if an entry is gone where the server lost its data, and was answered so.

        Once memory was full that is `expired`: nobody can tell any more what was lost and what had to make room.
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
    """What is wrong with how an entry ended; poison is a named failure, and our own doing."""
    state, found = entry.end.state if entry.end else "", entry.end.found if entry.end else None
    if state == State.SUCCEEDED:
        return None if found == entry.expected else f"read as {found}, is {entry.expected}"
    if state == State.FAILED and found not in (entry.expected, "poison"):
        return f"failed with {found}"
    return None
