"""Streams and connections on the real server: what breaks off says so, and what is silent disturbs nobody."""

from __future__ import annotations

import asyncio
import http.client
import os
import resource
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

import httpx2
import pytest

from producer import NEVER, AsyncClient, Client
from producer.serving.server import CONNECTIONS, connections_of
from producer.web.app import store_of
from shared import ROOT, keys
from shared.batches import Batches
from shared.errors import Expired, Incomplete, RedisUnavailable
from shared.settings import Settings
from shared.standalone.up import http_ok
from shared.store import Store
from tests.pictures import idx, seven
from tests.tools import lacking, tool

#: More than one piece of an answer.
COUNT = 3000


@dataclass
class Server:
    port: int
    store: Store

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def batch(self, damaged: bool) -> str:
        """One of COUNT pictures; the last results of a damaged one cannot be read."""
        with Client(self.url) as client:
            id = client.submit_batch(idx(COUNT)).id
        if damaged:
            self.store.client.hset(keys.results(f"{id}-{(COUNT - 1) // 256}"), "rows:0", "{")
        return id


@pytest.fixture(scope="module")
def port(redis_url: str) -> Iterator[int]:
    """That of a web process."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DIGITQ_")}
    env = {**kept, "REDIS_URL": redis_url, "DIGITQ_PORT": str(port)}
    with subprocess.Popen([sys.executable, "-m", "digitq", "web"], cwd=ROOT, env=env) as process:
        end = time.monotonic() + 30
        while not http_ok(f"http://127.0.0.1:{port}/healthz"):
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.05)
        yield port
        process.terminate()


@pytest.fixture
def server(port: int, store: Store) -> Server:
    return Server(port, store)


def test_results_that_cannot_all_be_sent_break_off(server: Server) -> None:
    whole, damaged = server.batch(False), server.batch(True)
    for kind in ("application/x-ndjson", "text/csv"):
        for id in (whole, damaged):
            with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
                connection.request("GET", f"/v1/batches/{id}/results", headers={"Accept": kind})
                answer = connection.getresponse()
                assert (answer.status, answer.headers["X-Total-Count"]) == (200, str(COUNT))
                if id == whole:
                    assert len(answer.read().splitlines()) == COUNT + (kind == "text/csv")
                else:
                    with pytest.raises(http.client.IncompleteRead):
                        answer.read()


def test_the_clients_raise_for_results_that_break_off(server: Server) -> None:
    whole, damaged = server.batch(False), server.batch(True)

    async def asked(id: str) -> int:
        async with AsyncClient(server.url, retry=NEVER) as client:
            return len(list(await client.results(id)))

    with Client(server.url, retry=NEVER) as client:
        assert len(list(client.results(whole))) == asyncio.run(asked(whole)) == COUNT
        with pytest.raises(RedisUnavailable, match="peer closed"):
            client.results(damaged)
    with pytest.raises(RedisUnavailable, match="peer closed"):
        asyncio.run(asked(damaged))


def test_curl_fails_for_results_that_break_off(server: Server) -> None:
    # Without chunks the end of a connection is that of a response, unless it is reset.
    for version, broken in (("--http1.1", 18), ("--http1.0", 56)):
        for damaged, code in ((False, 0), (True, broken)):
            url = f"{server.url}/v1/batches/{server.batch(damaged)}/results"
            command = [tool("curl"), "-sf", version, "-o", os.devnull, url]
            assert subprocess.run(command, check=False).returncode == code


def test_the_clients_raise_for_fewer_results_than_were_announced() -> None:
    def two_of_three(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, text='{"index": 0}\n{"index": 1}\n', headers={"X-Total-Count": "3"})

    transport = httpx2.MockTransport(two_of_three)

    async def asked() -> None:
        async with AsyncClient(retry=NEVER) as client:
            await client._http.aclose()
            client._http = httpx2.AsyncClient(base_url="http://x", transport=transport)
            await client.results("id")

    with Client(retry=NEVER) as client:
        client._operations._http.close()
        client._operations._http = httpx2.Client(base_url="http://x", transport=transport)
        with pytest.raises(Incomplete, match="2 of 3"):
            client.results("id")
    with pytest.raises(Incomplete, match="2 of 3"):
        asyncio.run(asked())


def test_a_large_picture_is_sent_with_its_length(server: Server) -> None:
    picture = seven() + bytes(500_000)
    with httpx2.Client(base_url=server.url) as http_client:
        id = http_client.post("/v1/predictions", content=picture).json()["id"]
        found = http_client.get(f"/v1/predictions/{id}/image")
        assert found.content == picture and found.headers["Content-Length"] == str(len(picture))
        assert "Transfer-Encoding" not in found.headers
        assert http_client.get("/healthz").status_code == 200  # by the same connection


def test_results_of_a_batch_that_goes_while_they_are_read_are_an_error(store: Store, server: Server) -> None:
    batches = Batches(store)
    assert len(list(batches.results(server.batch(False)))) == COUNT
    id = server.batch(False)
    rows = batches.results(id)
    next(rows)
    store.client.delete(keys.batch(id), *(keys.results(f"{id}-{n}") for n in range(1, 12)))
    with pytest.raises(Expired):
        list(rows)


def test_silent_and_half_sent_connections_keep_nobody_waiting(server: Server) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        lacking("needs 4096 descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    half_body = b"POST /v1/predictions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 150000\r\n\r\n" + bytes(75_000)
    with ExitStack() as open_:
        for begin in [b""] * 1100 + [b"GET /healthz HTTP/1.1\r\nHost:"] * 100 + [half_body] * 100:
            one = open_.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=5))
            one.sendall(begin)
        assert httpx2.get(f"{server.url}/healthz", timeout=5).status_code == 200
        assert httpx2.post(f"{server.url}/v1/predictions", content=seven(), timeout=5).status_code == 202
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_listeners_that_disconnect_release_their_slots(server: Server) -> None:
    def statuses(count: int, open_: ExitStack) -> list[bytes]:
        found = []
        for _ in range(count):
            one = open_.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            one.sendall(b"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            found.append(one.recv(12)[9:])
        return found

    seats = Settings().web_threads // 4
    with ExitStack() as open_:
        assert statuses(seats + 1, open_) == [b"200"] * seats + [b"503"]
    end, free = time.monotonic() + 30, False
    while not free:
        with ExitStack() as open_:
            free = statuses(1, open_) == [b"200"]
        assert time.monotonic() < end
        time.sleep(0.05)


def test_broken_chunks_are_no_upload(server: Server) -> None:
    head = b"POST /v1/predictions HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as one:
        one.sendall(head + f"{len(seven()):x}\r\n".encode() + seven() + b"\r\nnonsense\r\n")
        assert one.recv(12) == b"HTTP/1.1 400"
    assert store_is_empty(server.store)


def store_is_empty(store: Store) -> bool:
    return not store.recent(1)[0]


def test_only_http_1_is_spoken(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as one:
        one.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">I", 4)[1:] * 3)
        assert one.recv(9)[3:4] != b"\x04"  # HTTP/2 begins with its settings


def test_there_are_fewer_connections_than_descriptors_and_more_of_redis_than_threads(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert connections_of(1_000_000) == CONNECTIONS
    for descriptors in (256, 1024, 20_000):
        assert connections_of(descriptors) * 2 <= descriptors
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("DIGITQ_WEB_THREADS", "300")
    assert store_of(Settings.from_env()).client.connection_pool.max_connections > 300
