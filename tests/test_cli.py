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
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from click.testing import CliRunner

from digitq import main
from shared.home import ROOT
from shared.ids import new_id
from shared.settings import Settings
from shared.store import Store, connect
from tests.pictures import seven
from tests.web import Web, sevens, web
from worker.heartbeat import Heartbeat


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


def test_no_server_exits_3_and_names_the_server(picture: str) -> None:
    nowhere = f"http://127.0.0.1:{unused_port()}"
    expected = f"digitq does not answer at {nowhere}. Is it running? (`make up`)\n"
    done = digitq("submit", picture, "--url", nowhere)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", f"{picture}: server_unavailable: {expected}")
    for words in (("status",), ("cancel", "x"), ("watch",)):
        done = digitq(*words, "--url", nowhere)
        assert (done.returncode, done.stdout, done.stderr) == (3, "", expected), words


def test_the_server_is_found_through_the_environment(url: str, picture: str, cli_env: dict[str, str]) -> None:
    for place in ({"DIGITQ_PORT": url.rpartition(":")[2]}, {"DIGITQ_URL": f"{url}/", "DIGITQ_PORT": "1"}):
        for words in (("submit", picture), ("status",), ("watch", "--seconds", "0")):
            assert digitq(*words, env={**cli_env, **place}).returncode == 0, (place, words)
    port = unused_port()
    away = digitq("status", env={**cli_env, "DIGITQ_PORT": port})
    assert away.stderr == f"digitq does not answer at http://127.0.0.1:{port}. Is it running? (`make up`)\n"
    assert digitq("status", "--url", url, env={**cli_env, "DIGITQ_URL": "http://127.0.0.1:1"}).returncode == 0


def test_a_url_without_a_scheme_is_wrong_use(cli_env: dict[str, str]) -> None:
    done = digitq("status", "--url", "127.0.0.1:8000")
    assert (done.returncode, "expected http://HOST:PORT" in done.stderr) == (2, True)
    assert digitq("status", env={**cli_env, "DIGITQ_URL": "localhost"}).returncode == 2


def test_wrong_use_exits_2(picture: str) -> None:
    assert digitq("submit").returncode == 2
    assert digitq("submit", "/no/such/file.png").returncode == 2
    assert digitq("nonsense").returncode == 2
    assert digitq("config", env={"DIGITQ_PROT": "1"}).returncode == 2


def test_an_unknown_id_exits_1(url: str) -> None:
    done = digitq("status", new_id(now=5), "--url", url)
    assert (done.returncode, "expired" in done.stderr) == (1, True)


def test_config_prints_the_effective_settings_without_secrets() -> None:
    done = digitq("config", env={"REDIS_URL": "redis://:secret@h:1", "DIGITQ_PORT": "9"})
    assert "DIGITQ_PORT=9" in done.stdout and "***" in done.stdout and "secret" not in done.stdout


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
    pulse = Heartbeat(Store(connect("redis://127.0.0.1:1"), Settings(lease_seconds=1)), "one", "", lambda: None)
    pulse.start()
    while not any(tmp_path.iterdir()):
        time.sleep(0.05)
    pulse.stop()
    assert digitq("healthcheck", "worker", env=env).returncode == 0
    [sign] = tmp_path.iterdir()
    os.utime(sign, (0, time.time() - 60))
    assert digitq("healthcheck", "worker", env=env).returncode == 3


def test_healthcheck_is_cheap(cli_env: dict[str, str]) -> None:
    code = "import sys, digitq, shared.health; print({'redis', 'urllib.request', 'numpy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], env=cli_env, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_worker_with_a_damaged_model_never_starts_to_claim(url: str, cli_env: dict[str, str], tmp_path: Path) -> None:
    done = digitq("worker", env={**cli_env, "DIGITQ_MODEL_PATH": str(tmp_path)})
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


def test_help_leaves_out_the_commands_of_a_side_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "train" in CliRunner().invoke(main, ["--help"]).output
    for home in ("worker.training.cli", "worker.cli"):
        monkeypatch.setitem(sys.modules, home, None)
    shown = CliRunner().invoke(main, ["--help"])
    assert shown.exit_code == 0
    assert "submit" in shown.output
    assert "train" not in shown.output
