"""Measures what a picture over HTTP costs the web process, side by side with another checkout.

    python -m benchmarks.web_cost --against FOLDER [--rounds N] [--seconds S]      prints JSON

Both web processes run at the same time on one embedded Redis with one worker, that of this checkout. They are loaded in
turn by 64 clients that wait for their pictures, so a drift of the machine affects both. The ratios are the result:
pictures a second, and CPU of the web process a picture.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from benchmarks.contenders import free_port
from benchmarks.picture import picture
from benchmarks.processes import cpu_seconds, groups
from shared.settings import child_environment
from shared.standalone.embedded_server import embedded
from shared.standalone.up import http_ok

CLIENTS = 64
HERE = Path(__file__).resolve().parent.parent


class Side:
    """The web process of one checkout."""

    def __init__(self, checkout: Path, url: str, state: str) -> None:
        self.port = free_port()
        env = child_environment(
            REDIS_URL=url, DIGITQ_PORT=str(self.port), DIGITQ_STATE_DIR=state, PYTHONPATH=str(checkout)
        )
        self._process = subprocess.Popen([sys.executable, "-m", "digitq", "web"], cwd=checkout, env=env)
        self._load = {"url": f"http://127.0.0.1:{self.port}", "clients": CLIENTS}

    def wait_until_ready(self) -> None:
        """Return when an upload would be answered."""
        end = time.monotonic() + 60
        while not http_ok(f"http://127.0.0.1:{self.port}/readyz"):
            if time.monotonic() > end:
                raise RuntimeError("the web process did not start")
            time.sleep(0.1)

    def loaded(self, seconds: float) -> dict[str, float]:
        """Return pictures a second and CPU in us a picture under load."""
        body, digit = picture()
        load = {**self._load, "body": b64encode(body).decode(), "digit": digit, "seconds": seconds}
        pids = [pid for many in groups(self._process.pid).values() for pid in many]
        before = cpu_seconds(pids)
        command = [sys.executable, "-m", "benchmarks.client"]
        done: dict[str, Any] = json.loads(
            subprocess.run(command, input=json.dumps(load), check=True, capture_output=True, text=True, cwd=HERE).stdout
        )
        if done["errors"]:
            raise RuntimeError(f"errors: {done['errors']}")
        used = cpu_seconds(pids) - before
        return {"rate": done["rate"], "cpu_us": 1e6 * used / (done["rate"] * seconds)}

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()


@click.command()
@click.option("--against", type=click.Path(path_type=Path, exists=True), required=True, help="Another checkout")
@click.option("--rounds", default=10, show_default=True)
@click.option("--seconds", default=4.0, show_default=True, help="Length of a round")
def main(against: Path, rounds: int, seconds: float) -> None:
    """Print what a picture costs the web process, as JSON."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="digitq-"))
        url = stack.enter_context(embedded(Path(folder)))
        sides = {"here": Side(HERE, url, folder), "there": Side(against.resolve(), url, folder)}
        for side in sides.values():
            stack.callback(side.stop)
        env = child_environment(REDIS_URL=url, DIGITQ_STATE_DIR=folder)
        worker = subprocess.Popen([sys.executable, "-m", "digitq", "worker"], env=env, cwd=HERE)
        stack.callback(worker.wait)
        stack.callback(worker.terminate)
        for side in sides.values():
            side.wait_until_ready()
            side.loaded(1.0)  # it has connected, and Redis knows the scripts
        found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
        for number in range(rounds):
            for name in list(sides)[:: 1 if number % 2 else -1]:
                found[name].append(sides[name].loaded(seconds))
                click.echo(f"{name} {found[name][-1]}", err=True)
    pairs = list(zip(found["here"], found["there"], strict=True))
    ratios = {key: [round(here[key] / there[key], 3) for here, there in pairs] for key in ("rate", "cpu_us")}
    medians = {key: statistics.median(many) for key, many in ratios.items()}
    click.echo(json.dumps({"ratios": ratios, "medians": medians}))


if __name__ == "__main__":
    main()
