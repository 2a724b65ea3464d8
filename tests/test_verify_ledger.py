"""The books of `digitq verify`: what counts as a promise kept, and what does not."""

from __future__ import annotations

import time

import pytest
import redis

from shared.prediction import Prediction, State
from verify import audit
from verify.ledger import Entry, Ledger
from verify.report import Injection, Report


def ended(
    id: str, digit: int = 7, state: State = State.SUCCEEDED, code: str = "", at: float | None = None
) -> Prediction:
    error = {"code": code, "message": ""} if code else None
    found = digit if state is State.SUCCEEDED else None
    return Prediction(id, state, digit=found, error=error, finished_at=at or time.time())


def accepted(ledger: Ledger, id: str, key: str = "", expected: int | str = 7) -> Entry:
    return ledger.accept(id, key or id, expected, time.time(), True)


def found(ledger: Ledger) -> list[tuple[str, str]]:
    return [(finding.what, finding.subject) for finding in ledger.findings()]


def test_what_ended_once_is_counted_by_its_state() -> None:
    ledger = Ledger()
    ledger.saw(accepted(ledger, "a"), ended("a"))
    ledger.saw(accepted(ledger, "b"), ended("b", state=State.CANCELLED))
    ledger.saw(accepted(ledger, "c"), ended("c", state=State.FAILED, code="poison"))
    ledger.saw(
        accepted(ledger, "d", expected="undecodable_image"), ended("d", state=State.FAILED, code="undecodable_image")
    )
    assert ledger.tally() == {
        "accepted": 4, "succeeded": 1, "failed": 2, "cancelled": 1, "expired": 0, "evicted": 0, "lost": 0,
        "lost_declared": 0,
    }  # fmt: skip
    assert found(ledger) == []


def test_what_has_not_ended_or_is_gone_is_lost() -> None:
    ledger = Ledger()
    accepted(ledger, "queued")
    ledger.missed(accepted(ledger, "gone"), "not_found")
    ledger.missed(accepted(ledger, "said"), "lost")
    assert ledger.tally()["lost"] == 3
    assert found(ledger) == [("lost", "queued"), ("lost", "gone"), ("lost", "said")]


def test_a_loss_that_is_said_is_allowed_where_the_server_lost_its_data_and_nowhere_else() -> None:
    ledger = Ledger()
    inside, silent = accepted(ledger, "inside"), accepted(ledger, "silent")
    outside = accepted(ledger, "outside")
    outside.accepted_at -= 60
    ledger.expose(time.time() - 1, time.time())
    ledger.missed(inside, "lost")
    ledger.missed(outside, "lost")
    assert (ledger.tally()["lost"], ledger.tally()["lost_declared"]) == (2, 1)
    assert found(ledger) == [("lost", silent.id), ("lost", "outside")]


def test_an_end_that_changes_is_found() -> None:
    ledger = Ledger()
    for id, second in {"again": ended("again", at=2.0), "open": Prediction("open", State.QUEUED)}.items():
        entry = accepted(ledger, id)
        ledger.saw(entry, ended(id, at=1.0))
        ledger.saw(entry, ended(id, at=1.0))
        ledger.saw(entry, second)
    assert found(ledger) == [("changed", "again"), ("changed", "open")]


def test_an_end_after_the_data_was_lost_may_be_another() -> None:
    ledger = Ledger()
    entry, now = accepted(ledger, "a"), time.time()
    ledger.saw(entry, ended("a", at=now))
    ledger.expose(now - 1, now)
    ledger.saw(entry, ended("a", at=now + 5))
    assert (found(ledger), ledger.counts["ran_again"]) == ([], 1)


def test_a_wrong_digit_and_a_failure_without_a_reason_are_found() -> None:
    ledger = Ledger()
    ledger.saw(accepted(ledger, "digit"), ended("digit", digit=1))
    ledger.saw(accepted(ledger, "error"), ended("error", state=State.FAILED, code="internal_error"))
    ledger.saw(accepted(ledger, "damaged", expected="undecodable_image"), ended("damaged"))
    assert found(ledger) == [("wrong", "digit"), ("wrong", "error"), ("wrong", "damaged")]


def test_two_ids_under_one_key_are_one_too_many() -> None:
    ledger = Ledger()
    for id in ("a", "a", "b"):
        ledger.saw(accepted(ledger, id, key="k"), ended(id, at=1.0))
    assert (found(ledger), ledger.counts["repeated"]) == ([("doubled", "k")], 1)


