"""Connections to Redis that stay open and pass nothing any more, as behind a proxy that has lost its other end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from producer import AsyncQueue
from producer.serving import waiting
from producer.serving.blocking import BlockingWaiting
from shared import ROOT, keys
from shared.connections.connection import connect
from shared.errors import RedisUnavailable
from shared.prediction import State
from shared.runtime import health
from shared.runtime.health import is_healthy
from shared.settings import Settings
from shared.store import Store
from tests.pictures import seven
from tests.stack import LEAN
from tests.waits import until
from tests.web import free_port, sevens
from verify.deaf import told
from verify.proxy import Proxy
from verify.stack import running
from verify.workload import pictures
from worker.queue.heartbeat import Heartbeat
from worker.queue.oom_retry import OomRetryRedis
from worker.queue.wakeup import Wakeup

#: Seconds that anything may take on a busy machine; the goal for a subscription is ten.
PATIENCE = 45


@pytest.fixture
def proxy(redis_url: str, client: redis.Redis) -> Iterator[Proxy]:
    """In front of the session's server."""
    with closing(Proxy(Path(redis_url.removeprefix("unix://")))) as proxy:
        yield proxy


@pytest.fixture
def behind(proxy: Proxy, settings: Settings) -> Iterator[Store]:
    """The store as a web process has it, through the proxy."""
    url = f"redis://127.0.0.1:{proxy.port}"
    with connect(url) as client:
        yield Store(client, replace(settings, redis_url=url))


