"""A Redis that would lose accepted pictures is refused, or warned about, at every start."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import redis

from producer import Queue
from shared import ROOT
from shared.batches import Batches
from shared.chunks import Chunk
from shared.connections.connection import connect
from shared.errors import RedisMisconfigured, RedisUnavailable
from shared.redis_server import server_check
from shared.redis_server.server_check import ServerCheck, read_server
from shared.redis_server.server_findings import examine
from shared.redis_server.server_report import report
from shared.settings import Settings
from shared.standalone.embedded_server import embedded
from shared.store import Store
from tests.conftest import start_server
from tests.fakes import classify
from tests.pictures import seven
from tests.served import site
from tests.web import free_port
from verify.proxy import Proxy
from verify.sentinels import sentinels, wait_until
from worker.queue.batch_worker import BatchWorker

LOG = ("--appendonly", "yes")
LIMIT = ("--maxmemory", "2gb")
SAFE = Settings(queue_max_bytes=1024)


@contextmanager
def server(*options: str) -> Iterator[str]:
    """The URL of a server that was started with these options."""
    with tempfile.TemporaryDirectory(prefix="digitq-") as folder:
        process, url = start_server(Path(folder), *options)
        try:
            yield url
        finally:
            process.terminate()
            process.wait()


@pytest.mark.parametrize(
    ("options", "settings", "expected"),
    [
        ((*LOG, *LIMIT), SAFE, {}),
        (LOG, SAFE, {"no_memory_limit": "note"}),
        ((*LOG, *LIMIT, "--maxmemory-policy", "allkeys-lru"), SAFE, {"eviction": "error"}),
        ((*LOG, *LIMIT, "--maxmemory-policy", "volatile-ttl"), SAFE, {"eviction": "error"}),
        ((*LOG, "--maxmemory-policy", "allkeys-random"), SAFE, {"eviction": "error", "no_memory_limit": "note"}),
        (LIMIT, SAFE, {"no_log": "warning"}),
        (LIMIT, replace(SAFE, allow_ephemeral="1"), {"no_log": "note"}),
        ((*LIMIT, "--save", "60 1"), SAFE, {"no_log": "warning"}),
        ((*LOG, *LIMIT, "--appendfsync", "no"), SAFE, {"log_not_synced": "warning"}),
        ((*LOG, *LIMIT, "--appendfsync", "always"), SAFE, {}),
        ((*LOG, "--maxmemory", "1mb"), SAFE, {"memory_nearly_full": "note"}),
        ((*LOG, "--maxmemory", "900mb"), Settings(), {"queue_too_large": "note"}),
        ((*LOG, *LIMIT), replace(SAFE, replicas_ack=1), {"replicas_missing": "warning"}),
        ((*LOG, *LIMIT, "--replicaof", "127.0.0.1", "1"), SAFE, {"replica": "error"}),
        ((*LOG, *LIMIT, "--cluster-enabled", "yes"), SAFE, {"cluster_mode": "error"}),
    ],
)
def test_a_server_is_judged_by_how_it_was_started(
    options: tuple[str, ...], settings: Settings, expected: dict[str, str]
) -> None:
    with server(*options) as url, connect(url) as client:
        found = read_server(client, settings)
    assert {one.code: one.level for one in found} == expected
    assert all(str(one).endswith(".") for one in found)


def test_the_server_that_we_bring_ourselves_loses_nothing() -> None:
    with tempfile.TemporaryDirectory(prefix="digitq-") as name, embedded(Path(name)) as url:
        assert [one for one in report(Settings(redis_url=url)) if one.level != "note"] == []


def test_what_is_lost_with_a_server_that_keeps_no_log_depends_on_its_snapshots() -> None:
    for save, words in (("", "accepted is lost"), ("60 1", "accepted since its last snapshot is lost")):
        [found] = examine({"aof_enabled": 0}, SAFE, {"save": save})
        assert words in found.what
    [unknown] = examine({"aof_enabled": 0}, SAFE)
    assert "if it makes any" in unknown.what


@pytest.mark.parametrize(
    ("info", "codes"),
    [
        ({}, []),
        ({"redis_version": "6.2.14"}, ["too_old"]),
        ({"redis_version": "7.0.0"}, []),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, []),
        ({"redis_version": "8.2.1"}, []),
        ({"server_mode": "sentinel"}, ["sentinel"]),
        ({"redis_mode": "cluster"}, ["cluster_mode"]),
        ({"loading": 1, "loading_loaded_perc": 43.1, "loading_eta_seconds": 12}, ["loading"]),
        ({"aof_enabled": 1, "aof_last_write_status": "err"}, ["log_not_written"]),
        ({"aof_enabled": 1, "rdb_last_bgsave_status": "err"}, ["snapshot_failed"]),
    ],
)
def test_a_server_is_judged_by_what_it_says_and_not_by_what_it_leaves_out(
    info: dict[str, Any], codes: list[str]
) -> None:
    assert [one.code for one in examine(info, SAFE)] == codes


def test_a_replica_that_is_still_copying_does_not_count() -> None:
    copying = {"role": "master", "connected_slaves": 1, "slave0": {"ip": "a", "port": 1, "state": "wait_bgsave"}}
    settings = replace(SAFE, replicas_ack=1)
    assert [one.code for one in examine(copying, settings)] == ["replicas_missing"]
    copying["slave0"] = {"ip": "a", "port": 1, "state": "online"}
    assert examine(copying, settings) == []


# ---------------------------------------------------------------------- start-up


@pytest.fixture
def evicting() -> Iterator[str]:
    with server(*LOG, "--maxmemory", "20mb", "--maxmemory-policy", "allkeys-lru") as url:
        yield url


def test_nothing_is_accepted_that_the_server_would_evict_and_all_is_once_it_would_not(evicting: str) -> None:
    with connect(evicting) as client, site(Store(client, SAFE)) as web:
        for path in ("/v1/predictions", "/v1/batches", "/"):
            answer = web.post(path, data={"file": (BytesIO(seven()), "a.png")}, content_type="multipart/form-data")
            assert (answer.status_code, answer.get_json()["code"]) == (503, "redis_misconfigured"), path
            assert answer.headers["Retry-After"]
            assert "noeviction" in answer.get_json()["detail"]
        assert web.get("/readyz").get_json()["code"] == "redis_misconfigured"
        assert (client.llen("rq:queue:digitq"), client.keys("digitq:*"), client.keys("rq:job:*")) == (0, [], [])
        client.config_set("maxmemory-policy", "noeviction")
        wait_until(lambda: web.post("/v1/predictions", data=seven()).status_code == 202)


def test_a_policy_that_is_changed_while_all_runs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_check, "KNOWN_SECONDS", 0.3)
    with server(*LOG) as url, connect(url) as client, site(Store(client, SAFE)) as web:
        assert web.post("/v1/predictions", data=seven()).status_code == 202
        client.config_set("maxmemory-policy", "volatile-lru")
        wait_until(lambda: web.post("/v1/predictions", data=seven()).status_code == 503)
        with pytest.raises(RedisMisconfigured):
            Batches(web.services.store).submit([Chunk(1, b"{}")])
        client.config_set("maxmemory-policy", "noeviction")
        wait_until(lambda: web.post("/v1/predictions", data=seven()).status_code == 202)


def test_a_primary_that_was_demoted_is_left_for_the_one_that_leads_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_check, "KNOWN_SECONDS", 0.3)
    with (
        server(*LOG) as first,
        server(*LOG) as second,
        closing(Proxy(Path(first.removeprefix("unix://")))) as proxy,
        connect(f"redis://127.0.0.1:{proxy.port}") as client,
        site(Store(client, SAFE)) as web,
    ):
        assert web.post("/v1/predictions", data=seven()).status_code == 202
        proxy._target = second.removeprefix("unix://")
        with connect(first) as direct:
            direct.replicaof("127.0.0.1", "1")
        wait_until(lambda: web.post("/v1/predictions", data=seven()).status_code == 202)


def test_readiness_says_what_is_lost_when_the_server_dies(client: redis.Redis) -> None:
    with site(Store(client, SAFE)) as web:
        web.services.store.renew("w", [])
        [warning] = web.get("/readyz").get_json()["warnings"]
        assert warning["code"] == "no_log"
        assert "appendonly yes" in warning["message"]
        assert web.post("/v1/predictions", data=seven()).status_code == 202


def test_a_worker_logs_it_once_and_finishes_accepted_pictures(evicting: str, caplog: pytest.LogCaptureFixture) -> None:
    with connect(evicting, timeout=5) as client:
        id = Store(client, SAFE).submit(b"7").id
        caplog.clear()
        worker = BatchWorker(Store(client, SAFE), classify)
        for _ in range(3):
            worker.recovery.run_if_due(burst=True)
            worker.recovery.last_run = float("-inf")
        worker.work(burst=True)
        assert Store(client, SAFE).fetch(id).digit == 7
    assert [one.levelname for one in caplog.records if "redis: eviction" in one.getMessage()] == ["ERROR"]


def test_a_queue_warns_once(evicting: str, caplog: pytest.LogCaptureFixture) -> None:
    with Queue(evicting) as queue:
        for _ in range(3):
            queue.submit(seven())
    assert [one.levelname for one in caplog.records if "redis: eviction" in one.getMessage()] == ["ERROR"]


def test_what_a_user_may_not_read_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_check, "KNOWN_SECONDS", 0.0)
    with server(*LOG) as url, connect(url) as client:
        client.execute_command("ACL", "SETUSER", "default", "-config")
        check = ServerCheck(client, SAFE)
        for _ in range(3):
            assert check.findings() == ()
        assert [(one["object"], one["count"]) for one in client.acl_log()] == [("config|get", 1)]


def test_a_server_that_refuses_info_is_warned_of_and_nobody_is_named() -> None:
    with server(*LOG) as url, connect(url) as client:
        client.execute_command("ACL", "SETUSER", "default", "-info")
        [found] = ServerCheck(client, SAFE).findings()
        assert (found.code, "default" in str(found)) == ("info_denied", False)


def test_the_thread_that_looks_outlives_whatever_a_server_says(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_check, "KNOWN_SECONDS", 0.0)
    check, answers = ServerCheck(client, SAFE), [ValueError("connected_slaves:?"), RedisUnavailable(), SystemExit()]

    def findings() -> None:
        raise answers.pop(0)

    monkeypatch.setattr(check, "findings", findings)
    with pytest.raises(SystemExit):
        check.watch()
    assert not answers


def test_a_server_that_does_not_answer_is_out_of_reach() -> None:
    with connect(f"redis://127.0.0.1:{free_port()}") as client, pytest.raises(RedisUnavailable):
        ServerCheck(client, SAFE).findings()


def run(*words: str, url: str, cli_env: dict[str, str], **env: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in cli_env.items() if name != "DIGITQ_ALLOW_EPHEMERAL"} | env
    command = [sys.executable, "-m", "digitq", *words]
    return subprocess.run(
        command, cwd=ROOT, env={**env, "REDIS_URL": url}, capture_output=True, text=True, check=False, timeout=120
    )


def test_up_does_not_start_on_a_server_that_would_evict(evicting: str, cli_env: dict[str, str]) -> None:
    done = run("up", "--port", str(free_port()), url=evicting, cli_env=cli_env)
    assert done.returncode == 2
    assert "maxmemory-policy is allkeys-lru" in done.stderr


def test_the_web_process_says_it_when_it_starts(evicting: str, cli_env: dict[str, str], tmp_path: Path) -> None:
    env = {**cli_env, "REDIS_URL": evicting, "DIGITQ_PORT": str(free_port())}
    with (tmp_path / "log").open("wb") as log:
        web = subprocess.Popen([sys.executable, "-m", "digitq", "web"], cwd=ROOT, env=env, stderr=log)
        try:
            wait_until(lambda: "maxmemory-policy is allkeys-lru" in (tmp_path / "log").read_text(), 60)
        finally:
            web.terminate()
            web.wait(30)


# ---------------------------------------------------------------------- digitq config --check


def test_the_check_prints_a_line_for_each_finding_and_exits_by_the_worst(cli_env: dict[str, str]) -> None:
    with server(*LOG, *LIMIT) as url:
        good = run("config", "--check", url=url, cli_env=cli_env)
        assert (good.returncode, good.stdout) == (0, ""), good.stdout
    with server("--maxmemory-policy", "allkeys-lru") as url:
        done = run("config", "--check", url=url, cli_env=cli_env)
        assert done.returncode == 2
        lines = [line.split(":")[0] for line in done.stdout.splitlines()]
        assert lines == ["error eviction", "warning no_log", "note no_memory_limit"]
        accepted = run("config", "--check", "--json", url=url, cli_env=cli_env, DIGITQ_ALLOW_EPHEMERAL="1")
        assert accepted.returncode == 2
        levels = {one["code"]: one["level"] for one in json.loads(accepted.stdout)["findings"]}
        assert levels == {"eviction": "error", "no_log": "note", "no_memory_limit": "note"}
    gone = run("config", "--check", url=f"redis://:secret@127.0.0.1:{free_port()}", cli_env=cli_env)
    assert (gone.returncode, gone.stdout) == (3, "")
    assert "secret" not in gone.stderr


def test_the_check_asks_each_sentinel(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="digitq-") as name, sentinels(Path(name)) as watched:
        settings = replace(SAFE, redis_url=watched.url, replicas_ack=2)
        assert {one.code for one in report(settings)} == {"no_memory_limit"}
        watched._processes[0].kill()
        watched._processes[0].wait()
        found = report(replace(settings, replicas_ack=3))
        assert {one.code: one.level for one in found} == {
            "no_memory_limit": "note", "sentinel_unreachable": "warning", "replicas_missing": "warning",
        }  # fmt: skip


def test_a_look_is_cheap(client: redis.Redis) -> None:
    check = ServerCheck(client, SAFE)
    check.findings()
    start = time.perf_counter()
    for _ in range(10_000):
        check.findings()
    assert time.perf_counter() - start < 5