def test_two_results_of_one_job_are_one_too_many_and_a_success_has_one(client: redis.Redis) -> None:
    ledger = Ledger()
    succeeded, failed, cancelled = State.SUCCEEDED, State.FAILED, State.CANCELLED
    results = {"once": 1, "twice": 2, "never": 0, "failed": 1, "failed twice": 2, "poison": 0, "cancelled": 0}
    states = [succeeded, succeeded, succeeded, failed, failed, failed, cancelled]
    for (id, count), state in zip(results.items(), states, strict=True):
        ledger.saw(accepted(ledger, id), ended(id, state=state))
        for _ in range(count):
            client.xadd(f"rq:results:{id}", {"type": "1"})
    findings = [(one.what, one.subject) for one in audit.results(client, ledger.entries.values())]
    assert findings == [("doubled", "twice"), ("wrong", "never"), ("doubled", "failed twice")]


def test_what_we_took_back_may_be_gone_and_what_we_forgot_may_not_return() -> None:
    ledger = Ledger()
    taken, forgotten = accepted(ledger, "taken"), accepted(ledger, "forgotten")
    taken.taken_back_at = time.time()
    ledger.missed(taken, "not_found")
    ledger.saw(forgotten, ended("forgotten", at=1.0))
    forgotten.forgotten_at = time.time()
    ledger.missed(forgotten, "not_found")
    assert (found(ledger), ledger.tally()["cancelled"], ledger.tally()["succeeded"]) == ([], 1, 1)
    ledger.saw(forgotten, ended("forgotten", at=1.0))
    assert found(ledger) == [("changed", "forgotten")]


def test_a_report_is_red_where_a_recovery_is_late_unless_nobody_minds() -> None:
    ledger = Ledger()
    ledger.saw(accepted(ledger, "a"), ended("a"))
    report = Report(1, 1, 1, ledger, [], [Injection("cut", 0, 0, 4.9, 60), Injection("kill", 0, 0, 1, 9)])
    assert report.kept
    for late in (Injection("cut", 0, 0, 5.1), Injection("cut", 0, 0, None), Injection("kill", 0, 0, 1, 11)):
        report.injections = [late]
        assert not report.kept
        assert "late" in report.text()
    report.limits = False
    assert report.kept
    assert not Report(1, 1, 1, Ledger(), []).kept  # nothing accepted proves nothing


def test_recovery_is_measured_from_the_books() -> None:
    ledger, now = Ledger(), time.time()
    for id, tried, end in (("before", -2.0, 6.0), ("after", 0.5, 1.5), ("later", 1.0, 9.0)):
        entry = ledger.accept(id, id, 7, now + tried, True)
        entry.accepted_at = now + tried
        ledger.saw(entry, ended(id, at=now + end))
    one = Injection("kill", 0, now)
    one.measure(ledger)
    assert (one.next, one.rest) == (pytest.approx(1.5, abs=1e-3), pytest.approx(6, abs=1e-3))


def test_what_ended_long_enough_before_may_be_deleted_while_memory_is_full_and_nothing_else() -> None:
    ledger, now = Ledger(), time.time()
    for id, at in (("old", now - 11), ("fresh", now - 1), ("lost", now - 11)):
        ledger.saw(accepted(ledger, id), ended(id, at=at))
    unseen = accepted(ledger, "unseen")  # somebody waits for its end, and was never told it
    unseen.accepted_at -= 60
    ledger.evict(now - 1, now)
    for id, entry in ledger.entries.items():
        ledger.missed(entry, "lost" if id == "lost" else "expired")
    assert found(ledger) == [("lost", "fresh"), ("lost", "lost"), ("lost", "unseen")]
    assert (ledger.tally()["evicted"], ledger.tally()["lost"]) == (1, 3)
    again = accepted(ledger, "again", key="old")  # its key was free again
    ledger.saw(again, ended("again"))
    assert ("doubled", "old") not in found(ledger)


def test_a_count_of_bytes_that_nothing_accounts_for_is_found(client: redis.Redis) -> None:
    client.hset("digitq:bytes", str(int(time.time()) + 60), 254)
    client.expire("digitq:bytes", 60)
    assert [(one.what, one.subject) for one in audit.leftovers(client)] == [("leftover", "digitq:bytes")]


def test_lost_pictures_answer_expired_once_memory_was_full() -> None:
    ledger, now = Ledger(), time.time()
    for id, age in (("lost", 60), ("after", 20), ("young", 59)):
        accepted(ledger, id).accepted_at = now - age
    ledger.expose(now - 61, now - 58)
    ledger.evict(now - 60, now - 57.5)
    for entry in ledger.entries.values():
        ledger.missed(entry, "expired")
    assert found(ledger) == [("lost", "after"), ("lost", "young")]
    assert ledger.tally()["lost_declared"] == 1
