"""`make up` and `digitq up` as operators treat them: killed anywhere, started twice, on full disks, with large logs."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import random
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from producer import State
from shared import ROOT
from shared.errors import CannotStart, RedisUnavailable
from shared.standalone import embedded_server
from shared.standalone.embedded_server import embedded, server_binary
from shared.standalone.up import STOP_SECONDS, http_ok
from shared.state_dir import locked, running_server, socket_path
from shared.store import connect
from tests.pictures import seven
from tests.stack import LEAN, TAG, Stack, client_of, up
from tests.waits import until
from tests.web import free_port

pytestmark = pytest.mark.timeout(1800)

#: `make up` of this interpreter's digitq; it installs nothing.
MAKE = ["make", "-o", ".venv/.installed", "up", f"BIN={Path(sys.executable).parent}"]
#: Seconds for what takes a moment, and for what loads TensorFlow on a busy machine.
SOON, LONG = 60, 180


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a short path, as a socket in it needs."""
    with tempfile.TemporaryDirectory(prefix="digitq-") as name:
        yield Path(name)


def environment(folder: Path, **env: str) -> dict[str, str]:
    clean = {name: text for name, text in os.environ.items() if not name.startswith("DIGITQ_") and name != "REDIS_URL"}
    return {**clean, TAG: str(folder), **env}


def heed_hangups() -> None:
    """Test that run under `nohup` would start it deaf to SIGHUP."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@contextmanager
def started(folder: Path, *make: str, port: int = 0, workers: int = 1, **env: str) -> Iterator[Stack]:
    """A stack of this command, with what it says in up.log, from its first moment on; nothing of it is left."""
    port = port or free_port()
    digitq = [sys.executable, "-m", "digitq", "up", "--port", str(port), "--workers", str(workers)]
    words = [*make, f"PORT={port}", f"WORKERS={workers}"] if make else digitq
    with (folder / "up.log").open("ab") as log:
        process = subprocess.Popen(
            words, cwd=ROOT, env=environment(folder, **env), stdout=log, stderr=log, preexec_fn=heed_hangups
        )
    running = Stack(process, f"http://127.0.0.1:{port}", folder)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(SOON)
        process.kill()
        process.wait()
        while left := running.pids():
            for pid in left:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)


def said(folder: Path) -> str:
    return (folder / "up.log").read_text()


def reads_a_seven(running: Stack) -> bool:
    with client_of(running.url) as client:
        return client.submit(seven()).wait(LONG).digit == 7


def refused(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A `digitq up` that is expected to refuse."""
    command = [sys.executable, "-m", "digitq", "up", "--port", str(free_port()), *words]
    return subprocess.run(
        command, cwd=ROOT, env=environment(folder, **env), capture_output=True, text=True, check=False, timeout=SOON
    )


# ---------------------------------------------------------------------- killed anywhere


def is_whole(running: Stack, before: Set[int], victim: int) -> bool:
    """Return True if as many processes run as before the kill, with others for the killed one and its children."""
    pids = running.pids()
    return victim not in pids and len(pids) == len(before)


#: Every kind of process in the tree of `make up`.
KINDS = ["make", "digitq up", "web", "web's child", "digitq worker", "server"]
#: Kills beyond one of each kind, as in `MORE_KILLS=20 pytest tests/integration/test_up.py -k killed_either`.
MORE_KILLS = int(os.environ.get("MORE_KILLS", "0"))


def victims(running: Stack, kind: str) -> list[int]:
    """The processes of a kind; of granian's two, the parent or the child."""
    if kind == "make":
        return [running.process.pid]
    if kind == "server":
        return running.pids("unixsocket")
    if not kind.startswith("web"):
        return running.pids(kind)
    web = running.pids("digitq web")
    parents = {pid: int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in web}
    return [pid for pid in web if (parents[pid] in web) == (kind == "web's child")]


