"""The event stream: what it tells, to whom, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from producer.web import events, load
from producer.web.load import percentile
from shared import keys
from shared.store import Store
from tests.api import answer_all, is_problem
from tests.listening import Listener, listening
from tests.pictures import seven
from tests.served import WebClient, site
from tests.waits import until


@pytest.fixture
def web(store: Store) -> Iterator[WebClient]:
    with site(store) as client:
        yield client


def test_a_finished_prediction_is_told_as_the_api_tells_it(web: WebClient, store: Store) -> None:
    listener = listening(web)
    id = store.submit(seven(), "im3.png").id
    answer_all(store)
    assert listener.wait_for("prediction") == [web.get(f"/v1/predictions/{id}").get_json()]
    assert listener.response.headers["Cache-Control"].startswith("no-cache")
    assert listener.response.headers["X-Accel-Buffering"] == "no"
    assert listener.response.content_type == "text/event-stream; charset=utf-8"
    assert listener.text.startswith("retry: 2000\n")


def test_the_status_tells_the_queue_the_workers_and_the_speed(web: WebClient, store: Store) -> None:
    listener = listening(web)
    assert listener.wait_for("status")[0] == {
        "redis": True, "queued": 0, "running": 0, "oldest_ms": 0,
        "workers": {"alive": 0, "busy": 0, "needed": 1, "models": {}, "refusing": 0},
        "latency_goal_ms": 1000, "arrivals_per_second": 0.0, "per_second": 0.0, "capacity_per_second": None,
        "eta_ms": 0, "p50_ms": None, "p95_ms": None,
    }  # fmt: skip
    store.renew("w", [], "{}")
    for _ in range(3):
        store.submit(seven())
    store.submit(seven(), priority=keys.Priority.LOW)
    store.claim("w", keys.QUEUES, 1, "n")
    count = len(listener.events("status"))
    seen = listener.wait_for("status", count + 2)[-1]
    workers = {"alive": 1, "busy": 1, "needed": None, "models": {}, "refusing": 0}
    assert (seen["queued"], seen["running"], seen["workers"]) == (3, 1, workers)
    answer_all(store)
    count = len(listener.events("status"))
    seen = listener.wait_for("status", count + 2)[-1]
    assert (seen["queued"], seen["per_second"] > 0) == (0, True)
    assert 0 < seen["p50_ms"] <= seen["p95_ms"]


def test_a_returning_listener_gets_the_missed_events(web: WebClient, store: Store) -> None:
    listener = listening(web)
    ids = [store.submit(seven()).id for _ in range(3)]
    answer_all(store)
    told = [one["id"] for one in listener.wait_for("prediction", 3)]
    assert sorted(told) == sorted(ids)
    second = listener.events("prediction")[1]["id"]
    assert [one["id"] for one in Listener(web, second).wait_for("prediction")] == told[2:]


def test_another_process_sends_the_missed_events_from_the_history(web: WebClient, store: Store) -> None:
    listener = listening(web)
    store.submit(seven())
    answer_all(store)
    listener.wait_for("prediction")
    last = listener.events("prediction")[0]["id"]
    later = store.submit(seven()).id
    answer_all(store)
    with site(store) as other:
        assert [one["id"] for one in Listener(other, last).wait_for("prediction")] == [later]
        assert Listener(other, "not-one-of-ours").wait_for("reset")[0] == {}


def test_of_two_that_ended_at_once_the_second_is_sent_from_the_history_to_who_saw_the_first(
    web: WebClient, store: Store
) -> None:
    listener = listening(web)
    for _ in range(2):
        store.submit(seven())
    answer_all(store)  # in one message, at one time
    listener.wait_for("prediction", 2)
    first, second = sorted(one["id"] for one in listener.events("prediction"))
    with site(store) as other:
        assert [one["id"] for one in Listener(other, first).wait_for("prediction")] == [second.partition("/")[2]]


def test_who_was_away_for_longer_than_the_history_is_told_to_look(
    web: WebClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LOOK_BACK", 2)
    for _ in range(3):
        store.submit(seven())
        answer_all(store)
    listener = listening(web)
    resets = len(listener.events("reset"))
    assert resets <= 1  # the subscription's own
    assert Listener(web, "2020-01-01T00:00:00.000000Z/x").wait_for("reset")[0] == {}


def test_more_than_anybody_can_follow_is_one_reset(
    web: WebClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = listening(web)
    resets = len(listener.events("reset"))
    monkeypatch.setattr(events, "MAX_AT_ONCE", 2)
    for _ in range(5):
        store.submit(seven())
    answer_all(store)  # one message
    listener.wait_for("reset", resets + 1)
    assert listener.events("prediction") == []


def test_more_than_is_kept_is_one_reset(web: WebClient, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = listening(web)
    resets = len(listener.events("reset"))
    monkeypatch.setattr(events, "RING", 2)
    for _ in range(5):
        store.submit(seven())
    answer_all(store)
    listener.wait_for("reset", resets + 1)
    assert listener.events("prediction") == [] and len(web.services.events._ring) == 2


def test_who_missed_more_than_anybody_can_follow_is_told_to_look(
    web: WebClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = listening(web)
    for _ in range(4):
        store.submit(seven())
        answer_all(store)
    listener.wait_for("prediction", 4)
    first, second, *_ = (event["id"] for event in listener.events("prediction"))
    monkeypatch.setattr(events, "MAX_AT_ONCE", 2)
    assert len(Listener(web, second).wait_for("prediction", 2)) == 2
    assert Listener(web, first).wait_for("reset") == [{}]


def test_what_ends_right_after_a_gap_is_told_after_the_reset(web: WebClient, store: Store) -> None:
    listener = listening(web)
    id = store.submit(seven()).id
    web.call(web.services.events.missed)
    web.call(web.services.events.ended, [{"id": id, "status": "finished", "ended_at": "2026-01-01T00:00:00.000000Z"}])
    assert [one["id"] for one in listener.wait_for("prediction")] == [id]
    assert listener.text.index("event: reset") < listener.text.index("event: prediction")


def test_silence_is_filled_with_a_heartbeat(web: WebClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.1)
    listener = listening(web)
    until(lambda: ": still here\n\n" in listener.text, 5)


def test_the_number_of_listeners_is_bounded_and_slots_are_released(store: Store) -> None:
    with site(store, web_threads=12) as web:  # three may listen
        responses = [web.get("/v1/events") for _ in range(3)]
        response = web.get("/v1/events")
        assert is_problem(response, 503, "too_many_listeners")["limit"] == 3
        assert response.headers["Retry-After"] == "5"
        assert web.head("/v1/events").status_code == 200  # takes no listener slot
        responses[0].close()
        until(lambda: web.get("/v1/events").status_code == 200, 10)


def test_a_stream_ends_when_it_is_old_when_the_client_is_slow_and_when_the_process_stops(
    web: WebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = listening(web)
    monkeypatch.setattr(events, "SLOW_SECONDS", -1)
    assert listener.ended.wait(3)
    monkeypatch.undo()
    listener = listening(web)
    monkeypatch.setattr(events, "MAX_STREAM_SECONDS", 0)
    assert listener.ended.wait(3)
    monkeypatch.undo()
    listener = listening(web)
    web.call(web.services.events.stop)
    assert listener.ended.wait(3)
    is_problem(web.get("/v1/events"), 503, "too_many_listeners")


def test_percentiles_are_of_the_last_seconds(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(load, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    gauge = load.Gauge(store)
    gauge.count([{"created_at": "2026-01-01T00:00:00.000000Z", "ended_at": "2026-01-01T00:00:00.250000Z"}])
    clock[0] += load.WINDOW_SECONDS
    assert gauge.read()["p50_ms"] == 250
    clock[0] += 1
    assert gauge.read()["p50_ms"] is None


def test_percentiles_are_of_the_nearest_rank() -> None:
    assert [percentile([1.0, 2.0, 3.0, 4.0], share) for share in (0.5, 0.95)] == [2.0, 4.0]
    assert percentile([], 0.5) is None
