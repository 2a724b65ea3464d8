"""A Redis that cannot serve: 503 everywhere, with the cause in words, while results can still be read."""

from __future__ import annotations

import resource
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from digitq.cli import told
from producer import NEVER, Client, Queue
from shared.batches import Batches
from shared.chunks import Item, packed
from shared.connections.connection import redis_errors
from shared.errors import MemoryFull, RedisUnavailable, WritesRefused
from shared.prediction import State
from shared.redis_server import server_check
from shared.settings import Settings
from shared.standalone.embedded_server import server_binary
from shared.store import Store, connect
from tests import fakes
from tests.conftest import own_server
from tests.pictures import seven
from tests.served import WebClient, site
from tests.waits import until
from tests.web import web
from worker.queue.batch_worker import BatchWorker


@pytest.fixture(scope="module")
def own_url() -> Iterator[str]:
    """A server whose configuration the tests change."""
    with own_server() as url:
        yield url


@pytest.fixture
def admin(own_url: str) -> Iterator[redis.Redis]:
    """The server's own operator; all is as before in the end."""
    client = connect(own_url, timeout=5)
    yield client
    client.replicaof("NO", "ONE")
    client.config_set("min-replicas-to-write", 0)
    client.config_set("maxmemory", 0)
    client.flushall()
    client.close()


@contextmanager
def site_of(store: Store) -> Iterator[WebClient]:
    """The web application on a store."""
    with site(store) as web:
        yield web


def refusals(store: Store) -> set[tuple[int, str, str]]:
    """Return the responses to an upload and to /readyz: status, code, detail."""
    with site_of(store) as site:
        answers = [
            site.post("/v1/predictions", data=seven(), content_type="image/png"),
            site.get("/readyz"),
        ]
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
    return {(answer.status_code, answer.get_json()["code"], answer.get_json()["detail"]) for answer in answers}


def make_full(client: redis.Redis) -> None:
    client.config_set("maxmemory", 1)


def make_replica(client: redis.Redis) -> None:
    client.replicaof("127.0.0.1", "1")


