"""Searches an owner's history: counts the predictions, and finds those with a digit, a decision or a state."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

from shared import keys
from shared.connections.connection import redis_errors
from shared.errors import NotFound
from shared.prediction import Prediction, State
from shared.record import RECORD, state_of
from shared.store import Store

#: Most entries of a history that are looked at.
LONGEST = 10_000
#: Entries whose status is read in one call, and whole records: each call takes 2 ms of Redis's time.
MARKS_AT_ONCE, RECORDS_AT_ONCE = 500, 100
#: Ended predictions whose traits are kept, so that each is parsed once.
REMEMBERED = 2 * LONGEST


@dataclass(frozen=True, slots=True)
class Traits:
    """The properties that a filter compares. `digits` has the digit, or those of the numbers that are not rejected."""

    state: State
    decision: str | None = None
    digits: frozenset[int | None] = frozenset()


@dataclass(frozen=True, slots=True)
class Filter:
    """The digit, decision and states that a prediction must have; an empty filter wants everything."""

    digit: int | None = None
    decision: str | None = None
    states: frozenset[State] = frozenset()

    def wants(self, traits: Traits | None) -> bool:
        """Return True for traits that are all that is wanted; False for those of a deleted prediction, None."""
        return (
            traits is not None
            and (self.digit is None or self.digit in traits.digits)
            and self.decision in (None, traits.decision)
            and (not self.states or traits.state in self.states)
        )


EVERYTHING = Filter()


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a history, the cursor of the next one, and the numbers of all predictions and of those wanted."""

    predictions: list[Prediction]
    next_cursor: str | None
    total: int
    matching: int


class Entry(NamedTuple):
    """A prediction in a history: when it came (Unix us), and its place among those of that time, from 1."""

    id: str
    came: int
    place: int
    #: RQ's status and the time of the end: while they stay, so do the traits.
    mark: tuple[str, str]


class History:
    """Searches histories. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, Lock()
        self._remembered: OrderedDict[tuple[str, tuple[str, str]], Traits] = OrderedDict()

    def page(self, limit: int, cursor: str | None, owner: str, wanted: Filter = EVERYTHING) -> Page:
        """Return a page of what is wanted, newest first. Its cursors are those of `Store.recent`.

        A filter reads the status of each entry, and the records of those whose traits are not known. Raises
        RedisUnavailable.
        """
        if wanted == EVERYTHING:
            predictions, following = self._store.recent(limit, cursor, owner)
            total = self._count(keys.recent(owner))
            return Page(predictions, following, total, total)
        kept = self._kept(keys.recent(owner))
        matching = self._matching(kept, wanted)
        came, _, seen = (cursor or "").partition("-")
        rest = [one for one in matching if not cursor or (-one.came, one.place) > (-int(came), int(seen))]
        shown, predictions = rest[:limit], []
        for id, record in self._records([one.id for one in shown], RECORD, RECORDS_AT_ONCE):
            with suppress(NotFound):  # deleted since
                predictions.append(self._store.found(id, record))
        following = f"{shown[-1].came}-{shown[-1].place}" if len(rest) > limit else None
        return Page(predictions, following, len(kept), len(matching))

    def _entries(self, history: str) -> list[tuple[str, int]]:
        with redis_errors():
            entries: Any = self._store.client.zrevrangebyscore(history, "+inf", "-inf", 0, LONGEST, True)
        return [(id.decode(), int(came)) for id, came in entries]

    def _count(self, history: str) -> int:
        """Return the number of predictions that are still there; quickly where all of some are."""
        ids, count = [id for id, _ in self._entries(history)], 0
        for start in range(0, len(ids), MARKS_AT_ONCE):
            some = ids[start : start + MARKS_AT_ONCE]
            with redis_errors():
                there = int(self._store.client.exists(*map(keys.job, some)))
            count += there if there == len(some) else len(self._marks(some))
        return count

    def _kept(self, history: str) -> list[Entry]:
        """Return the entries of predictions that are still there."""
        entries = self._entries(history)
        marks = self._marks([id for id, _ in entries])
        kept, before, place = [], 0, 0
        for id, came in entries:
            before, place = came, place + 1 if came == before else 1
            if id in marks:
                kept.append(Entry(id, came, place, marks[id]))
        return kept

    def _marks(self, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Return RQ's status and the time of the end of those predictions that are still there."""
        found = {id: _text(values) for id, values in self._records(ids, ("status", "ended_at"), MARKS_AT_ONCE)}
        return {id: mark for id, mark in found.items() if mark[0] != "forgotten"}

    def _matching(self, kept: Sequence[Entry], wanted: Filter) -> list[Entry]:
        traits = {one.id: self._known(one) for one in kept}
        unknown = {one.id: one for one in kept if traits[one.id] is None}
        for id, record in self._records(list(unknown), RECORD, RECORDS_AT_ONCE):
            with suppress(NotFound):  # deleted since
                traits[id] = traits_of(self._store.found(id, record))
                self._remember(unknown[id], traits[id])
        return [one for one in kept if wanted.wants(traits[one.id])]

    def _known(self, one: Entry) -> Traits | None:
        """Return the traits of a prediction that has not ended, or is remembered."""
        with self._lock:
            found = self._remembered.get((one.id, one.mark))
        if found is None and (state := state_of({"status": one.mark[0]})[0]) in (State.QUEUED, State.RUNNING):
            return Traits(state)
        return found

    def _remember(self, one: Entry, traits: Traits | None) -> None:
        if traits is None or not traits.state.terminal:
            return
        with self._lock:
            self._remembered[one.id, one.mark] = traits
            if len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)

    def _records(self, ids: Sequence[str], fields: Sequence[str], at_once: int) -> Iterable[tuple[str, Any]]:
        """Yield the ids of predictions that are there, with the values of these fields."""
        for start in range(0, len(ids), at_once):
            some = ids[start : start + at_once]
            found = self._store.fetch_all(some, fields)
            yield from ((id, record) for id, record in zip(some, found, strict=True) if record)


def traits_of(prediction: Prediction) -> Traits:
    """Return the properties that a filter compares."""
    digits = {one.digit for number in prediction.numbers or () for one in number.digits if one.decision != "reject"}
    return Traits(prediction.state, prediction.decision, frozenset(digits | {prediction.digit}))


def _text(values: Sequence[bytes | None]) -> tuple[str, str]:
    status, ended_at = ((value or b"").decode("utf-8", "replace") for value in values[:2])
    return status, ended_at
