"""`digitq submit` for pictures: each is handed in, waited for if one likes, and noted in the journal."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from producer.cli.sources import Source
from producer.client.http import Client
from producer.client.journal import Entry, Journal
from shared.errors import DigitqError, Lost, Unauthorized
from shared.prediction import Prediction

#: Answers that would be the same the next time.
FINAL = (400, 413, 415, 422)

Result = Prediction | DigitqError | TimeoutError


@dataclass(frozen=True, slots=True)
class Sender:
    """Hands in one picture after another, from any number of threads."""

    client: Client
    journal: Journal
    priority: str
    #: Seconds to wait for each end; None: not at all.
    patience: float | None

    def send(self, source: Source) -> Result:
        """What became of it: its prediction as far as it was waited for, or why there is none. Raises Unauthorized."""
        try:
            data = source.read()
            entry = self.journal.begin(source.place, hashlib.sha256(data).hexdigest())
            if entry.outcome is not None:
                return recalled(entry.outcome)
            return self._followed(data, source.name, entry)
        except Unauthorized:
            raise  # all others would end alike
        except (DigitqError, TimeoutError) as error:
            return error

    def _followed(self, data: bytes, name: str, entry: Entry) -> Prediction:
        try:
            prediction = self.client.get(entry.id) if entry.id else self._accepted(data, name, entry)
        except Lost:
            self.journal.again(entry)
            prediction = self._accepted(data, name, entry)
        if self.patience is not None and not prediction.state.terminal:
            prediction = self.client.get(prediction.id, wait=self.patience)
        if prediction.state.terminal:
            self.journal.ended(entry, {"prediction": prediction.to_json()})
        return prediction

    def _accepted(self, data: bytes, name: str, entry: Entry) -> Prediction:
        key = entry.idempotency_key
        try:
            prediction = self.client.submit(data, name, priority=self.priority, idempotency_key=key)
        except DigitqError as error:
            if error.status in FINAL:
                refusal = {"code": error.code, "status": error.status, "message": str(error)}
                self.journal.ended(entry, {"refusal": refusal})
            raise
        self.journal.accepted(entry, prediction.id)
        return prediction


def recalled(outcome: dict[str, dict[str, object]]) -> Result:
    """What the journal tells of a picture that has ended."""
    if "prediction" in outcome:
        return Prediction.from_json(outcome["prediction"])
    refusal = outcome["refusal"]
    error = DigitqError(str(refusal["message"]))
    error.code, error.status = str(refusal["code"]), int(str(refusal["status"]))
    return error