def test_whatever_process_is_killed_either_all_goes_on_or_all_is_gone(folder: Path) -> None:
    chance, port, ids = random.Random(), free_port(), list[str]()
    plan = [*KINDS, *chance.choices(KINDS, k=MORE_KILLS)]
    chance.shuffle(plan)
    print(plan)
    while plan:
        with started(folder, *MAKE, port=port, **LEAN) as running:
            running.wait_until_ready(LONG)
            while plan and running.process.poll() is None:
                kind = plan.pop()
                with client_of(running.url) as client:
                    ids.append(client.submit(seven()).id)
                before, victim = set(running.pids()), chance.choice(victims(running, kind))
                print(f"{kind}: {victim} of {sorted(before)}")
                os.kill(victim, signal.SIGKILL)
                if kind in ("make", "digitq up"):
                    running.process.wait(SOON)
                    until(lambda: not running.pids())
                else:
                    until(lambda before=before, victim=victim: is_whole(running, before, victim), LONG)
                    running.wait_until_ready(LONG)
                    assert reads_a_seven(running)
    with started(folder, *MAKE, port=port, **LEAN) as running:
        running.wait_until_ready(LONG)
        with client_of(running.url) as client:
            assert {client.get(id, wait=LONG).state for id in ids} == {State.SUCCEEDED}


def test_a_worker_that_is_told_to_stop_stays_away_and_the_rest_serves_on(folder: Path) -> None:
    with up(folder, workers=2, **LEAN) as running:
        until(lambda: len(running.pids("digitq worker")) == 2)
        until(lambda: said(folder).count("serves model") == 2, LONG)
        for left in (1, 0):
            os.kill(running.pids("digitq worker")[0], signal.SIGTERM)
            until(lambda left=left: said(folder).count("was stopped, it is not started again") == 2 - left)
            assert len(running.pids("digitq worker")) == left
            assert http_ok(f"{running.url}/healthz")
            if left:
                assert reads_a_seven(running)
        assert running.process.poll() is None
    assert running.process.returncode == 0


def test_workers_that_are_stopped_in_a_batch_give_their_chunks_back_and_no_attempt_counts(folder: Path) -> None:
    count = int(os.environ.get("SCALE_IN", "10000"))
    pixels = np.asarray(Image.open(io.BytesIO(seven(28))).convert("L"))
    idx = struct.pack(">IIII", 2051, count, 28, 28) + pixels.tobytes() * count
    with up(folder, workers=4, **LEAN) as running, client_of(running.url) as client:
        until(lambda: said(folder).count("serves model") == 4, LONG)
        batch, left = client.submit_batch(idx), 4
        while left > 1:
            begun = batch.refresh().succeeded
            until(lambda begun=begun: batch.refresh().succeeded > begun)
            os.kill(running.pids("digitq worker")[0], signal.SIGTERM)
            left -= 1
            until(lambda left=left: len(running.pids("digitq worker")) == left)
        print(batch.refresh())
        assert not batch.refresh().state.terminal, "it has ended before the last worker was stopped"
        ended = batch.wait(LONG)
        assert (ended.succeeded, ended.failed) == (count, 0)
        with connect(running.redis_url) as server:
            chunks = range(-(-count // 256))
            attempts = Counter(server.hget(f"digitq:results:{batch.id}-{number}", "attempt") for number in chunks)
        assert attempts == {b"1": len(chunks)}


def test_all_that_serves_being_stopped_is_the_end(folder: Path) -> None:
    with up(folder, workers=1, **LEAN) as running:
        for word in ("digitq worker", "digitq web"):
            parent = min(running.pids(word), key=lambda pid: int(Path(f"/proc/{pid}/stat").read_text().split()[21]))
            os.kill(parent, signal.SIGTERM)
        assert running.process.wait(SOON) == 0
        assert running.pids() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_while_it_starts_leaves_nothing(folder: Path, number: signal.Signals) -> None:
    with started(folder) as running:
        until(lambda: running.pids("digitq worker"), LONG)
        running.process.send_signal(number)
        assert running.process.wait(SOON) == 0
        assert running.pids() == []


def test_a_model_that_is_refused_ends_it_with_the_status_that_says_so(folder: Path) -> None:
    model = shutil.copytree(ROOT / "worker" / "model", folder / "model")
    (model / "card.json").write_text("{}")
    with started(folder, DIGITQ_MODEL_PATH=str(model), **LEAN) as running:
        assert running.process.wait(LONG) == 78
        assert said(folder).count("worker.1 does not start, giving up (exit status 78)") == 1
        assert running.pids() == []


def test_a_console_that_is_gone_keeps_nothing_from_running_or_stopping(folder: Path) -> None:
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "digitq", "up", "--port", str(port := free_port()), "--workers", "1"],
        cwd=ROOT, env=environment(folder, DIGITQ_LOG_LEVEL="DEBUG"), stdout=writing, stderr=writing,
    )  # fmt: skip
    os.close(writing)
    os.close(reading)
    running = Stack(process, f"http://127.0.0.1:{port}", folder)
    try:
        running.wait_until_ready(LONG)
        assert reads_a_seven(running)
        process.terminate()
        assert process.wait(SOON) == 0
        assert running.pids() == []
    finally:
        process.kill()
        process.wait()


