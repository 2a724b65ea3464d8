"""Ended predictions as server-sent events, and the ids by which a client says which it saw last."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

from shared.prediction import Prediction

#: An event's id: when, and which.
TOKEN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z/[\w-]+")
#: Something was missed: look for yourself.
RESET = "event: reset\ndata: {}\n\n"


class Ended:
    """One ended record in the ring; its event is written when the first listener reads it."""

    __slots__ = ("_event", "_owner", "_record", "_root")

    def __init__(self, record: list[str], root: str) -> None:
        self._record, self._event, self._root = record, "", root
        self._owner: str | None = None

    def _field(self, name: str) -> str:
        flat = self._record
        return dict(zip(flat[1::2], flat[2::2], strict=True)).get(name, "")

    @property
    def token(self) -> str:
        """The event's id: when it ended by Redis's clock, and which; the same from every process."""
        return f"{self._field('finished_at')}/{self._record[0]}"

    @property
    def owner(self) -> str:
        """Whose it is: nobody else may hear of it."""
        if self._owner is None:  # asked by each listener
            self._owner = self._field("owner")
        return self._owner

    def event(self) -> str:
        """The event as it is sent."""
        if not self._event:
            id, *flat = self._record
            record = dict(zip(flat[::2], flat[1::2], strict=True))
            self._event = as_event(Prediction.from_hash(id, record), self.token, self._root)
        return self._event


def token_of(prediction: Prediction) -> str:
    """The id of its event, for one that was read from its record."""
    finished = datetime.fromtimestamp(prediction.finished_at or 0, UTC)
    return f"{finished.strftime('%Y-%m-%dT%H:%M:%S.%fZ')}/{prediction.id}"


def as_event(prediction: Prediction, token: str, root: str) -> str:
    """A finished prediction as one event; its links start with `root`."""
    return f"id: {token}\nevent: prediction\ndata: {json.dumps(prediction.to_json(root))}\n\n"
