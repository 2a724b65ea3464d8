"""The users of `digitq verify`: whatever is accepted before the judgement is looked at, however late that was."""

from __future__ import annotations

import threading
import time
from typing import Any, cast

import pytest

from producer import Client
from shared.errors import NotFound, RedisUnavailable
from shared.ids import new_id
from shared.prediction import Prediction, State
from verify import run
from verify.report import Report
from verify.workload import Picture


class SlowClient:
    """Accepts an upload after some seconds; a prediction has ended as soon as it is accepted."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._accepted: dict[str, Prediction] = {}
        self._deleted: set[str] = set()

    def submit(self, data: bytes, *, idempotency_key: str, **_: Any) -> Prediction:
        time.sleep(self.seconds)
        error = None if data else {"code": "undecodable_image", "message": ""}
        state = State.SUCCEEDED if data else State.FAILED
        ended = Prediction(new_id(), state, digit=7 if data else None, error=error, finished_at=time.time())
        ended = self._accepted.setdefault(idempotency_key, ended)
        return Prediction(ended.id, State.QUEUED)

    def get(self, id: str, wait: float = 0) -> Prediction:
        found = [one for one in list(self._accepted.values()) if one.id == id]
        if not found or id in self._deleted:
            raise NotFound
        return found[0]

    def cancel(self, id: str) -> None:
        self._deleted.add(id)


class RefusingClient(SlowClient):
    """Refuses every upload."""

    def submit(self, data: bytes, *, idempotency_key: str, **_: Any) -> Prediction:
        raise RedisUnavailable


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "pictures", lambda: [Picture(b"seven", 7), Picture(b"", "undecodable_image")])


def verified(client: SlowClient, patience: float) -> Report:
    return run.verify(cast(Client, client), seconds=0.3, seed=1, rate=100, patience=patience)


def test_what_is_accepted_after_the_load_has_ended_is_looked_at() -> None:
    report = verified(SlowClient(0.3), patience=10)
    assert report.ledger.tally()["accepted"] > 0
    assert report.findings == []


def test_what_is_accepted_when_patience_is_over_is_looked_at() -> None:
    report = verified(SlowClient(0.5), patience=0.1)
    assert report.ledger.tally()["accepted"] > 0
    assert report.findings == []


def test_users_who_are_refused_to_the_end_give_up() -> None:
    report = verified(RefusingClient(0), patience=0.5)
    assert report.ledger.tally()["accepted"] == 0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("user")]