def test_closed_standard_streams_are_not_mistaken_for_files_of_ours(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "digitq", "up", "--port", str(port := free_port()), "--workers", "0"],
        cwd=ROOT, env=environment(folder), preexec_fn=lambda: os.closerange(0, 3),
    ) as process:  # fmt: skip
        running = Stack(process, f"http://127.0.0.1:{port}", folder)
        try:
            until(lambda: http_ok(f"{running.url}/healthz"), LONG)
            names = [str(Path(f"/proc/{process.pid}/fd/{number}").readlink()) for number in range(3)]
            assert names == ["/dev/null"] * 3
            [server] = running.pids("unixsocket")
            held = [str(one.readlink()) for one in Path(f"/proc/{server}/fd").iterdir()]
            assert str(folder / "redis" / "lock") in held
            process.terminate()
            assert process.wait(SOON) == 0
        finally:
            process.kill()
    assert (folder / "redis" / "lock").read_bytes() == b""


def test_without_workers_it_says_that_none_run(folder: Path) -> None:
    with started(folder, workers=0) as running:
        until(lambda: f"digitq is ready at {running.url}" in said(folder), LONG)
        assert "no worker" in said(folder) and "try it" not in said(folder)


def test_a_proxy_for_the_internet_is_not_asked_whether_the_server_is_ready(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with started(folder, workers=0) as running:
        until(lambda: http_ok(f"{running.url}/healthz"), LONG)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
        assert http_ok(f"{running.url}/healthz")


def test_a_second_ctrl_c_kills_what_does_not_stop(folder: Path) -> None:
    with started(folder) as running:
        until(lambda: running.pids("digitq worker"), LONG)
        [worker] = running.pids("digitq worker")

        def stands_still() -> bool:
            os.kill(worker, signal.SIGSTOP)  # again, where it came while the program was only being loaded
            return Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] == "T"

        until(stands_still)
        running.process.send_signal(signal.SIGINT)
        until(lambda: "Ctrl-C" in said(folder))
        began = time.monotonic()
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(SOON) == 0
        assert "it is killed" in said(folder)
        assert time.monotonic() - began < STOP_SECONDS
        assert running.pids() == []


# ---------------------------------------------------------------------- one for each folder


def test_of_two_that_start_at_once_exactly_one_does(folder: Path) -> None:
    # Without TensorFlow: whoever has the lock starts a server at once.
    for _ in range(4):
        commands = [
            [sys.executable, "-m", "digitq", "up", "--port", str(free_port()), "--workers", "0"] for _ in range(2)
        ]
        both = [
            subprocess.Popen(command, cwd=ROOT, env=environment(folder), stderr=subprocess.PIPE, text=True)
            for command in commands
        ]
        try:
            until(lambda both=both: any(one.poll() is not None for one in both))
            [loser] = [one for one in both if one.poll() is not None]
            assert loser.stderr
            assert (loser.returncode, "another digitq runs" in loser.stderr.read()) == (2, True)
            until(lambda: socket_path(folder).exists())
        finally:
            for one in both:
                one.kill()
            for one in both:
                one.communicate()
        # Killed: the lock goes with its last holder, the server, which goes with its `up`.
        until(lambda both=both: not Stack(both[0], "", folder).pids())


def test_the_second_one_says_so_within_a_second(folder: Path) -> None:
    with locked(folder):
        start = time.monotonic()
        with pytest.raises(CannotStart, match="another digitq runs with the data in"), locked(folder):
            pass
        assert time.monotonic() - start < 10
    with locked(folder):
        pass


def test_the_lock_is_kept_while_a_server_that_was_left_behind_still_runs(folder: Path) -> None:
    with locked(folder) as held:
        server = subprocess.Popen(["sleep", "600"], pass_fds=(held,))
    try:
        with pytest.raises(CannotStart, match="another digitq"), locked(folder):
            pass
    finally:
        server.kill()
        server.wait()
    with locked(folder):
        pass


def test_the_lock_is_waited_for_while_killed_processes_still_end(folder: Path) -> None:
    # As the server's child that rewrites the log: it notices within a second or two that the server is gone.
    with locked(folder) as held:
        left = subprocess.Popen(["sleep", "2"], pass_fds=(held,))
    with locked(folder):
        assert left.wait(SOON) == 0