def test_waiting_requests_are_notified_again_after_a_subscription_went_deaf(
    proxy: Proxy, behind: Store, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LOOK_AGAIN_SECONDS", 3600.0)  # only the subscription can tell
    with closing(BlockingWaiting(behind)) as waiting_, ThreadPoolExecutor() as pool:

        def reads() -> bool:
            """Return True if requests are answered; the first ones on a dead connection are not."""
            with suppress(RedisUnavailable):
                return bool(waiting_.fetch(first))
            return False

        def told() -> float:
            """Seconds from the end of a picture until a waiting client is told."""
            id = store.submit(seven()).id
            waits = pool.submit(waiting_.fetch, id, PATIENCE)
            until(lambda: id in ((waiting_._waiting and waiting_._waiting._waiters) or ()), PATIENCE)
            time.sleep(0.05)  # nothing else tells that it has looked, and seen that nothing has ended
            with sevens(store):
                until(lambda: store.fetch(id).state is State.SUCCEEDED, PATIENCE)
                at = time.monotonic()
                assert waits.result(PATIENCE).state is State.SUCCEEDED
                return time.monotonic() - at

        first = store.submit(seven()).id
        told()
        proxy.deafen()
        until(lambda: _answers(behind) and reads(), PATIENCE)
        healed, usual = told(), told()
    print(f"told after {healed:.1f} s, then after {usual:.2f} s")
    assert healed < PATIENCE - 10


def _answers(store: Store) -> bool:
    with suppress(redis.RedisError):
        return bool(store.client.ping())
    return False


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_quiet_subscription_that_answers_is_left_alone(
    protocol: int, proxy: Proxy, store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.connections.liveness.PING_SECONDS", 0.1)
    store.client.config_resetstat()

    def answered() -> int:
        stats: Any = store.client.info("commandstats")
        return int(stats.get("cmdstat_ping", {"calls": 0})["calls"])

    with (
        connect(f"redis://127.0.0.1:{proxy.port}?protocol={protocol}") as client,
        closing(BlockingWaiting(Store(client, store.settings))) as waiters,
        ThreadPoolExecutor() as pool,
    ):
        waits = pool.submit(waiters.fetch, store.submit(seven()).id, PATIENCE)
        until(lambda: answered() >= 3, PATIENCE)
        with sevens(store):
            assert waits.result(PATIENCE).state is State.SUCCEEDED
    assert "listening again" not in caplog.text


def test_an_async_queue_is_told_again_after_its_subscription_went_deaf(
    proxy: Proxy, behind: Store, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LOOK_AGAIN_SECONDS", 3600.0)

    async def run() -> float:
        async with AsyncQueue(behind.settings.redis_url) as queue:
            first = await queue.submit(seven())
            with sevens(store):
                assert (await queue.result(first, timeout=PATIENCE)).digit == 7
            proxy.deafen()
            at = time.monotonic()
            second = await queue.submit(seven())  # its retries find a connection that passes
            waits = asyncio.create_task(queue.get(second.id, wait=PATIENCE))
            await asyncio.to_thread(until, lambda: queue._waiting and queue._waiting[1]._waiters)
            with sevens(store):
                assert (await waits).digit == 7
            return time.monotonic() - at

    assert asyncio.run(run()) < PATIENCE


def test_a_worker_that_waits_for_work_notices_that_its_connections_are_dead(
    proxy: Proxy, behind: Store, store: Store
) -> None:
    with closing(Wakeup(behind.client, [keys.QUEUES[0]])) as wakeup:
        wakeup.wait(0.05)
        proxy.deafen()

        def gives_up() -> bool:
            try:
                wakeup.wait(0.2)
            except redis.TimeoutError:
                return True
            return False

        until(gives_up, PATIENCE)
        wakeup.wait(0.05)
        threading.Timer(0.3, store.client.rpush, (keys.queue(keys.QUEUES[0]), "x")).start()
        start = time.monotonic()
        wakeup.wait(PATIENCE)
        assert time.monotonic() - start < PATIENCE


def test_a_wait_without_work_is_no_dead_connection(behind: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wakeup, "SERVER_TIMEOUT", 1)
    with closing(Wakeup(behind.client, [keys.QUEUES[0]])) as wakeup:
        end = time.monotonic() + 4
        while time.monotonic() < end:
            wakeup.wait(1)


def test_a_worker_hears_rqs_commands_again(proxy: Proxy, behind: Store, store: Store) -> None:
    heard: list[Any] = []
    pubsub = OomRetryRedis(behind.client).pubsub()
    pubsub.subscribe(**{"rq:pubsub:w": heard.append})
    thread = pubsub.run_in_thread(60, daemon=True, exception_handler=lambda *_: time.sleep(0.05))
    try:

        def hears() -> bool:
            before = len(heard)
            store.client.publish("rq:pubsub:w", "x")
            time.sleep(0.05)  # that nothing comes takes time
            return len(heard) > before

        until(hears, PATIENCE)
        proxy.deafen()
        assert not hears()
        until(hears, PATIENCE)
    finally:
        thread.stop()
        thread.join(10)


def test_one_dead_connection_takes_its_idle_neighbours_along(proxy: Proxy, behind: Store) -> None:
    pool = behind.client.connection_pool
    _use(pool, 10)
    proxy.deafen()
    assert not _answers(behind)
    assert _use(pool, 10) == [b"PONG"] * 10


def _use(pool: redis.ConnectionPool, count: int) -> list[bytes]:
    """Return the answers to a PING on `count` connections at once."""
    connections = [pool.get_connection() for _ in range(count)]
    try:
        for connection in connections:
            connection.send_command("PING")
        return [connection.read_response() for connection in connections]
    finally:
        for connection in connections:
            pool.release(connection)


@pytest.fixture
def sign(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A place of its own for the sign of life, which is good for three seconds."""
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.setattr(tempfile, "tempdir", name)
        monkeypatch.setattr(health, "SILENT_SECONDS", 3.0)
        yield


@pytest.mark.usefixtures("sign")
@pytest.mark.parametrize("new", [False, True])
def test_a_worker_is_unhealthy_while_its_redis_is_deaf_and_recovers_afterwards(
    new: bool, proxy: Proxy, behind: Store, store: Store
) -> None:
    """With old connections dead alone it heals before it is unhealthy; with new ones dead too it cannot."""
    heartbeat = Heartbeat(behind, "w", "", lambda: None)
    heartbeat.start()
    try:
        until(lambda: is_healthy("worker", behind.settings), PATIENCE)
        proxy.deafen(new)
        if new:
            until(lambda: not is_healthy("worker", behind.settings), PATIENCE)
            proxy.hear()
        else:
            store.client.zrem(keys.WORKERS, "w")
            until(lambda: store.client.zscore(keys.WORKERS, "w"), PATIENCE)
        until(lambda: is_healthy("worker", behind.settings), PATIENCE)
    finally:
        heartbeat.stop()


@pytest.mark.usefixtures("sign")
def test_a_worker_whose_redis_is_away_is_healthy(settings: Settings) -> None:
    with connect(f"redis://127.0.0.1:{free_port()}") as nowhere:
        Heartbeat(Store(nowhere, settings), "w", "", lambda: None).beat()
    assert is_healthy("worker", settings)


@pytest.mark.usefixtures("sign")
def test_a_worker_whose_heartbeat_is_refused_is_healthy(store: Store) -> None:
    store.client.set(keys.WORKERS, "not a set")
    Heartbeat(store, "w", "", lambda: None).beat()
    assert is_healthy("worker", store.settings)


def test_packets_that_vanish_make_a_worker_unhealthy_and_everything_heals_when_they_pass_again(
    cli_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With real processes and the real bounds: unhealthy half a minute after the last heartbeat."""
    for name, value in LEAN.items():
        monkeypatch.setenv(name, value)
    picture = next(one for one in pictures() if one.expected == 7)
    with tempfile.TemporaryDirectory(prefix="digitq-") as name, running(Path(name), 1) as stack:

        def healthy() -> bool:
            command = [sys.executable, "-m", "digitq", "healthcheck", "worker"]
            return subprocess.run(command, cwd=ROOT, env={**cli_env, "TMPDIR": name}, check=False).returncode == 0

        until(healthy, 60)
        stack.proxy.deafen(new=True)
        until(lambda: not healthy(), 120)
        [sign] = Path(name).glob("digitq-worker-*")
        silent = time.time() - sign.stat().st_mtime
        stack.proxy.hear()
        green = until(healthy, 60)
        assert told(stack.url, picture, 60)
        assert stack.deaths() == {}
    print(f"red {silent:.0f} s after the last heartbeat, green again {green:.1f} s after packets passed")
    assert silent >= health.SILENT_SECONDS