def want_replicas(client: redis.Redis) -> None:
    client.config_set("min-replicas-to-write", 1)


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (make_full, "The queue's memory is full"),
        (make_replica, "Redis is a replica that accepts no writes: a failover may be under way"),
        (want_replicas, "Redis has too few replicas connected to accept anything"),
    ],
    ids=["memory", "replica", "replicas missing"],
)
@pytest.mark.parametrize("looked", ["before", "after"])
def test_an_upload_and_readyz_say_what_is_wrong_with_redis(
    cause: Callable[[redis.Redis], None], words: str, looked: str, admin: redis.Redis, own_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(server_check, "KNOWN_SECONDS", 60.0 if looked == "before" else 0.0)
    store = Store(admin, Settings())
    store.check_server()
    cause(admin)
    assert refusals(store) == {(503, "redis_unavailable", words)}
    with web(store) as site, Client(site.url, retry=NEVER) as http, Queue(own_url, retry=NEVER) as queue:
        for submit in (http.submit, queue.submit):
            with pytest.raises(RedisUnavailable, match=words) as raised:
                submit(seven())
            assert told(raised.value) == f"digitq: The service is temporarily unavailable: {words}"


def test_a_user_without_a_right_and_a_wrong_password_are_told_apart_and_named_nowhere(
    admin: redis.Redis, own_url: str
) -> None:
    admin.acl_setuser(
        "poor", enabled=True, passwords=["+hunter2"], keys=["*"], channels=["*"], commands=["+get", "+time"]
    )
    told_apart = {
        "hunter2": "Redis's user lacks a right that digitq needs",
        "no": "Redis does not accept the user or the password",
    }
    for password, words in told_apart.items():
        with connect(f"{own_url}?username=poor&password={password}", timeout=5) as client:
            assert refusals(Store(client, Settings())) == {(503, "redis_unavailable", words)}
    admin.acl_deluser("poor")


def test_nobody_there_and_nobody_who_answers_are_told_apart(tmp_path: Path) -> None:
    nobody = Store(connect(f"unix://{tmp_path}/none.sock"), Settings())
    assert refusals(nobody) == {(503, "redis_unavailable", "Redis cannot be reached")}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        with connect(url, timeout=0.2) as client:
            answer = (503, "redis_unavailable", "Redis does not answer in time")
            assert refusals(Store(client, Settings())) == {answer}


PIPELINE = "Command # 1 (EVALSHA 1 2 hunter2) of pipeline caused error: "


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (redis.ResponseError("MISCONF Errors writing to the AOF file: No space left on device"), WritesRefused, "log"),
        (redis.ResponseError("MISCONF Redis is configured to save RDB snapshots, but"), WritesRefused, "disk is full"),
        (redis.ResponseError(PIPELINE + "NOREPLICAS Not enough good replicas to write."), WritesRefused, "replicas"),
        (redis.ResponseError(PIPELINE + "MISCONF Errors writing to the AOF file"), WritesRefused, "disk"),
        (redis.OutOfMemoryError(PIPELINE + "command not allowed"), MemoryFull, "memory is full"),
        (redis.BusyLoadingError("Redis is loading the dataset in memory"), RedisUnavailable, "still loading"),
        (redis.exceptions.MasterDownError("Link with MASTER is down"), RedisUnavailable, "lost its primary"),
        (redis.ResponseError("UNBLOCKED force unblock from blocking operation"), RedisUnavailable, "become a replica"),
        (redis.ResponseError("BUSY Redis is busy running a script."), RedisUnavailable, "busy with a long script"),
        (redis.ConnectionError("max number of clients reached"), RedisUnavailable, "no more connections"),
        (redis.exceptions.MaxConnectionsError("Too many connections"), RedisUnavailable, "are in use"),
        (redis.ResponseError("ACL failure in script: User web has no"), RedisUnavailable, "lacks a right"),
        (redis.sentinel.MasterNotFoundError("No master found for 'main'"), RedisUnavailable, "No sentinel knows"),
        (ConnectionResetError("reset by 10.0.0.1"), RedisUnavailable, "cannot be reached"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, Exception) else "",
)
def test_every_cause_has_its_words_and_no_others(error: Exception, kind: type[RedisUnavailable], words: str) -> None:
    with pytest.raises(RedisUnavailable, match=words) as raised, redis_errors():
        raise error
    assert type(raised.value) is kind
    assert raised.value.extensions["retry_after_seconds"] > 0
    assert not any(secret in str(raised.value) for secret in ("hunter2", "10.0.0.1", "main'", "web"))


def test_what_is_our_own_mistake_is_no_outage() -> None:
    with pytest.raises(redis.ResponseError), redis_errors():
        raise redis.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
    with pytest.raises(redis.ResponseError), redis_errors():  # whatever was sent along
        raise redis.ResponseError("Command # 1 (SET a MISCONF) of pipeline caused error: WRONGTYPE Operation")
    with pytest.raises(redis.DataError), redis_errors():
        redis.Redis().get_encoder().encode({"cannot": "be sent"})


# ---------------------------------------------------------------------- a disk that is full


class Server:
    """A server that logs every write, and whose files can be kept from growing as on a full disk."""

    def __init__(self, folder: Path) -> None:
        self.url, self._folder = f"unix://{folder}/redis.sock", folder
        self.process = self._start()

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        command = [server_binary(), "--port", "0", "--unixsocket", f"{self._folder}/redis.sock", "--save", "",
                   "--dir", str(self._folder), "--appendonly", "yes", "--logfile", f"{self._folder}/log",
                   *options]  # fmt: skip
        # Writing beyond the limit is an error then, as a full disk is, and no signal.
        return subprocess.Popen(command, restore_signals=False, preexec_fn=_ignore_file_size)

    def restart(self, *options: str) -> None:
        """kill -9, and another start at once."""
        self.process.kill()
        self.process.wait()
        self.process = self._start(*options)

    def fill_disk(self) -> None:
        """Every file is as large as it can be."""
        size = max(path.stat().st_size for path in self._folder.glob("appendonlydir/*"))
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def free_disk(self) -> None:
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _ignore_file_size() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


@pytest.fixture
def logging_server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="digitq-") as folder:
        server = Server(Path(folder))
        try:
            yield server
        finally:
            server.process.kill()
            server.process.wait()


