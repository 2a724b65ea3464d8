"""Measures the cost of a picture over HTTP in Redis: commands, CPU and bytes, side by side with another checkout.

    python -m benchmarks.redis_cost [--against FOLDER] [--rounds N] [--seconds S] [--clients N]      prints JSON

Each round starts web and one worker of each checkout in turn, on a server of their own that has the options of
`digitq up` here, has the clients send the usual picture and wait for it, and stops all. Compare their ratio.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections import defaultdict
from pathlib import Path
from typing import Any

import click
import redis

from benchmarks.contenders import free_port
from benchmarks.picture import picture
from shared import keys
from shared.settings import child_environment
from shared.standalone.embedded_server import embedded
from shared.standalone.up import http_ok

WARM_SECONDS = 1.0


def one_round(folder: Path, clients: int, seconds: float) -> dict[str, Any]:
    """Measure the checkout in `folder`, with its own Python if it has one."""
    own = folder / ".venv" / "bin" / "python"
    python = str(own) if own.exists() else sys.executable
    with tempfile.TemporaryDirectory(prefix="digitq-") as state, embedded(Path(state)) as url:
        port, client = free_port(), redis.Redis.from_url(url)
        env = child_environment(REDIS_URL=url, DIGITQ_PORT=str(port), DIGITQ_STATE_DIR=state, PYTHONPATH=str(folder))
        commands = [[python, "-m", "digitq", part] for part in ("web", "worker")]
        running = [subprocess.Popen(one, cwd=folder, env=env, stderr=subprocess.DEVNULL) for one in commands]
        try:
            end = time.monotonic() + 60
            while not http_ok(f"http://127.0.0.1:{port}/readyz"):
                if time.monotonic() > end:
                    raise RuntimeError("the stack did not start")
                time.sleep(0.1)
            body, digit = picture()
            load = {
                "url": f"http://127.0.0.1:{port}",
                "body": b64encode(body).decode(),
                "digit": digit,
                "clients": clients,
            }
            _send(load, WARM_SECONDS)  # connects all clients and loads the scripts
            return _measured(client, load, seconds)
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait()


def _send(load: dict[str, Any], seconds: float) -> dict[str, Any]:
    text = json.dumps({**load, "seconds": seconds, "warm": 0.0})
    command = [sys.executable, "-m", "benchmarks.client"]
    done: dict[str, Any] = json.loads(
        subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout
    )
    if done["errors"]:
        raise RuntimeError(f"errors: {done['errors']}")
    return done


def _measured(client: Any, load: dict[str, Any], seconds: float) -> dict[str, Any]:
    def cpu() -> float:
        used = client.info("cpu")
        return float(used["used_cpu_user"] + used["used_cpu_sys"])

    client.config_resetstat()
    ended, spent, kept = client.zcard(keys.finished("digitq")), cpu(), client.info("memory")["used_memory"]
    answered = _send(load, seconds)
    spent, kept = cpu() - spent, client.info("memory")["used_memory"] - kept
    pictures = client.zcard(keys.finished("digitq")) - ended
    ran = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in client.info("commandstats").items()}
    own = sum(calls for name, calls in ran.items() if name.startswith(("info", "config", "zcard")))
    by_kind: defaultdict[str, list[int]] = defaultdict(list)
    for key in client.scan_iter(count=1000):
        name = key.decode().rpartition(":")[0]
        if len(by_kind[name]) < 200:
            by_kind[name].append(int(client.memory_usage(key) or 0))
    return {
        "pictures": pictures,
        "rate": answered["rate"],
        "commands": (sum(ran.values()) - own) / pictures,
        "redis_us": 1e6 * spent / pictures,
        "bytes": kept / pictures,
        "by_key": {name: statistics.mean(sizes) for name, sizes in sorted(by_kind.items()) if len(sizes) > 100},
        "by_command": {
            name: round(calls / pictures, 2) for name, calls in sorted(ran.items()) if calls > pictures / 50
        },
    }


@click.command()
@click.option("--against", type=click.Path(path_type=Path, exists=True), help="Another checkout to compare with")
@click.option("--rounds", default=3, show_default=True)
@click.option("--seconds", default=6.0, show_default=True, help="Length of a round")
@click.option("--clients", default=32, show_default=True)
def main(against: Path | None, rounds: int, seconds: float, clients: int) -> None:
    """Print the cost of a picture in Redis as JSON."""
    here = Path(__file__).resolve().parent.parent
    sides = {"here": here} | ({"there": against.resolve()} if against else {})
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, folder in sides.items():
            found[name].append(one_round(folder, clients, seconds))
            short = {key: round(value, 1) for key, value in found[name][-1].items() if isinstance(value, float | int)}
            click.echo(f"{name} {short}", err=True)
    medians = {
        name: {
            **many[-1],
            **{key: statistics.median(one[key] for one in many) for key in ("commands", "redis_us", "bytes")},
        }
        for name, many in found.items()
    }
    ratios = [a["redis_us"] / b["redis_us"] for a, b in zip(found["here"], found.get("there", []), strict=False)]
    click.echo(json.dumps({**medians, "redis_us_ratios": ratios}, indent=2))


if __name__ == "__main__":
    main()
