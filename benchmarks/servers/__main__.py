"""Runs one server until stdin ends (also if the parent is killed) or SIGTERM, then stops all its processes.

python -m benchmarks.servers NAME PORT FOLDER
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from shared import ROOT
from shared.settings import SHIPPED_MODEL, child_environment
from shared.standalone.embedded_server import embedded

#: Packages of other queues, separate from the pinned ones of the project. `make bench` installs them.
PACKAGES = ROOT / "var" / "bench" / "packages"
#: The variable that names the folder of the model; without it, all use the one in service.
MODEL = "BENCH_MODEL"
#: The servers that need them.
PACKAGED = ("celery", "dramatiq", "mosec")


def commands(name: str, port: int) -> list[list[str]]:
    """Return the processes of a contender. A web process that waits in threads has as many as digitq's."""
    granian = ["granian", "--interface", "wsgi", "--no-ws", "--port", str(port), "--log-level", "error"]
    waiting = [*granian, "--blocking-threads", "128"]
    celery = ["-A", "benchmarks.servers.celery_app:celery", "worker", "--pool", "solo", "--loglevel", "ERROR"]
    dramatiq = ["benchmarks.servers.dramatiq_app", "--processes", "1", "--threads", "8"]
    mosec = ["--address", "127.0.0.1", "--port", str(port), "--log-level", "error"]
    inline = ["--workers", "2", "--blocking-threads", "4"]
    digitq = [sys.executable, "-m", "digitq", "up", "--port", str(port), "--workers"]
    return {
        "digitq": [[*digitq, "1"]],
        "digitq2": [[*digitq, "2"]],
        "rq": [[*waiting, "benchmarks.servers.rq_app:app"], ["rq", "worker", "-w", "rq.SimpleWorker", "--quiet"]],
        "celery": [[*waiting, "benchmarks.servers.celery_app:app"], [sys.executable, "-m", "celery", *celery]],
        "dramatiq": [[*waiting, "benchmarks.servers.dramatiq_app:app"], [sys.executable, "-m", "dramatiq", *dramatiq]],
        "mosec": [[sys.executable, "-m", "benchmarks.servers.mosec_app", *mosec]],
        "inline": [[*granian, *inline, "benchmarks.servers.inline:app"]],
        "inline_preprocessing": [[*granian, *inline, "benchmarks.servers.inline:preprocessing"]],
    }[name]


@contextmanager
def running(command: list[str], env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process; it and its children are killed if they have not stopped ten seconds after SIGTERM."""
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def main(name: str, port: int, folder: Path) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    path = os.pathsep.join([str(ROOT), *([str(PACKAGES)] if name in PACKAGED else [])])
    # mosec looks for its server, a program, in the folders of scripts: where it was installed is that of a user.
    changes = {"PYTHONPATH": path} | ({"PYTHONUSERBASE": str(PACKAGES)} if name == "mosec" else {})
    if "digitq" in name:
        changes |= {"DIGITQ_STATE_DIR": str(folder), "DIGITQ_MODEL_PATH": os.environ.get(MODEL, str(SHIPPED_MODEL))}
    with ExitStack() as stack:
        if name in ("rq", "celery", "dramatiq"):
            url = stack.enter_context(embedded(folder))
            changes |= {"REDIS_URL": url, "RQ_REDIS_URL": url}
        env = child_environment(**changes)
        started = [stack.enter_context(running(command, env)) for command in commands(name, port)]
        while not select.select([sys.stdin], [], [], 0.5)[0]:
            if any(process.poll() is not None for process in started):
                sys.exit(f"{name}: a process has ended by itself")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
