"""The command line, as a process and with its exit codes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import click
import pytest
from click.testing import CliRunner

from digitq.cli import main
from shared import ROOT
from shared.ids import new_id
from shared.settings import Settings
from shared.store import Store, connect
from tests.invoked import invoked
from tests.pictures import seven
from tests.waits import until
from tests.web import Web, sevens, web
from worker.queue.heartbeat import Heartbeat


def digitq(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "digitq", *words]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def site(store: Store) -> Iterator[Web]:
    with web(store) as running:
        yield running


@pytest.fixture
def url(site: Web) -> str:
    """A web process without a worker."""
    return site.url


@pytest.fixture
def worker(store: Store) -> Iterator[None]:
    """Answers every picture with a 7."""
    with sevens(store):
        yield


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "im7.png"
    path.write_bytes(seven())
    return str(path)


def test_submit_and_wait_prints_the_digit(url: str, worker: None, picture: str) -> None:
    done = digitq("submit", picture, picture, "--wait", "--url", url)
    assert (done.returncode, done.stdout) == (0, f"{picture}: 7  (91.0%, accept)\n" * 2)
    assert "pictures" in done.stderr or done.stderr == ""


def test_submit_as_json_is_one_object_per_line(url: str, worker: None, picture: str) -> None:
    done = digitq("submit", picture, picture, "--wait", "--json", "--url", url)
    assert [json.loads(line)["digit"] for line in done.stdout.splitlines()] == [7, 7]


def test_submit_without_wait_prints_the_id_and_status_and_cancel_take_it(url: str, picture: str) -> None:
    id = json.loads(digitq("submit", picture, "--json", "--url", url).stdout)["id"]
    assert json.loads(digitq("status", id, "--json", "--url", url).stdout)["state"] == "queued"
    assert digitq("cancel", id, "--url", url).returncode == 0
    assert digitq("status", id, "--url", url).stdout == f"im7.png: cancelled  {id}\n"


def test_a_picture_that_is_refused_exits_1_and_the_others_go_on(
    url: str, worker: None, picture: str, tmp_path: Path
) -> None:
    text = tmp_path / "a.png"
    text.write_text("hello")
    done = digitq("submit", str(text), picture, "--wait", "--url", url)
    assert (done.returncode, done.stdout) == (1, f"{picture}: 7  (91.0%, accept)\n")
    assert "unsupported_type" in done.stderr


def test_no_answer_in_time_exits_4(url: str, picture: str) -> None:
    assert digitq("submit", picture, "--wait", "--timeout", "0.2", "--url", url).returncode == 4


def unused_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def here(*words: str, **env: str) -> tuple[int, str, str]:
    done = invoked(*words, **env)
    return done.returncode, done.stdout, done.stderr


def test_no_server_exits_3_and_names_the_server(picture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer.client.blocking.time.sleep", lambda seconds: None)
    nowhere = f"http://127.0.0.1:{unused_port()}"
    said = f"digitq does not answer at {nowhere}. Is it running? (`make up`)\n"
    assert here("submit", picture, "--url", nowhere) == (3, "", f"{picture}: server_unavailable: {said}")
    for words in (("status",), ("cancel", "x"), ("watch",)):
        assert here(*words, "--url", nowhere) == (3, "", said), words


def test_the_server_is_found_through_the_environment(url: str, picture: str) -> None:
    for place in ({"DIGITQ_PORT": url.rpartition(":")[2]}, {"DIGITQ_URL": f"{url}/", "DIGITQ_PORT": "1"}):
        for words in (("submit", picture), ("status",), ("watch", "--seconds", "0")):
            assert here(*words, **place)[0] == 0, (place, words)
    assert here("status", "--url", url, DIGITQ_URL="http://127.0.0.1:1")[0] == 0
    assert "at http://127.0.0.1:1. Is it" in here("watch", DIGITQ_PORT="1")[2]


def test_a_url_without_a_scheme_is_wrong_use() -> None:
    code, _, said = here("status", "--url", "127.0.0.1:8000")
    assert (code, "expected http://HOST:PORT" in said) == (2, True)
    assert here("status", DIGITQ_URL="localhost")[0] == 2


def test_wrong_use_exits_2(picture: str) -> None:
    assert digitq("submit").returncode == 2
    assert digitq("submit", "/no/such/file.png").returncode == 2
    assert digitq("nonsense").returncode == 2
    assert digitq("config", env={"DIGITQ_PROT": "1"}).returncode == 2


def test_without_a_key_that_is_needed_it_says_what_to_set(store: Store, picture: str) -> None:
    said = "digitq: An API key is needed. Set DIGITQ_API_KEY to a key that this server knows.\n"
    with web(Store(store.client, replace(store.settings, api_keys="alice:secret"))) as site:
        for words in (("submit", picture, picture), ("status",), ("cancel", "x"), ("watch",)):
            assert here(*words, "--url", site.url) == (1, "", said), words
        assert here("status", "--url", site.url, DIGITQ_API_KEY="wrong") == (1, "", said)
        assert here("submit", picture, "--url", site.url, DIGITQ_API_KEY="secret")[0] == 0


def test_an_unknown_id_exits_1(url: str) -> None:
    done = digitq("status", new_id(now=5), "--url", url)
    assert (done.returncode, "expired" in done.stderr) == (1, True)


def test_config_prints_the_effective_settings_without_secrets() -> None:
    done = digitq("config", env={"REDIS_URL": "redis://:secret@h:1", "DIGITQ_PORT": "9"})
    assert "DIGITQ_PORT=9" in done.stdout and "***" in done.stdout and "secret" not in done.stdout


def test_config_says_whose_server_it_names_where_none_is_set(tmp_path: Path) -> None:
    env = {"DIGITQ_STATE_DIR": str(tmp_path)}
    path = tmp_path / "redis" / "redis.sock"
    done = digitq("config", env=env)
    assert "no `digitq up` runs in this folder" in done.stderr and f"unix://{path}" in done.stderr
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        done = digitq("config", env=env)
    assert f"REDIS_URL=unix://{path}" in done.stdout
    assert "the `digitq up` that runs here, and ends with it" in done.stderr
    assert digitq("config", env={**env, "REDIS_URL": "redis://h:1"}).stderr == ""


def test_healthcheck_follows_the_web_process(url: str, cli_env: dict[str, str]) -> None:
    env = {**cli_env, "DIGITQ_PORT": url.rpartition(":")[2]}
    assert digitq("healthcheck", "web", env=env).returncode == 0
    assert digitq("healthcheck", "web", env={**env, "DIGITQ_PORT": "1"}).returncode == 3


def test_healthcheck_follows_a_worker_and_not_its_redis(
    store: Store, cli_env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {**cli_env, "TMPDIR": str(tmp_path), "REDIS_URL": "redis://127.0.0.1:1"}
    assert digitq("healthcheck", "worker", env=env).returncode == 3
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    thread = Heartbeat(Store(connect("redis://127.0.0.1:1"), Settings(lease_seconds=1)), "one", "", lambda: None)
    thread.start()
    until(lambda: any(tmp_path.iterdir()))
    thread.stop()
    assert digitq("healthcheck", "worker", env=env).returncode == 0
    [sign] = tmp_path.iterdir()
    os.utime(sign, (0, time.time() - 60))
    assert digitq("healthcheck", "worker", env=env).returncode == 3


def test_healthcheck_is_cheap(cli_env: dict[str, str]) -> None:
    code = "import sys, digitq, shared.runtime.health; print({'redis', 'urllib.request', 'numpy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], env=cli_env, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_worker_with_a_damaged_model_never_starts_to_claim(
    url: str, lean_env: dict[str, str], tmp_path: Path
) -> None:
    done = digitq("worker", env={**lean_env, "DIGITQ_MODEL_PATH": str(tmp_path)})
    assert done.returncode == 78
    assert "never claims a job" in done.stderr
    with pytest.raises(HTTPError) as not_ready, urlopen(f"{url}/readyz"):
        pass
    assert "card.json cannot be read" in json.load(not_ready.value)["detail"]
    not_ready.value.close()


def test_help_lists_every_command_of_the_contract() -> None:
    text = digitq("--help").stdout
    for command in ("up", "web", "worker", "submit", "status", "cancel", "train", "evaluate", "healthcheck", "config"):
        assert f"\n  {command} " in text


def test_help_has_a_whole_summary_for_each_command_on_a_narrow_terminal() -> None:
    text = CliRunner(env={"COLUMNS": "80"}).invoke(main, ["--help"]).output
    commands = text.partition("Commands:\n")[2].splitlines()
    assert not any(line.endswith("...") for line in commands) and len(commands) == len(
        main.list_commands(click.Context(main))
    )


def test_help_leaves_out_the_commands_of_a_side_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "train" in CliRunner().invoke(main, ["--help"]).output
    for home in ("worker.training.cli", "worker.cli"):
        monkeypatch.setitem(sys.modules, home, None)
    shown = CliRunner().invoke(main, ["--help"])
    assert shown.exit_code == 0
    assert "submit" in shown.output
    assert "train" not in shown.output