def test_a_folder_that_cannot_be_locked_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(CannotStart, match=r"cannot be locked \(No locks available.*DIGITQ_STATE_DIR"), locked(folder):
        pass


@pytest.mark.parametrize("name", ["my digits", "a=b", "50%41", "what?#", "Zürich", "it's", "x" * 120])
def test_any_folder_will_do(folder: Path, name: str) -> None:
    # RQ asks for the client's address at the start of a worker; redis-py splits the answer at spaces and "=".
    with embedded(folder / name) as url, connect(url, timeout=30) as client:
        assert "redis.sock" in client.client_info()["addr"] or "/tmp/digitq-" in client.client_info()["addr"]
        assert running_server(folder / name) == url
        assert client.config_get("dir")["dir"] == str(folder / name / "redis")
    assert running_server(folder / name) == ""


# ---------------------------------------------------------------------- where it cannot start


def test_a_folder_that_cannot_be_made_is_named(folder: Path) -> None:
    (folder / "file").write_text("")
    for place in ("/proc/digitq", str(folder / "file" / "var")):
        done = refused(folder, DIGITQ_STATE_DIR=place)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"{place}/redis cannot be written" in done.stderr and "set DIGITQ_STATE_DIR" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_disk_without_room_is_named(folder: Path) -> None:
    # A limit on the size of files refuses as a full disk does, at the write.
    command = [sys.executable, "-m", "digitq", "up", "--port", str(free_port())]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(folder, PYTHONDONTWRITEBYTECODE="1"), capture_output=True, text=True,
        check=False, timeout=SOON, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be written" in done.stderr and "Traceback" not in done.stderr


def test_a_server_that_does_not_start_is_quoted(folder: Path) -> None:
    (folder / "redis").mkdir()
    (folder / "redis" / "appendonlydir").write_text("not a folder")
    done = refused(folder)
    assert (done.returncode, done.stdout.count("starting it again") <= 1) == (3, True)
    assert "the embedded server does not start: " in done.stderr and "append" in done.stderr
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------------- a large log


@pytest.fixture
def slow(folder: Path) -> str:
    """A PATH whose server takes several seconds to load the log that lies in the folder."""
    with embedded(folder) as url, connect(url, timeout=30) as server:
        server.mset({f"key:{number}": os.urandom(500) for number in range(3000)})
        server.bgrewriteaof()
        until(lambda: not server.info("persistence")["aof_rewrite_in_progress"])
    programs = folder / "bin"
    programs.mkdir()
    program = programs / "valkey-server"
    slowly = "--key-load-delay 2000 --loading-process-events-interval-bytes 1024"
    program.write_text(f'#!/bin/sh\nexec {server_binary()} "$@" {slowly}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return f"{programs}{os.pathsep}{os.environ['PATH']}"


def test_a_server_that_loads_is_waited_for_and_says_how_far_it_is(folder: Path, slow: str) -> None:
    with started(folder, workers=0, PATH=slow) as running:
        until(lambda: said(folder).count("the server loads its log: ") >= 2)
        assert not http_ok(f"{running.url}/healthz")
        until(lambda: http_ok(f"{running.url}/healthz"), LONG)
        with connect(running.redis_url) as server:
            assert server.dbsize() >= 3000


def test_a_server_that_is_killed_while_it_loads_loads_again(folder: Path, slow: str) -> None:
    with started(folder, workers=0, PATH=slow) as running:
        until(lambda: "the server loads its log: " in said(folder))
        running.kill("unixsocket")
        until(lambda: http_ok(f"{running.url}/healthz"), LONG)
        assert "server was ended by signal 9, starting it again" in said(folder)


def test_a_stop_while_the_server_loads_leaves_nothing(folder: Path, slow: str) -> None:
    with started(folder, workers=0, PATH=slow) as running:
        until(lambda: "the server loads its log: " in said(folder))
        running.process.terminate()
        assert running.process.wait(SOON) == 0
        assert running.pids() == []


def test_a_server_that_makes_no_progress_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = folder / "bin"
    programs.mkdir()
    silent = programs / "valkey-server"
    silent.write_text("#!/bin/sh\nexec sleep 600\n")
    silent.chmod(silent.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(embedded_server, "STALL_SECONDS", 1.0)
    with pytest.raises(RedisUnavailable, match="makes no progress for 1 s"), embedded(folder):
        pass
