"""Failover: a replica replaces the primary, and accepted pictures are kept."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from producer import AsyncQueue, Queue
from shared import keys
from shared.addresses import without_password
from shared.batches import Batches
from shared.chunks import Chunk
from shared.connections.connection import Service, connect
from shared.connections.sentinel import Follower
from shared.errors import RedisUnavailable, SettingsError
from shared.settings import Settings
from shared.store import Store
from tests.compose.engine import PATIENT, Load
from tests.pictures import seven
from tests.stack import LEAN, up
from tests.waits import until
from verify.sentinels import Sentinels, Server, followed, free_ports, sentinels, wait_until


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="digitq-") as name:
        yield Path(name)


@pytest.fixture
def watched(folder: Path) -> Iterator[Sentinels]:
    with sentinels(folder) as all:
        yield all


def test_servers_that_do_not_find_each_other_are_not_left_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> bool:
        return False

    monkeypatch.setattr(Sentinels, "_sees_all", never)
    monkeypatch.setattr("verify.sentinels.SEEN_SECONDS", 0.1)
    with pytest.raises(AssertionError, match="not within"), sentinels(folder, 1):
        pass
    places = [Path(f"{one}/cwd") for one in Path("/proc").glob("[0-9]*")]
    assert [one for one in places if works_in(one, folder)] == []


def works_in(cwd: Path, folder: Path) -> bool:
    with suppress(OSError):
        return cwd.readlink().is_relative_to(folder)
    return False


def test_the_primary_dies_under_load_and_nothing_that_was_accepted_is_lost(
    watched: Sentinels, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "up").mkdir()
    with up(folder / "up", REDIS_URL=watched.url, DIGITQ_REPLICAS_ACK="1", **LEAN) as stack:
        with Load(stack.url, PATIENT) as load:
            load.goes_on()
            before = len(load.accepted)
            watched.primary.kill()
            elected = wait_until(lambda: watched.leader() != watched.primary.port, 15)
            again = elected + wait_until(lambda: len(load.accepted) > before + 4, 15)
            load.goes_on()
        print(f"another leads after {elected:.1f} s, pictures are accepted after {again:.1f} s; {before} were before")
        assert again < 15
        assert load.ends() == {"succeeded": len(load.accepted)}
        with Queue(watched.url) as queue:
            assert queue.submit(seven()).wait(10).digit == 7
        assert asyncio.run(read(watched.url)) == 7
        assert "listening again" not in caplog.text


def test_a_primary_that_is_demoted_under_load_takes_nothing_with_it(watched: Sentinels, folder: Path) -> None:
    (folder / "up").mkdir()
    with up(folder / "up", REDIS_URL=watched.url, DIGITQ_REPLICAS_ACK="1", **LEAN) as stack:
        with Load(stack.url, PATIENT) as load:
            load.goes_on()
            watched.failover()
            load.goes_on()
        assert load.ends() == {"succeeded": len(load.accepted)}
        client = watched.leading().client
        wait_until(lambda: any(one["cmd"] == "blmove" for one in client.client_list()), 20)  # the worker has come along


def test_who_hears_nothing_of_a_demotion_accepts_nothing_that_it_would_lose(
    watched: Sentinels, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_until(watched.whole, 20)
    store = Store(connect(watched.url), Settings(replicas_ack=1))
    accepted = [store.submit(seven()).id]
    for name in ("update", "hold"):
        monkeypatch.setattr(Follower, name, lambda *_: None)
    accepted.append(store.submit(seven()).id)
    old = watched.leading()
    watched.failover()
    assert old.client.role()[0] == b"master"  # which takes all that it is given
    for _ in range(3):
        with pytest.raises(RedisUnavailable):
            store.submit(seven())
    assert store.client.info("server")["tcp_port"] == old.port
    store.client.close()
    assert watched.leading().client.exists(*map(keys.job, accepted)) == 2


def test_a_replica_that_goes_holds_acceptance_up_until_the_sentinels_know(watched: Sentinels) -> None:
    wait_until(watched.whole, 20)
    store = Store(connect(watched.url), Settings(replicas_ack=1))
    store.submit(seven())
    watched.replicas[0].process.send_signal(signal.SIGSTOP)
    with pytest.raises(RedisUnavailable):  # it could still be promoted, and would not have it
        store.submit(seven())
    waited = wait_until(lambda: accepts(store), 30)
    print(f"a replica that hangs: accepted again after {waited:.1f} s")
    watched.replicas[0].process.send_signal(signal.SIGCONT)
    wait_until(watched.whole, 20)
    wait_until(lambda: accepts(store), 30)
    watched.replicas[0].kill()
    waited = wait_until(lambda: accepts(store), 30)
    print(f"a replica that dies: accepted again after {waited:.1f} s")
    store.client.close()


def accepts(store: Store) -> bool:
    with suppress(RedisUnavailable):
        return bool(store.submit(seven()))
    return False


def test_waiting_requests_listen_to_the_new_primary_before_the_old_one_is_demoted(watched: Sentinels) -> None:
    wait_until(watched.whole, 20)
    old = watched.leading()
    asyncio.run(listen(watched, old))
    assert old.client.role()[0] == b"master"


async def listen(watched: Sentinels, old: Server) -> None:
    def hear(server: Server, listeners: int) -> None:
        wait_until(lambda: server.client.pubsub_numsub(keys.EVENTS)[0][1] == listeners)

    async with AsyncQueue(watched.url) as queue:
        waiting = asyncio.create_task(queue.get((await queue.submit(seven())).id, wait=60))
        await asyncio.to_thread(hear, old, 1)
        await asyncio.to_thread(watched.failover)
        await asyncio.to_thread(hear, watched.leading(), 1)
        await asyncio.to_thread(hear, old, 0)
        waiting.cancel()


async def read(url: str) -> int | None:
    async with AsyncQueue(url) as queue:
        [read] = await queue.wait([await queue.submit(seven())], timeout=10)
        return read.digit


@pytest.fixture
def pair(folder: Path) -> Iterator[tuple[Server, Server]]:
    """A primary and its replica, and nobody who would change that."""
    first, second = free_ports(2)
    primary, replica = Server(folder / "0", first), Server(folder / "1", second, "--replicaof", "127.0.0.1", f"{first}")
    wait_until(lambda: followed(primary, 1))
    yield primary, replica
    primary.close()
    replica.close()


def test_without_a_replica_that_has_it_nothing_is_accepted(pair: tuple[Server, Server]) -> None:
    primary, replica = pair
    stores = [Store(connect(f"redis://127.0.0.1:{primary.port}"), Settings(replicas_ack=1)) for _ in range(2)]
    replica.process.send_signal(signal.SIGSTOP)
    for store in stores:  # the second only has to find it, and has itself written nothing
        with pytest.raises(RedisUnavailable):
            store.submit(seven(), idempotency_key="k")
        with pytest.raises(RedisUnavailable):
            Batches(store).submit([Chunk(1, b"{}")], idempotency_key="b")
    replica.process.send_signal(signal.SIGCONT)
    wait_until(lambda: followed(primary, 1))  # it has slept, and is behind
    id = stores[0].submit(seven(), idempotency_key="k").id
    batch = Batches(stores[0]).submit([Chunk(1, b"{}")], idempotency_key="b").id
    assert replica.client.exists(keys.job(id), keys.image(id), keys.batch(batch)) == 3
    for store in stores:
        store.client.close()


def test_a_server_that_will_not_write_for_want_of_replicas_is_unavailable(pair: tuple[Server, Server]) -> None:
    pair[0].client.config_set("min-replicas-to-write", 2)
    with connect(f"redis://127.0.0.1:{pair[0].port}") as client, pytest.raises(RedisUnavailable):
        Store(client, Settings()).submit(seven())


def test_no_call_reads_the_answer_to_one_that_took_too_long(
    pair: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Follower, "primary", lambda _: ("127.0.0.1", pair[0].port))
    monkeypatch.setattr(Follower, "admit", lambda *_: True)
    with connect("redis+sentinel://127.0.0.1:1/digitq", timeout=0.2, connections=1) as client:
        client.set("key", "value")
        with pytest.raises(redis.exceptions.TimeoutError):
            client.execute_command("BLPOP", "nothing", 1)  # answers after a second, with nothing
        until(lambda: not pair[0].client.info("clients")["blocked_clients"])
        assert client.get("key") == b"value"
        assert client.ping() is True


@pytest.mark.parametrize("url", ["redis+sentinel://a:1", "redis+sentinel://a/s", "redis+sentinel://a:1,b/s",
                                 "redis+sentinel://a:1/s/x", "redis+sentinel:///s"])  # fmt: skip
def test_a_url_that_names_no_sentinels_or_no_service_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="redis\\+sentinel://host:port,host:port/service"):
        connect(url)


def test_a_url_names_sentinels_service_database_and_user() -> None:
    service = Service.parse("redis+sentinel://me:p%40ss@a:1,[::1]:26379/main/2")
    assert service.sentinels == [("a", 1), ("::1", 26379)]
    assert (service.name, service.options) == ("main", {"db": 2, "username": "me", "password": "p@ss"})
    assert without_password("redis+sentinel://me:p@a:1,b:2/main") == "redis+sentinel://me:***@a:1,b:2/main"
