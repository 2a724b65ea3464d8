"""Tests of the small definitions that the scripts on Redis share (`shared/scripts/parts/basics.lua`)."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from shared import keys, redis_scripts
from shared.batches import Batches
from shared.chunks import Chunk
from shared.redis_scripts import FOLDER
from shared.store import Store

BASICS = (FOLDER / "parts" / "basics.lua").read_text()


@pytest.fixture
def lua(client: redis.Redis) -> Callable[..., Any]:
    """Runs Lua after these definitions, with ARGV[2] and so on; returns its answer."""
    return lambda text, *values: client.eval(f"{BASICS}\n{text}", 0, "{}", *values)


def test_times_are_formatted_as_the_calendar_has_them(lua: Callable[..., Any]) -> None:
    edges = ["1970-01-01", "1999-12-31", "2000-02-28", "2000-02-29", "2000-03-01", "2023-02-28", "2023-03-01",
             "2024-02-29", "2024-03-31", "2024-08-31", "2024-12-31",
             "2025-01-01", "2100-02-28", "2100-03-01", "2400-02-29"]  # fmt: skip
    days = [int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) for day in edges]
    seconds = [at for day in days for at in (day, day + 86399)]
    seconds += [random.Random(7).randrange(2**32) for _ in range(200)]
    found = lua("local all = {} for i = 2, #ARGV do all[i - 1] = iso(tonumber(ARGV[i]), 42) end return all", *seconds)
    expected = [datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000042Z") for at in seconds]
    assert [one.decode() for one in found] == expected


def test_a_key_of_another_type_is_none_and_any_other_error_stops_the_script(
    lua: Callable[..., Any], client: redis.Redis
) -> None:
    client.set("text", "x")
    assert lua("return {try('HGET', 'text', 'f') == nil and 1 or 0, try('GET', 'text')}") == [1, b"x"]
    with pytest.raises(redis.ResponseError, match="integer"):
        lua("return try('INCR', 'text')")


def test_a_key_lives_a_tenth_longer_than_needed_or_half_a_minute(lua: Callable[..., Any], client: redis.Redis) -> None:
    assert lua("return {slack(9), slack(10), slack(300), slack(3000)}") == [0, 1, 30, 30]
    for key, before in (("short", 50), ("just", 100), ("long", 101), ("for ever", 0)):
        client.set(key, "x", ex=before or None)
        lua("extend(ARGV[2], 100)", key)
    assert [client.ttl(key) for key in ("short", "just", "long", "for ever")] == [110, 110, 101, 110]


def test_a_hash_that_cannot_expire_is_not_left_behind(lua: Callable[..., Any], client: redis.Redis) -> None:
    with pytest.raises(redis.ResponseError):
        lua("set_hash('h', 'no number', 'f', '1')")
    assert not client.exists("h")
    lua("set_hash('h', 7, 'f', '1')")
    assert (client.hgetall("h"), client.ttl("h")) == ({b"f": b"1"}, 7)


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 2500])
def test_any_number_of_values_is_passed_on_a_thousand_at_a_time(
    count: int, lua: Callable[..., Any], client: redis.Redis
) -> None:
    text = "local v, n = {}, {} for i = 1, tonumber(ARGV[2]) do v[i] = i end "
    sizes = lua(text + "in_slices(v, function(...) n[#n + 1] = select('#', ...) end) return n", count)
    assert sizes == [1000] * (count // 1000) + [count % 1000] * (count % 1000 > 0)
    lua(text + "for_each('SADD', {s = v})", count)
    assert client.scard("s") == count
    client.hset("h", mapping={"1": "a", "2500": "z"})
    found = lua(text + "return fields_of('h', v)", count)
    assert len(found) == count and found[:1] == [b"a"] * (count > 0) and found[2499:] == [b"z"] * (count == 2500)


def test_those_that_exist_are_found_whether_all_some_or_none_do(lua: Callable[..., Any], client: redis.Redis) -> None:
    ids = [str(n) for n in range(1500)]
    text = "local v = {} for i = 2, #ARGV do v[i - 1] = ARGV[i] end return those_with('a:', v, ':z')"
    assert lua(text, *ids) == []
    client.mset({f"a:{id}:z": "x" for id in ids[::2]})
    assert [int(one) for one in lua(text, *ids)] == list(range(0, 1500, 2))
    client.mset({f"a:{id}:z": "x" for id in ids})
    assert len(lua(text, *ids)) == 1500


@pytest.mark.parametrize(
    ("state", "opened", "ended"),
    [("queued", 1, 0), ("running", 1, 0), ("finished", 0, 1), ("failed", 0, 1), ("canceled", 0, 1), ("stopped", 0, 1),
     ("started", 0, 0), ("deferred", 0, 0), ("cancelled", 0, 0)],
)  # fmt: skip
def test_states_of_batches_are_open_and_those_of_jobs_final(
    state: str, opened: int, ended: int, lua: Callable[..., Any]
) -> None:
    assert lua("return {is_open(ARGV[2]) and 1 or 0, has_ended(ARGV[2]) and 1 or 0}", state) == [opened, ended]


@pytest.mark.parametrize(
    ("description", "ours"),
    [("digitq.tasks.classify('x')", 1), ("worker.tasks.classify('x')", 1), ("digitq.tasks.classify_chunk('x')", 0),
     ("digits.tasks.classify('x')", 0), ("digitq.tasks.classif", 0), ("", 0)],
)  # fmt: skip
def test_a_picture_is_known_by_the_function_that_its_job_calls(
    description: str, ours: int, lua: Callable[..., Any]
) -> None:
    assert lua("return {is_picture(ARGV[2]) and 1 or 0, is_picture(nil) and 1 or 0}", description) == [ours, 0]


def test_a_job_that_never_ran_has_no_attempt(lua: Callable[..., Any]) -> None:
    for text, run in ((b"3:abc", [3, b"abc"]), (b"3:", [3, b""]), (b"x", [0, b""]), (b"", [0, b""])):
        assert lua("return {run_of(ARGV[2])}", text) == run
    assert lua("return {run_of(nil)}") == [0, b""]


def test_jobs_taken_back_deep_in_a_queue_do_not_count_in_its_length(
    lua: Callable[..., Any], client: redis.Redis
) -> None:
    assert lua("return queue_length('q')") == 0
    client.rpush(keys.queue("q"), *range(5))
    assert lua("return queue_length('q')") == 5
    client.sadd(keys.skipped("q"), *range(3))
    assert lua("return queue_length('q')") == 2
    client.sadd(keys.skipped("q"), *range(9))
    assert lua("return queue_length('q')") == 0


def test_a_lease_is_held_until_its_margin_before_its_end(lua: Callable[..., Any], client: redis.Redis) -> None:
    now = float(lua("return STAMP"))
    client.zadd(keys.running("q"), {"m": now + 100})
    text = "return {held('q', 'm', tonumber(ARGV[2])) and 1 or 0, held('q', 'another', 0) and 1 or 0}"
    assert lua(text, 50) == [1, 0] and lua(text, 101) == [0, 0]


def test_values_are_noted_under_their_key_alone_or_in_pairs(lua: Callable[..., Any]) -> None:
    text = "local l = {} note(l, 'a', 1) note(l, 'a', 2, 3) note(l, 'b', 4) append(l.a, 5, 6) return {l.a, l.b}"
    assert lua(text) == [[1, 2, 3, 5, 6], [4]]


# ---------------------------------------------------------------------- keys, and batches that are read


def test_the_history_of_an_owner_is_no_other_ones() -> None:
    names = [keys.recent(""), keys.recent("a"), keys.recent_batches(""), keys.recent_batches("a"), keys.recent("b")]
    assert len(set(names)) == len(names) and keys.recent("") == keys.RECENT
    assert keys.QUEUES == ("digitq-high", "digitq", "digitq-low")
    assert keys.OTHER_NAMES == {
        keys.JOB_FUNCTION: "worker.tasks.classify",
        keys.CHUNK_FUNCTION: "worker.tasks.classify_chunk",
    }


def test_of_batches_that_are_read_together_each_has_its_own_answer(store: Store, client: redis.Redis) -> None:
    batches = Batches(store)
    ids = [batches.submit([Chunk(1, b"{}")]).id for _ in range(3)]
    client.set(keys.batch(ids[1]), "of another type")
    client.delete(keys.job(f"{ids[2]}-0"))  # as RQ's tools do
    answer = redis_scripts.register(client)["fetch_batch"](args=redis_scripts.arguments(ids=[*ids, "none"], ttl=100))
    assert [bool(one) for one in answer] == [True, False, True, False]
    states = [dict(zip(one[::2], one[1::2], strict=True)).get(b"state") for one in answer]
    assert states == [b"queued", None, b"finished", None]
