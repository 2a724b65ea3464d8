"""Records as their readers see them: states that are final, waits, durations, ids and their random bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared.batch import Batch, BatchState
from shared.errors import PredictionFailed
from shared.ids import issued_at, new_id, random_bytes
from shared.prediction import Prediction, State, rounded, verdict
from shared.record import rfc3339, said, seconds_of, theirs, timings_of

OPEN = {State.QUEUED, State.RUNNING}


class Source:
    """Answers every question with what it was given, and notes how long it was to wait."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.waits = answer, list[float]()

    def get(self, id: str, wait: float = 0) -> Any:
        self.waits.append(wait)
        return self.answer

    get_batch = get


def test_all_states_but_two_are_final() -> None:
    assert {one for one in State if not one.terminal} == OPEN
    assert {one for one in BatchState if not one.terminal} == {BatchState.QUEUED, BatchState.RUNNING}


def test_waiting_for_a_prediction_returns_it_or_says_why_not() -> None:
    done = Prediction("i", State.SUCCEEDED, digit=7)
    source: Any = Source(done)
    assert Prediction("i", State.RUNNING, source=source).wait(5) is done and source.waits == [5]
    assert done.wait() is done
    with pytest.raises(TimeoutError, match="still queued after 3 s"):
        Prediction("i", State.RUNNING, source=Source(Prediction("i", State.QUEUED))).wait(3)  # type: ignore[arg-type]
    with pytest.raises(PredictionFailed, match="poison: it died"):
        Prediction("i", State.FAILED, error={"code": "poison", "message": "it died"}).wait()
    with pytest.raises(PredictionFailed, match="cancelled: The prediction was cancelled"):
        Prediction("i", State.CANCELLED).wait()


def test_waiting_for_a_batch_returns_it_or_says_that_it_takes_longer() -> None:
    done = Batch("i", BatchState.CANCELLED, 3)
    source: Any = Source(done)
    waiting = Batch("i", BatchState.RUNNING, 3, source=source)
    assert waiting.wait(5) is done and source.waits == [5]
    source.answer = replace(waiting, source=None)
    with pytest.raises(TimeoutError, match="still running after 5 s"):
        waiting.wait(5)


def test_the_stages_of_a_prediction_add_up_and_are_known_once_all_have_run() -> None:
    assert timings_of((2.0, 3.0), 10.0, 10.5, 11.0) == {
        "queue": 500.0, "preprocess": 2.0, "inference": 3.0, "store": 495.0, "total": 1000.0
    }  # fmt: skip
    assert timings_of((2.0, 3.0), None, 1.0, 2.0) is timings_of((2.0, 3.0), 1.0, None, 2.0) is None
    assert timings_of((2.0, 3.0), 1.0, 2.0, None) is None


def test_times_are_written_to_the_millisecond_and_read_back() -> None:
    assert rfc3339(1767225600.1239) == "2026-01-01T00:00:00.123Z"
    assert rfc3339(None) is seconds_of("") is seconds_of(None) is None
    assert seconds_of("2026-01-01T00:00:00.123Z") == 1767225600.123


@pytest.mark.parametrize(("owner", "seen"), [(None, True), ("alice", True), ("bob", False), ("", False)])
def test_a_record_is_seen_by_its_owner_and_by_who_reads_redis(owner: str | None, seen: bool) -> None:
    assert theirs({"digitq_owner": "alice"}, owner) is seen
    assert theirs({}, owner) is (not owner)


@pytest.mark.parametrize("text", [None, "", "{", "[]", "7", "null"])
def test_what_is_no_json_object_says_nothing(text: str | None) -> None:
    assert said(text) == {}


def test_an_attempt_counts_once_a_picture_was_started() -> None:
    record = {"status": "started", "started_at": "2026-01-01T00:00:00.000000Z", "digitq_run": "3:x"}
    assert Prediction.from_record("i", record).attempt == 3
    assert Prediction.from_record("i", {**record, "started_at": ""}).attempt == 0
    assert Prediction.from_record("i", {**record, "digitq_run": "x"}).attempt == 0


def test_the_end_of_an_earlier_run_is_none_of_one_that_runs() -> None:
    record = {"status": "started", "ended_at": "2026-01-01T00:00:00.000000Z"}
    assert Prediction.from_record("i", record).finished_at is None
    assert Prediction.from_record("i", {**record, "status": "canceled"}).finished_at == 1767225600.0


def test_a_rejected_digit_is_a_question_mark() -> None:
    assert verdict(7, 0.9, "accept", None) == "7  (90.0%, accept)"
    assert verdict(7, 0.9, "reject", "not_a_digit") == "?  (7 at 90.0%, reject: not_a_digit)"
    assert verdict(None, None, "reject", "no_ink") == "-  (reject: no_ink)"
    assert (rounded(0.12345678), rounded(None)) == (0.123457, None)


def test_an_id_that_was_changed_anywhere_is_none() -> None:
    id = new_id(now=1_900_000_000.5)
    assert issued_at(id) == 1_900_000_000.5
    for at in range(24):
        other = "A" if id[at] != "A" else "B"
        assert issued_at(id[:at] + other + id[at + 1 :]) is None
    assert issued_at(id + "A") is issued_at(id[1:]) is issued_at(f"{id}\n") is None


def test_random_bytes_are_used_once() -> None:
    seen = {random_bytes() for _ in range(600)}
    assert len(seen) == 600 and {len(one) for one in seen} == {24}
