"""A real server for every test that wants one: an embedded Valkey on a Unix socket, emptied between tests."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis

from shared import ROOT
from shared.settings import Settings
from shared.standalone.embedded_server import server_binary
from shared.store import Store, connect
from tests.stack import LEAN, Stack, up
from tests.tools import lacking

# Whoever runs the tests in the background may have them ignore Ctrl-C, and what they start would ignore it too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# TensorFlow computes with other rounding with oneDNN, and looks once: a run of training is the same in all processes.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

# Threads that outlive their test, and its capture of the log, would write to the terminal that Redis is gone.
logging.getLogger("digitq").addHandler(logging.NullHandler())

#: Files that take longest: begun first, so that none is left over when the other test processes are done.
LONG = (
    "test_verify", "test_verify_broken", "test_end_to_end", "test_up", "test_bench", "test_cli_submit",
    "test_verify_clients", "test_list", "test_page", "test_failover", "test_promotion", "test_deaf", "test_hostile",
    "test_training", "test_learn", "test_package", "test_script_errors", "test_webhooks", "test_supervisor",
    "test_modules", "test_nginx", "test_cli", "test_bulk_end_to_end",
)  # fmt: skip


@pytest.fixture(autouse=True)
def logs_of_rq_as_they_were() -> Iterator[None]:
    """A stock worker sets the level of RQ's log and adds a handler, for the rest of the process."""
    log = logging.getLogger("rq.worker")
    before, handlers = log.level, log.handlers[:]
    yield
    log.setLevel(before)
    log.handlers[:] = handlers


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses a Redis, and begin with what takes longest."""
    for item in items:
        if "redis_url" in getattr(item, "fixturenames", ()):
            item.add_marker("redis")
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


def start_server(folder: Path, *options: str) -> tuple[subprocess.Popen[bytes], str]:
    """A server with its data in `folder`, which has to have a short path; returns it and its URL."""
    path = folder / "redis.sock"
    path.unlink(missing_ok=True)
    arguments = [
        "--port",
        "0",
        "--unixsocket",
        str(path),
        "--dir",
        str(folder),
        "--save",
        "",
        "--logfile",
        str(folder / "log"),
        # As the servers that we start ourselves.
        *("--hash-max-listpack-value", "1024", "--stream-node-max-bytes", "512"),
        *("--hash-max-listpack-entries", "32", "--zset-max-listpack-entries", "8"),
    ]
    server = subprocess.Popen([server_binary(), *arguments, *options])
    client = redis.Redis(unix_socket_path=str(path))
    for _ in range(100):
        try:
            if client.ping():
                break
        except redis.RedisError:
            time.sleep(0.05)
    else:
        raise RuntimeError((folder / "log").read_text())
    client.close()
    return server, f"unix://{path}"


@contextmanager
def own_server() -> Iterator[str]:
    """The URL of a server without persistence, as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="digitq-") as folder:
        server, url = start_server(Path(folder))
        try:
            yield url
        finally:
            server.terminate()
            server.wait()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """One server for the session."""
    with own_server() as url:
        yield url


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return Settings(redis_url=redis_url, lease_seconds=2.0, allow_ephemeral="1")


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    client = connect(redis_url, timeout=5)
    client.flushall()
    yield client
    with suppress(redis.RedisError):  # tests that only know the URL find nothing of this one
        client.flushall()
    client.close()


@pytest.fixture
def store(client: redis.Redis, settings: Settings) -> Store:
    return Store(client, settings)


@pytest.fixture
def cli_env(redis_url: str) -> dict[str, str]:
    """The environment of a process of ours that a test starts."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith("DIGITQ_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**keep, "REDIS_URL": redis_url, "PATH": path, "DIGITQ_LEASE_SECONDS": "2", "DIGITQ_ALLOW_EPHEMERAL": "1"}


@pytest.fixture
def lean_env(cli_env: dict[str, str]) -> dict[str, str]:
    """The same, for processes that are workers or start some: without TensorFlow."""
    return {**cli_env, **LEAN}


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The whole stack with two workers, for all tests that take it as it is."""
    folder = tempfile.TemporaryDirectory(prefix="digitq-")
    with folder as name, up(Path(name), workers=2, DIGITQ_LEASE_SECONDS="2", **LEAN) as running:
        yield running


def shared_folder(name: str) -> Path:
    """Optional data beside the project; a test that wants it is skipped without it, and fails in CI."""
    folder = Path(os.environ.get(f"TEST_{name.upper()}", ROOT.parent / "shared" / name))
    if not folder.is_dir():
        lacking(f"needs the folder {name}/ beside the project (or TEST_{name.upper()})")
    return folder
