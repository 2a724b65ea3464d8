"""Clients behind a sub-path."""

from __future__ import annotations

from dataclasses import replace

from producer import Client
from shared.store import Store
from tests.pictures import seven
from tests.web import sevens
from tests.web import web as served

ROOT = "/digits"


def test_clients_take_the_sub_path_in_their_url(store: Store) -> None:
    rooted = Store(store.client, replace(store.settings, root_path=ROOT))
    with served(rooted) as server, sevens(store), Client(server.url + ROOT) as client:
        assert client.submit(seven()).wait(timeout=10).digit == 7
        batch = client.submit_batch([seven()])
        assert [row["index"] for row in batch.results()] == [0]
    assert {call.split()[1].split("/")[1] for call in server.calls} == {"digits"}
