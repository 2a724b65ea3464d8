"""A chunk of a batch, slice by slice: what is saved when, and who is suspected."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any
from unittest.mock import Mock, create_autospec

import pytest

from shared.chunk_record import Rows
from shared.chunk_runs import DEPENDENTS, ChunkRuns, Progress
from shared.chunks import Item, packed
from shared.claims import Claim
from shared.errors import UndecodableImage
from shared.settings import Settings
from shared.store import Store
from tests import fakes
from worker.inference.classify import Classified, Pictures
from worker.queue import chunk_runner
from worker.queue.chunk_runner import POISON, ChunkRunner, LeaseLost, classify_chunk
from worker.queue.foreign_jobs import ForeignJobs
from worker.queue.picture_runner import BatchClassifier
from worker.telemetry import metrics
from worker.telemetry.speed import Speed


def pack(*images: bytes) -> bytes:
    [chunk] = packed(Item("a.png", image, None if image else UndecodableImage("refused")) for image in images)
    return chunk.data


class Chunk:
    """A chunk with a progress, run with a stand-in for Redis and the model."""

    def __init__(self, *images: bytes, attempt: str = "2", **progress: Any) -> None:
        self.attempt, self.images = attempt, images
        self.runs: Mock = create_autospec(ChunkRuns, instance=True)
        fields = {"done": set(), "deaths": {}, "stalls": 0} | progress
        self.runs.progress.return_value = Progress(attempt, len(images), **fields)
        #: Rows and suspect of each save, in order.
        self.saved: list[tuple[list[int], str]] = []
        self.noted: Rows = {}
        self.runs.note.side_effect = self._note
        self.tried: list[Sequence[Any]] = []

    def _note(self, id: str, attempt: str, rows: Rows, suspect: str, held: object, model: str) -> bool:
        self.saved.append((sorted(rows), suspect))
        self.noted |= rows
        return True

    def classify(self, pictures: Pictures) -> Classified:
        self.tried.append(list(pictures))
        return fakes.classify(list(pictures))

    def run(self, max_attempts: int = 3, **options: Any) -> Any:
        options = {"classify": self.classify, "max_attempts": max_attempts} | options
        return classify_chunk(self.runs, "b-0", self.attempt, pack(*self.images), **options)


def test_a_chunk_that_has_ended_is_not_run() -> None:
    chunk = Chunk(b"1", attempt="0")
    assert chunk.run() == {} and chunk.tried == []


def test_whoever_was_running_when_a_worker_died_is_tried_last() -> None:
    chunk = Chunk(b"1", b"2", b"3", b"4", attempt="3", deaths={0: 1, 2: 1})
    assert sorted(chunk.run()) == []  # all are saved
    assert chunk.tried == [[b"2"], [b"4"], [b"1"], [b"3"]]
    assert chunk.saved == [([], "1"), ([1], ""), ([], "3"), ([3], ""), ([], "0"), ([0], ""), ([], "2"), ([2], "")]


def test_results_are_saved_each_second_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.5, 1.2, 1.3, 1.4, 1.5])
    monkeypatch.setattr(chunk_runner, "SLICE", 1)
    monkeypatch.setattr(chunk_runner.time, "monotonic", lambda: next(now))
    chunk = Chunk(b"1", b"2", b"3", attempt="1")
    assert sorted(chunk.run()) == [2]
    assert chunk.saved == [([0, 1], "")]


def test_who_lost_the_lease_goes_no_further() -> None:
    chunk = Chunk(b"1", b"2")
    chunk.runs.note.side_effect = [True, False]
    with pytest.raises(LeaseLost):
        chunk.run()
    assert chunk.tried == [[b"1"]]


@pytest.mark.parametrize(
    ("attempts", "progress", "condemned"),
    [
        (1, {}, []),
        (1, {"stalls": 1}, []),
        (1, {"stalls": 2}, [0, 1, 2]),
        (1, {"deaths": {1: 1}}, [1]),
        (3, {"stalls": 2}, []),
        (3, {"stalls": 3}, [0, 1, 2]),
        (3, {"deaths": {1: 1}}, []),
        (3, {"deaths": {1: 2}}, [1]),
    ],
)
def test_who_is_condemned_follows_from_the_deaths(
    attempts: int, progress: dict[str, Any], condemned: list[int]
) -> None:
    before = metrics.QUARANTINED.labels("poison")._value.get()
    chunk = Chunk(b"1", b"2", b"3", **progress)
    found = chunk.run(attempts)
    assert [at for at, row in (chunk.noted | found).items() if row == POISON] == condemned
    assert sorted(int(image) - 1 for [image] in chunk.tried) == [at for at in range(3) if at not in condemned]
    assert metrics.QUARANTINED.labels("poison")._value.get() == before + len(condemned)


def test_what_has_a_result_is_neither_run_again_nor_replaced() -> None:
    chunk = Chunk(b"", b"2", b"", b"4", attempt="1", done={0, 1})
    found = chunk.run()
    assert chunk.tried == [[b"4"]]
    assert {at: row[0] for at, row in found.items()} == {2: "undecodable_image", 3: 4}


def test_a_chunk_whose_bytes_are_gone_has_expired() -> None:
    chunk = Chunk(b"1", b"2", done={0})
    rows = classify_chunk(chunk.runs, "b-0", "2", b"", chunk.classify, max_attempts=3)
    assert rows == {1: ("expired", "The picture has expired")} and chunk.tried == []


def test_a_model_that_answers_nothing_is_an_error_and_no_endless_loop() -> None:
    with pytest.raises(AssertionError, match="without a result"):
        Chunk(b"1").run(classify=lambda pictures: Classified([]))


@pytest.mark.parametrize(("answer", "fenced", "dependents"), [(1, [], []), (0, ["b-0"], []), (DEPENDENTS, [], ["b-0"])])
def test_the_end_of_a_chunk_is_followed_up(answer: int, fenced: list[str], dependents: list[str]) -> None:
    chunk, foreign_jobs, store = Chunk(b"1", attempt="1"), create_autospec(ForeignJobs, instance=True), Mock(spec=Store)
    store.settings = Settings()
    chunk.runs.finish.return_value = answer
    classifier = BatchClassifier(chunk.classify, Mock(), lambda: False)
    runner = ChunkRunner(
        store, chunk.runs, "w", {"digit": classifier, "numbers": classifier}, foreign_jobs, Speed(), lambda _: True
    )
    call = b'["digitq.tasks.classify_chunk",null,["b-0"],{}]'
    claim = Claim("b-0", "e", "digitq-low", False, call, pack(b"1"), 1, "120", "", "", chunk=True)
    runner.run(claim, 0.0)
    foreign_jobs.follow_up.assert_called_once_with([claim], fenced, dependents)


def test_a_bug_in_a_picture_of_a_chunk_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        found = Chunk(b"bug", attempt="1").run()
    assert found[0][0] == "internal_error"
    [record] = caplog.records
    assert record.exc_info
