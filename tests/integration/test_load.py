"""The cost of reading the load, and `digitq status`."""

from __future__ import annotations

from typing import Any

import redis
from click.testing import CliRunner

import digitq
from shared import keys
from shared.store import Store
from tests.pictures import seven
from tests.web import web


def test_a_reading_takes_as_many_commands_with_many_waiting_as_with_few(store: Store, client: redis.Redis) -> None:
    store.renew("w", [], "{}")
    commands = []
    for waiting in (1, 20_000):
        client.rpush(keys.queue("digitq"), *map(str, range(waiting)))
        store.load()
        client.config_resetstat()
        store.load()
        stats: Any = client.info("commandstats")
        commands.append(sum(s["calls"] for n, s in stats.items() if "config" not in n))
        assert not any(word in " ".join(stats) for word in ("lrange", "zrange|", "scan", "keys"))
    assert commands[0] == commands[1] <= 30


def test_digitq_status_tells_it_to_people_and_to_scripts(store: Store) -> None:
    store.submit(seven())
    with web(store) as site:
        asked = ["status", "--url", site.url]
        text = CliRunner().invoke(digitq.main, asked, catch_exceptions=False).output
        body = CliRunner().invoke(digitq.main, [*asked, "--json"], catch_exceptions=False).output
    assert "1 waiting" in text and "- needed for the goal of 1.0 s" in text and "0 alive" in text
    assert '"queued": 1, "running": 0' in body
