"""The claimer: the order of the queues, and when a batch waits for more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from unittest.mock import Mock

import pytest

from shared import keys
from shared.claims import Claim, Ran
from tests.unit.runners.claims import QUEUES, claim
from worker.queue import claimer as claimer_module
from worker.queue.claimer import CYCLE, Claimer
from worker.queue.jobs import by_kind, call_of, timeout_seconds
from worker.queue.rq_compat import DEFAULT_TIMEOUT


def test_claims_are_sorted_by_the_way_in_which_they_run() -> None:
    damaged, other = claim("d", error="wrong type"), claim("o", data=b'["f",null,["o"],{}]')
    callback = claim("c", batchable=False)
    chunk = claim("x", batchable=False, chunk=True, data=b'["digitq.tasks.classify_chunk",null,["x"],{}]')
    foreign_chunk = replace(chunk, id="y")
    page, unknown = (
        claim(id, data=f'["digitq.tasks.classify",null,["{id}"],{{"read":"{read}"}}]'.encode())
        for id, read in (("n", "numbers"), ("u", "words"))
    )
    kinds = by_kind([damaged, other, callback, chunk, foreign_chunk, claim("p"), page, unknown])
    assert [[one.id for one in kind] for kind in kinds] == [["d"], ["p"], ["n"], ["x"], ["o", "c", "y", "u"]]


@pytest.mark.parametrize(
    "call", [b'["digitq.tasks.classify",null,["x","y"],{}]', b'["digitq.tasks.classify","instance",["x"],{}]']
)
def test_a_call_that_would_fail_is_left_to_rq_which_says_why(call: bytes) -> None:
    assert call_of(claim("x", data=call), keys.JOB_FUNCTION) is None


@pytest.mark.parametrize(("given", "seconds"), [("7", 7), ("", DEFAULT_TIMEOUT), ("-1", DEFAULT_TIMEOUT)])
def test_a_job_without_a_timeout_has_rqs(given: str, seconds: int) -> None:
    assert timeout_seconds(claim("x", timeout=given)) == seconds


@pytest.mark.parametrize("ahead", [False, True], ids=["on its own", "with the end of a batch"])
def test_each_queue_comes_first_in_some_of_the_claims(store: Mock, ahead: bool) -> None:
    store.claim.return_value = []
    store.finish_and_claim.return_value = ([], []), None
    claimer = Claimer(store, "w", QUEUES)
    orders = []
    for _ in range(CYCLE):
        if ahead:
            claimer.finish_and_claim([], Ran(), 0.1)
            orders.append(store.finish_and_claim.call_args.args[4])
        else:
            claimer.claim_batch()
            orders.append(store.claim.call_args.args[1])
    assert [[order[0] for order in orders].count(queue) for queue in QUEUES] == [CYCLE - 2, 1, 1]
    assert all(sorted(order) == sorted(QUEUES) for order in orders)


def test_jobs_claimed_ahead_are_returned_next_and_only_once(store: Mock) -> None:
    store.finish_and_claim.return_value = ([], []), [claim("next")]
    store.claim.return_value = []
    claimer = Claimer(store, "w", QUEUES)
    claimer.finish_and_claim([], Ran(), 0.1)
    assert [one.id for one in claimer.claim_batch()] == ["next"]
    assert claimer.claim_batch() == []


# ---------------------------------------------------------------------- waiting for more


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each wait for a batch to grow."""
    slept: list[float] = []
    monkeypatch.setattr(claimer_module.time, "sleep", slept.append)
    return slept


def waiting(store: Mock, *batches: Sequence[Claim], most: int = 64) -> Claimer:
    """A claimer that waits 250 ms for more, with what Redis answers in turn."""
    store.settings = replace(store.settings, batch_max_wait_ms=250, batch_max_size=most)
    store.claim.side_effect = batches
    return Claimer(store, "w", QUEUES)


@pytest.mark.parametrize(
    ("later", "taken"),
    [(claim("d"), True), (claim("d", attempt=2), False), (claim("d", batchable=False), False)],
    ids=["a picture", "one that was started before", "a job that runs alone"],
)
def test_a_shared_batch_waits_for_more_and_returns_what_may_not_join(
    store: Mock, slept: list[float], later: Claim, taken: bool
) -> None:
    claimer = waiting(store, [claim("a"), claim("b")], [claim("c")], [later])
    claimer.claim_batch()
    assert [one.id for one in claimer.claim_batch()] == (["c", "d"] if taken else ["c"])
    assert slept == [0.25]
    assert [call.args for call in store.release.call_args_list] == ([] if taken else [("w", [later])])


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ([claim("a")], [claim("c")]),
        ([claim("a"), claim("b")], []),
        ([claim("a"), claim("b")], [claim("c", batchable=False)]),
        ([claim("a"), claim("b")], [claim("c"), claim("d"), claim("e")]),
    ],
    ids=["the last had one picture", "nothing came", "a job that runs alone", "it is full"],
)
def test_other_batches_do_not_wait(store: Mock, slept: list[float], before: list[Claim], now: list[Claim]) -> None:
    claimer = waiting(store, before, now, [claim("late")], most=3)
    claimer.claim_batch()
    assert claimer.claim_batch() == now
    assert slept == []


def test_a_batch_that_waited_is_as_old_as_its_first_claim(
    store: Mock, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    claimer = waiting(store, [claim("a"), claim("b")], [claim("c")], [claim("d")])
    monkeypatch.setattr(claimer_module.time, "perf_counter", iter([1.0, 2.0, 3.0]).__next__)
    claimer.claim_batch()
    claimer.claim_batch()
    assert claimer.claimed_at == 2.0
    assert store.claim.call_args.args[2] == 63  # room for the rest alone
