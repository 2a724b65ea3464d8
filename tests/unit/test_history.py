"""The history of predictions: counted, filtered and paged; and the list of batches."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
import redis

from shared import history, keys
from shared.batches import Batches
from shared.chunks import Item, packed
from shared.claims import Finish, Ran
from shared.prediction import Outcome
from shared.store import Store
from shared.submission import Caller
from tests.api import PICTURE, answer_all, is_problem
from tests.fakes import outcome
from tests.pages import PAGE, number
from tests.pictures import seven
from tests.served import WebClient, site


@pytest.fixture
def web(store: Store) -> Any:
    with site(store) as client:
        yield client


def answered(store: Store, *outcomes: Outcome) -> list[str]:
    """Submit a picture for each outcome, and answer it; return the ids, newest first."""
    ids = []
    for one in outcomes:
        ids.append(store.submit(b"7").id)
        [claim] = store.claim("w", keys.QUEUES, 1, "n")
        store.finish("w", [Finish(claim, "e30=", "", one)], Ran("m", "p", 1, 0.4, 0.9))
    return ids[::-1]


def found(web: WebClient, query: str = "") -> tuple[list[str], int, int]:
    page = web.get(f"/v1/predictions?limit=100{query}").get_json()
    return [one["id"] for one in page["predictions"]], page["total"], page["matching"]


def test_predictions_are_found_by_digit_decision_and_state(web: WebClient, store: Store) -> None:
    page = Outcome(None, None, None, "review", (), b"", page=PAGE)
    unread = replace(page, decision="reject", page=replace(PAGE, numbers=(number("8", 5, 5, "reject"),)))
    four, doubtful, page_id, rejected = answered(
        store, unread, page, replace(outcome(3), decision="review"), outcome(4)
    )
    waiting = store.submit(b"7").id
    everything = [waiting, four, doubtful, page_id, rejected]
    assert found(web) == (everything, 5, 5)
    assert found(web, "&digit=4") == ([four, page_id], 5, 2)  # 735426 has a 4
    assert found(web, "&digit=0") == ([page_id], 5, 1)
    assert found(web, "&digit=8") == ([], 5, 0)
    assert found(web, "&digit=3&decision=review") == ([doubtful, page_id], 5, 2)
    assert found(web, "&decision=reject") == ([rejected], 5, 1)
    assert found(web, "&state=queued,running") == ([waiting], 5, 1)
    assert found(web, "&state=succeeded") == (everything[1:], 5, 4)


@pytest.mark.parametrize("query", ["digit=10", "digit=x", "decision=maybe", "state=open", "state=queued,open"])
def test_a_filter_that_means_nothing_is_refused(web: WebClient, query: str) -> None:
    is_problem(web.get(f"/v1/predictions?{query}"), 400, "bad_request")


def test_a_deleted_prediction_is_neither_counted_nor_kept_in_the_history(
    web: WebClient, store: Store, client: redis.Redis
) -> None:
    kept, deleted = answered(store, outcome(7), outcome(7))
    web.delete(f"/v1/predictions/{deleted}")
    assert found(web) == found(web, "&digit=7") == ([kept], 1, 1)
    assert client.zrange(keys.RECENT, 0, -1) == [kept.encode()]
    client.delete(keys.job(kept))  # expired
    assert found(web)[1:] == found(web, "&digit=7")[1:] == (0, 0)


def test_what_is_put_back_is_looked_at_again(web: WebClient, store: Store, client: redis.Redis) -> None:
    [id] = answered(store, outcome(7))
    assert found(web, "&digit=7")[0] == [id]
    client.hset(keys.job(id), "status", "queued")
    assert found(web, "&digit=7")[0] == [] and found(web, "&state=queued")[0] == [id]


@pytest.mark.parametrize(("most", "kept"), [(2, 2), (10, 3)])
def test_traits_are_kept_for_a_bounded_number_of_predictions_that_have_ended(
    most: int, kept: int, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "REMEMBERED", most)
    looked = history.History(store)
    answered(store, outcome(1), outcome(2), outcome(3))
    store.submit(b"7")
    monkeypatch.setattr(looked, "_known", lambda one: None)  # all are read
    for _ in range(2):
        assert looked.page(10, None, "", history.Filter(digit=1)).matching == 1
        assert len(looked._remembered) == kept


def test_a_filtered_history_is_paged_in_the_order_of_the_whole(
    web: WebClient, store: Store, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MARKS_AT_ONCE", 3)
    monkeypatch.setattr(history, "RECORDS_AT_ONCE", 2)
    ids = answered(store, *(outcome(7 if n % 2 else 4) for n in range(14)))
    client.zadd(keys.RECENT, dict.fromkeys(ids, 1_769_860_800_118_000.0))  # all at the same time
    wanted = [id for id in found(web)[0] if id in found(web, "&digit=7")[0]]
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = web.get(f"/v1/predictions?digit=7&limit=3{cursor and f'&cursor={cursor}'}").get_json()
        seen += [one["id"] for one in page["predictions"]]
        cursor = page["next_cursor"]
        assert len(page["predictions"]) == 3 or cursor is None
    assert seen == wanted


# ---------------------------------------------------------------------- batches


def test_batches_are_listed_newest_first_and_in_pages(web: WebClient) -> None:
    ids = [send(web, f"?filename=/etc/{n}.zip")["id"] for n in range(5)]
    first = web.get("/v1/batches?limit=3").get_json()
    second = web.get(f"/v1/batches?limit=3&cursor={first['next_cursor']}").get_json()
    assert [one["id"] for one in first["batches"] + second["batches"]] == ids[::-1]
    assert second["next_cursor"] is None
    assert (first["batches"][0]["filename"], first["batches"][0]["total"]) == ("4.zip", 2)
    for query in ("limit=0", "limit=101", "cursor=x"):
        is_problem(web.get(f"/v1/batches?{query}"), 400, "bad_request")


def test_a_batch_in_the_list_tells_how_far_it_is_and_is_left_out_when_it_is_gone(
    web: WebClient, store: Store, client: redis.Redis
) -> None:
    expired, deleted, cancelled = (send(web)["id"] for _ in range(3))
    for id in (deleted, deleted, cancelled):  # cancelled first, and then deleted
        web.delete(f"/v1/batches/{id}")
    client.delete(keys.batch(expired))
    [one] = web.get("/v1/batches").get_json()["batches"]
    assert (one["id"], one["state"], one["cancelled"]) == (cancelled, "cancelled", 2)


def test_each_key_lists_its_own_batches_only(store: Store) -> None:
    with site(store, api_keys="alice:key-of-alice-123456,batches:key-of-batches-1234") as web:
        alice, other = ({"X-API-Key": key} for key in ("key-of-alice-123456", "key-of-batches-1234"))
        id = send(web, headers=alice)["id"]
        picture = web.post("/v1/predictions", data=seven(), headers=other, **PICTURE).get_json()["id"]
        assert [one["id"] for one in web.get("/v1/batches", headers=alice).get_json()["batches"]] == [id]
        assert web.get("/v1/batches", headers=other).get_json()["batches"] == []
        assert web.get("/v1/batches").status_code == 401
        assert [one["id"] for one in web.get("/v1/predictions", headers=other).get_json()["predictions"]] == [picture]


def test_the_list_of_batches_is_bounded_and_expires(store: Store, client: redis.Redis) -> None:
    name, ttl = keys.recent_batches("bob"), store.settings.result_ttl_seconds
    client.zadd(name, {f"old-{n}": n for n in range(10_050)})
    for _ in range(200):  # it is trimmed by one of sixteen
        Batches(store).submit(packed([Item("", seven())]), 1, caller=Caller("bob", "bob"))
        if client.zcard(name) <= 10_000:
            break
    assert client.zcard(name) == 10_000
    assert 2 * ttl <= client.ttl(name) <= 2.2 * ttl


def test_a_batch_without_its_name_has_none(web: WebClient, store: Store) -> None:
    id = send(web)["id"]
    answer_all(store)
    assert web.get(f"/v1/batches/{id}").get_json()["filename"] is None


def send(web: WebClient, query: str = "", **more: Any) -> Any:
    form = {"file": [(BytesIO(seven()), "a.png"), (BytesIO(seven(56)), "b.png")]}
    return web.post(f"/v1/batches{query}", data=form, **more).get_json()
