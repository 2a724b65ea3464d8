"""The fake server does with scripts what Redis does; also run on the real one."""

from __future__ import annotations

import pytest
import redis

CAUGHT = """#!lua
local reply = redis.pcall('HSET', KEYS[1], 'a', '1')
local done, why = pcall(redis.call, 'HSET', KEYS[1], 'a', '1')
return {reply.err, done and 1 or 0, why}
"""


def test_an_error_of_a_command_is_a_table_in_an_answer_and_text_where_it_is_caught(client: redis.Redis) -> None:
    client.set("word", "x")
    caught, done, raised = client.eval(CAUGHT, 1, "word")
    assert caught.startswith(b"WRONGTYPE") and raised.startswith(b"WRONGTYPE") and not done


def test_an_error_that_no_script_catches_is_the_answer(client: redis.Redis) -> None:
    client.set("word", "x")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.eval("#!lua\nreturn redis.call('HGET', KEYS[1], 'a')", 1, "word")
    with pytest.raises(redis.ResponseError, match="concatenate a nil value"):
        client.eval("#!lua\nreturn 'a' .. nil", 0)


def test_a_script_without_writes_may_not_write(client: redis.Redis) -> None:
    read_only = "#!lua flags=no-writes\nreturn redis.call('SET', KEYS[1], 'x')"
    with pytest.raises(redis.ResponseError, match="read-only"):
        client.eval(read_only, 1, "word")
    assert client.get("word") is None
    client.eval("#!lua\nreturn redis.call('SET', KEYS[1], 'x')", 1, "word")
    assert client.get("word") == b"x"


def test_numbers_and_missing_values_travel_as_in_redis(client: redis.Redis) -> None:
    client.zadd("scores", {"a": 1.5})
    script = (
        "#!lua\nreturn {redis.call('ZSCORE', KEYS[1], 'a'), redis.call('ZSCORE', KEYS[1], 'b') == false and 1, 2.9}"
    )
    assert client.eval(script, 1, "scores") == [b"1.5", 1, 2]
