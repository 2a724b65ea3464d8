"""The ends of claimed jobs: how long what remains lives, what RQ is told, and what is announced how often."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import redis
from rq import Retry
from rq.job import Job

from shared import keys
from shared.claims import Claim, Finish
from shared.prediction import Prediction, State
from shared.store import Store
from tests.answering import finish
from tests.fakes import outcome
from tests.listening import hearing
from tests.repairing import rq_queue

TTL = 600
FLOW = "digitq:flow:*"


@pytest.fixture
def short(store: Store) -> Store:
    """With times to live that no other number looks like."""
    return Store(store.client, replace(store.settings, result_ttl_seconds=TTL))


def claim(store: Store) -> list[Claim]:
    return store.claim("w", keys.QUEUES, 64, "n")


def end(store: Store, *claims: Claim, failed: bool = False) -> tuple[list[str], list[str]]:
    done = [
        Finish(one, "", "x", error=("bug", "x")) if failed else Finish(one, "e30=", "", outcome(7)) for one in claims
    ]
    return store.finish("w", done, seconds=0.5)


def of_a_stranger(client: redis.Redis, **options: Any) -> Job:
    client.set(keys.image("p"), b"7", ex=600)
    return rq_queue(client).enqueue(keys.JOB_FUNCTION, "p", job_id="p", **options)


def near(seconds: float) -> Any:
    return pytest.approx(seconds, abs=2)


# ---------------------------------------------------------------------- what remains, and for how long


@pytest.mark.parametrize(
    ("failed", "lives", "registry"), [(False, 77, "rq:finished:digitq"), (True, 88, "rq:failed:digitq")]
)
def test_a_job_lives_as_long_as_its_client_has_said(
    failed: bool, lives: int, registry: str, store: Store, client: redis.Redis
) -> None:
    of_a_stranger(client, result_ttl=77, failure_ttl=88)
    end(store, *claim(store), failed=failed)
    assert [client.ttl(key) for key in ("rq:job:p", "rq:results:p")] == [near(lives)] * 2
    assert client.zscore(registry, "p") == near(store.time() + lives)


@pytest.mark.parametrize(("ttl", "lives"), [(400, 400), (600, 500)])
def test_where_its_client_says_nothing_a_result_lives_as_long_as_with_rq_and_no_longer_than_ours(
    ttl: int, lives: int, store: Store, client: redis.Redis
) -> None:
    one = Store(client, replace(store.settings, result_ttl_seconds=ttl))
    of_a_stranger(client)
    end(one, *claim(one))
    assert [client.ttl(key) for key in ("rq:job:p", "rq:results:p")] == [near(lives)] * 2


@pytest.mark.parametrize("failed", [False, True])
def test_what_is_ours_lives_for_our_time_from_its_end(failed: bool, short: Store, client: redis.Redis) -> None:
    notes = {"callback_url": "https://x"}
    id = short.submit(b"7", idempotency_key="k", notes=notes).id
    end(short, *claim(short), failed=failed)
    names = [keys.job(id), f"rq:results:{id}", "digitq:idempotency:k", keys.callback(id)]
    assert [client.ttl(key) for key in names] == [near(TTL)] * 4
    for key in (keys.WEBHOOKS, "digitq:ended"):
        assert TTL - 2 <= client.ttl(key) <= 1.1 * TTL
    assert failed or client.ttl(keys.model_input(id)) == near(TTL)


def test_an_idempotency_key_lives_for_a_day_at_most(store: Store, client: redis.Redis) -> None:
    days = Store(client, replace(store.settings, result_ttl_seconds=10 * 86_400))
    days.submit(b"7", idempotency_key="k")
    assert client.ttl("digitq:idempotency:k") == near(86_400)
    client.expire("digitq:idempotency:k", 5)
    end(days, *claim(days))
    assert client.ttl("digitq:idempotency:k") == near(86_400)


def test_a_job_that_was_deleted_while_it_ran_stays_deleted(store: Store, client: redis.Redis) -> None:
    gone, kept = (store.submit(b"7").id for _ in range(2))
    claims = claim(store)
    client.delete(keys.job(gone))
    with hearing(client) as heard:
        assert end(store, *claims) == ([], [])
        assert [one["id"] for one in heard()] == [kept]
    assert not client.exists(keys.job(gone), f"rq:results:{gone}", "rq:wip:digitq", keys.model_input(gone))
    assert client.zrange("rq:finished:digitq", 0, -1) == [kept.encode()]


def test_a_failure_with_a_code_is_not_retried(store: Store, client: redis.Redis) -> None:
    job = of_a_stranger(client, retry=Retry(max=2))
    end(store, *claim(store), failed=True)
    job.refresh()
    assert (job.get_status().value, job.retries_left) == ("failed", 0)


def test_of_a_job_that_ends_again_and_again_rq_keeps_the_last_results(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    for n in range(300):  # it is trimmed by whole nodes
        client.xadd(f"rq:results:{id}", {"type": "1"}, id=f"{1000 + n}-0")
    client.hset(keys.job(id), mapping={"started_at": "2026-01-01T00:00:00.000000Z", "digitq_run": "1:x"})
    end(store, *claim(store))
    assert 10 <= client.xlen(f"rq:results:{id}") < 200


def test_whose_dependents_wait_is_said(store: Store, client: redis.Redis) -> None:
    job = of_a_stranger(client)
    [one] = claim(store)
    client.sadd(f"rq:job:{job.id}:dependents", "d")
    assert end(store, one) == ([], [job.id])


# ---------------------------------------------------------------------- what is counted


def test_a_worker_counts_its_successes_failures_and_time(store: Store, client: redis.Redis) -> None:
    for _ in range(3):
        store.submit(b"7")
    first, second, third = claim(store)
    end(store, first)
    end(store, second, third, failed=True)
    names = ("successful_job_count", "failed_job_count", "total_working_time")
    assert client.hmget("rq:worker:w", *names) == [b"1", b"2", b"1"]


def test_what_ends_is_counted_and_its_bytes_are_free(store: Store, client: redis.Redis) -> None:
    for _ in range(3):
        store.submit(b"12345 7")
    [first, *rest] = claim(store)
    end(store, first)
    assert client.hvals("digitq:bytes") == [b"14"]
    end(store, *rest)
    [flow] = client.keys(FLOW)
    assert (client.hget(flow, "ended"), client.exists("digitq:bytes", keys.OPEN, keys.ACCEPTED)) == (b"3", 0)
    assert 0 < client.ttl(flow) <= 60


# ---------------------------------------------------------------------- what is told


def test_an_end_is_told_as_it_will_be_read(store: Store, client: redis.Redis) -> None:
    ids = [store.submit(b"7", "a.png").id for _ in range(2)]
    with hearing(client) as heard:
        end(store, *claim(store))
        told = {one["id"]: one for one in heard()}
    assert [Prediction.from_record(id, told[id]) for id in ids] == [store.fetch(id) for id in ids]
    [entry] = [fields for _, fields in client.xrange("digitq:ended")]
    assert entry == {b"pictures": " ".join(ids).encode()}


def test_of_a_job_that_is_no_picture_nothing_is_told(store: Store, client: redis.Redis) -> None:
    rq_queue(client).enqueue("tests.jobs.double", 21, job_id="j")
    with hearing(client) as heard:
        end(store, *claim(store))
        assert heard() == []
    assert client.zscore(keys.OPEN, "j")  # sweep.lua drops it


def test_the_end_of_a_fenced_off_picture_is_not_announced(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7", notes={"callback_url": "https://x"}).id
    claims = claim(store)
    client.delete("rq:wip:digitq")
    with hearing(client) as heard:
        assert end(store, *claims) == ([id], [])
        assert heard() == []
    assert client.zscore(keys.OPEN, id) and not client.exists(keys.WEBHOOKS)
    assert client.hget("rq:worker:w", "successful_job_count") is None


def test_a_picture_that_ends_again_is_called_back_again_from_the_first_try(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7", notes={"callback_url": "https://x"}).id
    for number in (1, 2):
        end(store, *claim(store))
        due = store.due_webhook(60, 8)
        assert due and (due.id, due.end, due.tries) == (id, number, 1)
        store.end_webhook(due, "delivered")
        assert client.hget(keys.callback(id), "outcome") == b"delivered"
        client.hset(keys.job(id), "status", "queued")
        client.lpush("rq:queue:digitq", id)


def test_the_stream_of_ends_forgets_what_has_expired(short: Store, client: redis.Redis) -> None:
    for n in range(300):  # it is trimmed by whole nodes
        client.xadd("digitq:ended", {"pictures": "old"}, id=f"{1000 + n}-0")
    short.submit(b"7")
    finish(short)
    assert client.xlen("digitq:ended") < 200


def test_the_state_that_a_client_polls_is_terminal_with_the_lease_still_there(
    store: Store, client: redis.Redis
) -> None:
    """Leases are removed last: a job that has ended under its lease is not run again."""
    id = store.submit(b"7").id
    [one] = claim(store)
    end(store, one)
    client.zadd("rq:wip:digitq", {f"{id}:{one.execution}": 1})
    assert store.sort_out_leases(keys.QUEUES) == 0
    assert (store.fetch(id).state, client.exists("rq:wip:digitq", "rq:queue:digitq")) == (State.SUCCEEDED, 0)
    assert json.loads(client.hget(keys.job(id), "digitq_found"))["digit"] == 7
