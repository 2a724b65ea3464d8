"""The scripts and arguments as sent to Redis."""

from __future__ import annotations

import json

import pytest
import redis

from shared import redis_scripts


def test_a_script_gets_the_definitions_that_it_uses_and_no_others() -> None:
    finish, fetch = redis_scripts.source("finish"), redis_scripts.source("fetch")
    assert all(f"local function {name}(" in finish for name in ("announce", "call_back", "extend"))
    assert "local function announce(" not in fetch
    assert "'TIME'" not in fetch  # it needs no clock, and asks for none
    assert fetch.startswith("#!lua flags=no-writes\n")


def test_texts_that_all_rows_share_are_told_once() -> None:
    rows = [{"id": id, "queue": "q", "image": b"7", "owner": owner} for id, owner in (("a", "x"), ("b", "y"))]
    told, *values = redis_scripts.arguments(rows, ttl=5)
    assert json.loads(told) == {"ttl": 5, "queue": "q", "columns": ["id", "image", "owner"]}
    assert values == ["a", b"7", "x", "b", b"7", "y"]


@pytest.mark.parametrize("ids", [[], ["a"], ["a", "a"], ["a", "b", "c"]])
def test_a_script_reads_each_row_by_column(ids: list[str], client: redis.Redis) -> None:
    head = redis_scripts.source("finish").partition("local ttl, claims")[0].removeprefix("#!lua flags=allow-oom\n")
    script = "local found = {} for i, one in ipairs(rows()) do found[i] = one.id .. one.queue end return found"
    args = redis_scripts.arguments([{"id": id, "queue": "q"} for id in ids])
    assert client.eval(head + script, 0, *args) == [f"{id}q".encode() for id in ids]