def answers(client: redis.Redis) -> bool:
    with suppress(redis.RedisError):
        return bool(client.ping())
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")
def test_on_a_full_disk_uploads_and_readyz_are_refused_and_results_can_be_read(logging_server: Server) -> None:
    client = connect(logging_server.url, timeout=5)
    until(lambda: answers(client))
    store = Store(client, Settings())
    ended = store.submit(b"7")
    batch = Batches(store).submit(packed([Item("", b"7")]))
    BatchWorker(store, fakes.classify).work(burst=True)
    waiting = store.submit(b"7")
    logging_server.fill_disk()
    with suppress(redis.RedisError):
        client.set("x", bytes(10_000))
    words = "Redis cannot write its log: its disk is full or failing"
    until(lambda: _refused(client))
    assert refusals(store) == {(503, "redis_unavailable", words)}
    with site_of(store) as site:
        read = site.get(f"/v1/predictions/{ended.id}?wait=5")
        assert (read.status_code, read.get_json()["state"]) == (200, "succeeded")
        assert site.get(f"/v1/predictions/{ended.id}/image").status_code == 200
        assert site.get(f"/v1/predictions/{waiting.id}").get_json()["state"] == "queued"
        assert site.get(f"/v1/batches/{batch.id}").get_json()["succeeded"] == 1
        assert len(site.get(f"/v1/batches/{batch.id}/results").text.splitlines()) == 1
        assert len(site.get("/v1/predictions").get_json()["predictions"]) == 2
        assert site.get(f"/v1/predictions/{'x' * 24}").status_code == 404
        assert site.delete(f"/v1/predictions/{ended.id}").get_json()["detail"] == words
    logging_server.free_disk()
    until(lambda: not _refused(client))
    BatchWorker(store, fakes.classify).work(burst=True)
    assert store.fetch(waiting.id).state is State.SUCCEEDED
    client.close()


def _refused(client: redis.Redis) -> bool:
    try:
        client.set("x", "y")
    except redis.ResponseError:
        return True
    return False


# ---------------------------------------------------------------------- a server that loads


@pytest.mark.skipif(sys.platform != "linux", reason="the server is limited by prlimit")
def test_while_redis_loads_everybody_is_told_so_and_then_failures_are_there_as_before(logging_server: Server) -> None:
    """A batch of pictures that cannot be read, most of which had failed when Redis was killed."""
    client = connect(logging_server.url, timeout=5)
    until(lambda: answers(client))
    store = Store(client, replace(Settings(), lease_seconds=1.0))
    batches, total = Batches(store), 1500
    ended = batches.submit(packed([Item("", b"undecodable")] * 300))
    BatchWorker(store, fakes.classify).work(burst=True)
    before = list(batches.results(ended.id))
    with client.pipeline(transaction=False) as filler:  # a server that loads looks up only every thousand commands
        for number in range(100_000):
            filler.set(f"filler:{number}", number)
        filler.execute()
    batch = batches.submit(packed([Item("", b"undecodable")] * total))
    dies = BatchWorker(store, fakes.classify)
    for _ in range(3):
        dies.run(dies.claimer.claim_batch())
    assert dies.claimer.claim_batch()
    dies.wakeup.close()
    logging_server.restart("--key-load-delay", "100")  # microseconds for each command of the log
    words = "Redis has started and is still loading its data"
    seen: set[tuple[int, str, str]] = set()
    reads: set[int] = set()

    def loading() -> bool:
        seen.update(refusals(store))
        with site_of(store) as site:
            reads.add(site.get(f"/v1/batches/{ended.id}").status_code)
        return any(detail == words for _, _, detail in seen)

    until(loading)
    client.config_set("key-load-delay", 0)
    assert {status for status, _, _ in seen} == {503}
    assert reads <= {200, 503}
    until(lambda: answers(client))
    assert list(batches.results(ended.id)) == before

    def over() -> bool:
        BatchWorker(store, fakes.classify).work(burst=True)
        return batches.fetch(batch.id).state.terminal

    until(over)
    assert batches.fetch(batch.id).failed == total
    rows = list(batches.results(batch.id))
    assert [row["index"] for row in rows] == list(range(total))
    assert {row["error"]["code"] for row in rows} == {"undecodable_image"}
    client.close()
