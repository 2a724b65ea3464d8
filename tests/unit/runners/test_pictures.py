"""The runner of pictures: what is stored, what is returned, and what goes on alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock, create_autospec

import pytest

from tests import fakes
from tests.unit.runners.claims import claim
from worker.inference.classify import Classified, Pictures
from worker.queue.foreign_jobs import ForeignJobs
from worker.queue.heartbeat import GRACE_SECONDS, Heartbeat
from worker.queue.picture_runner import BatchClassifier, PictureRunner
from worker.telemetry import metrics


def classifier(
    heartbeat: Heartbeat, classify: Callable[[Pictures], Classified] = fakes.classify, stopping: bool = False
) -> BatchClassifier:
    return BatchClassifier(classify, heartbeat, lambda: stopping)


def pictures(store: Mock, heartbeat: Heartbeat, **options: Any) -> tuple[PictureRunner, Mock]:
    foreign_jobs = create_autospec(ForeignJobs, instance=True)
    return PictureRunner(store, "w", classifier(heartbeat, **options), foreign_jobs, "m", "p"), foreign_jobs


def test_a_batch_is_stored_with_its_results_and_its_errors(store: Mock, heartbeat: Heartbeat) -> None:
    runner, foreign_jobs = pictures(store, heartbeat)
    claims = [claim("a", b"1"), claim("b", b"undecodable"), claim("c", b""), claim("d", b"bug")]
    assert runner.run(claims, time.perf_counter()) == []
    _, finishes, ran, _ = store.finish.call_args.args
    assert {one.claim.id: one.error[0] for one in finishes} == {"c": "expired", "a": "", "b": "undecodable_image"}
    assert (ran.model, ran.size) == ("m", 3)
    [(failed, error)] = [call.args for call in foreign_jobs.fail.call_args_list]
    assert (failed.id, str(error)) == ("d", "a bug in the classifier")


def test_pictures_that_were_not_classified_in_time_are_returned(store: Mock, heartbeat: Heartbeat) -> None:
    runner, _ = pictures(store, heartbeat, classify=lambda images: fakes.classify(images[:1]))
    rest = runner.run([claim("a"), claim("b"), claim("c")], time.perf_counter())
    assert [one.id for one in rest] == ["b", "c"]


@pytest.mark.parametrize(
    ("images", "reached", "next_is_claimed"),
    [([b"1", b"2"], 2, True), ([b"1", b"undecodable"], 2, True), ([b"1", b"2"], 1, False), ([b"1", b"bug"], 2, False)],
    ids=["all ended", "an error of the picture's own", "one was not reached", "one is RQ's to retry"],
)
def test_the_next_batch_is_claimed_with_the_end_only_if_nothing_is_left_to_do(
    images: list[bytes], reached: int, next_is_claimed: bool, store: Mock, heartbeat: Heartbeat
) -> None:
    runner, _ = pictures(store, heartbeat, classify=lambda images: fakes.classify(images[:reached]))
    finisher = Mock(return_value=([], []))
    runner.run([claim(str(at), image) for at, image in enumerate(images)], time.perf_counter(), finisher)
    assert (finisher.called, store.finish.called) == (next_is_claimed, not next_is_claimed)


def test_a_picture_under_its_jobs_id_is_not_asked_for_again(store: Mock, heartbeat: Heartbeat) -> None:
    runner, _ = pictures(store, heartbeat)
    other = claim("b", b"", data=b'["digitq.tasks.classify",null,["theirs"],{}]')
    runner.run([claim("a", b""), other], time.perf_counter())
    assert [call.args for call in store.image.call_args_list] == [("theirs",)]


def test_fenced_off_pictures_and_waiting_dependents_are_followed_up(store: Mock, heartbeat: Heartbeat) -> None:
    runner, foreign_jobs = pictures(store, heartbeat)
    store.finish.return_value = ["a"], ["b"]
    claims = [claim("a"), claim("b")]
    runner.run(claims, time.perf_counter())
    foreign_jobs.follow_up.assert_called_once_with(claims, ["a"], ["b"])


def test_the_shortest_timeout_of_a_batch_holds_for_all_of_it(
    store: Mock, heartbeat: Heartbeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = Mock(wraps=heartbeat.extend)
    monkeypatch.setattr(heartbeat, "extend", limit)
    runner, _ = pictures(store, heartbeat)
    runner.run([claim("a", timeout="30"), claim("b", timeout="2"), claim("c", timeout="")], time.perf_counter())
    limit.assert_called_once_with(2)


# ---------------------------------------------------------------------- the classifier


def test_a_batch_that_fails_is_classified_one_by_one_until_the_worker_stops(heartbeat: Heartbeat) -> None:
    images = [b"1", b"poison-batch", b"3"]
    before = metrics.SPLITS._value.get()
    done = classifier(heartbeat)(images, 5)
    assert [type(one).__name__ for one in done.results] == ["Outcome", "RuntimeError", "Outcome"]
    assert (done.preprocess_ms, done.inference_ms) == pytest.approx((0.8, 1.8))  # of the two that were classified
    assert metrics.SPLITS._value.get() == before + 1
    assert len(classifier(heartbeat, stopping=True)(images, 5).results) == 1


def test_each_picture_that_is_tried_alone_has_the_whole_time(heartbeat: Heartbeat) -> None:
    left = []

    def classify(images: Pictures) -> Classified:
        left.append(heartbeat._deadline - time.monotonic() - GRACE_SECONDS)
        heartbeat._deadline = time.monotonic()  # as after long work
        return fakes.classify(images)

    classifier(heartbeat, classify)([b"poison-batch", b"1"], 100)
    assert left == pytest.approx([100, 100, 100], abs=5)


def test_where_no_picture_is_left_nothing_is_classified(heartbeat: Heartbeat) -> None:
    classify = Mock()
    assert classifier(heartbeat, classify)([], 5).results == []
    assert not classify.called


@pytest.mark.parametrize("images", [[b"1"], [b"1", b"2"]])
def test_a_lack_of_memory_is_no_fault_of_the_picture(images: list[bytes], heartbeat: Heartbeat) -> None:
    classify = Mock(side_effect=MemoryError)
    with pytest.raises(MemoryError):
        classifier(heartbeat, classify)(images, 5)
    assert classify.call_count == 1
