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

    __slots__ = ("_event", "_record", "_root", "owner")

    def __init__(self, record: dict[str, str], root: str) -> None:
        self._record, self._event, self._root = record, "", root
        #: Whose it is: nobody else may hear of it.
        self.owner = record.get("digitq_owner") or ""

    @property
    def token(self) -> str:
        """The event's id: when it ended by Redis's clock, and which; the same from every process."""
        return f"{self._record['ended_at']}/{self._record['id']}"

    def event(self) -> str:
        """The event as it is sent."""
        if not self._event:
            prediction = Prediction.from_record(self._record["id"], self._record)
            self._event = as_event(prediction, self.token, self._root)
        return self._event


def token_of(prediction: Prediction) -> str:
    """The id of its event, for one that was read from its record."""
    finished = datetime.fromtimestamp(prediction.finished_at or 0, UTC)
    return f"{finished.strftime('%Y-%m-%dT%H:%M:%S.%fZ')}/{prediction.id}"


def as_event(prediction: Prediction, token: str, root: str) -> str:
    """A finished prediction as one event; its links start with `root`."""
    return f"id: {token}\nevent: prediction\ndata: {json.dumps(prediction.to_json(root))}\n\n"
