"""Both images and the compose file on a real engine: `make compose-test`."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.request import urlopen

import pytest

from producer import Client
from shared import ROOT
from tests.compose.engine import PATIENT, URL, Load, compose, containers, free_port, here_or_skip, run, wait_until_ready
from tests.pictures import seven

pytestmark = [
    pytest.mark.skipif(not os.environ.get("COMPOSE_TEST"), reason="builds images for minutes: make compose-test"),
    pytest.mark.timeout(1800),
]
MB = 1_000_000


def scale(workers: int, *words: str, **env: str) -> None:
    compose("up", "-d", "--scale", f"worker={workers}", *words, **env)
    wait_until_ready(workers)


@pytest.fixture(scope="module")
def stack(images: None) -> Iterator[None]:
    try:
        scale(1)
        yield
    except BaseException:
        compose("ps", check=False)
        print(compose("logs", "--tail", "30", check=False))
        raise
    finally:
        compose("down", "-v", "--timeout", "10", check=False)


@pytest.mark.parametrize(("part", "most"), [("web", 100), ("worker", 1200)])
def test_what_the_images_add_to_their_base_is_small(images: None, part: str, most: int) -> None:
    base, ours = (int(run("docker", "image", "inspect", "-f", "{{.Size}}", name)) for name in
                  ("python:3.11-slim", f"digitq-{part}"))  # fmt: skip
    print(f"{part}: {ours / MB:.0f} MB, {(ours - base) / MB:.0f} of them ours")
    assert ours - base < most * MB


def test_the_containers_run_as_nobody_on_a_file_system_they_cannot_write(stack: None) -> None:
    for part in ("web", "worker"):
        [container] = containers(part)
        assert run("docker", "exec", container, "id", "-u") == "10001"
        wrote = run("docker", "exec", container, "sh", "-c", "touch /app/x /x 2>/dev/null || echo no")
        assert wrote == "no"


def test_four_workers_classify_a_hundred_pictures(stack: None) -> None:
    scale(4)
    with Client(URL) as client, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda size: client.submit(seven(size)).wait(30), range(28, 128)))
    assert [one.digit for one in found] == [7] * 100


def test_no_client_notices_that_workers_come_and_go(stack: None) -> None:
    scale(1)
    with Load() as load:
        for workers in (4, 1):
            scale(workers)
            load.goes_on()
    assert load.ends() == {"succeeded": len(load.accepted)} and not load.errors


def test_no_client_notices_that_the_workers_image_is_changed(stack: None) -> None:
    scale(2)
    subprocess.run(["docker", "build", "-qt", "digitq-worker:next", "-"], check=True, text=True,
                   input="FROM digitq-worker\nLABEL release=next\n")  # fmt: skip
    with Load() as load:
        scale(2, "--no-deps", "worker", TAG="next")
        load.goes_on()
    assert load.ends() == {"succeeded": len(load.accepted)} and not load.errors
    labels = json.loads(run("docker", "inspect", *containers("worker")))
    assert [one["Config"]["Labels"].get("release") for one in labels] == ["next", "next"]
    scale(2, "--no-deps", "worker")


@pytest.mark.parametrize("part", ["worker", "web", "redis"])
def test_a_container_that_is_killed_comes_back_and_nothing_is_lost(stack: None, part: str) -> None:
    scale(2)
    with Load(retry=PATIENT) as load:
        load.goes_on()
        run("docker", "exec", containers(part)[0], "sh", "-c", "kill -9 -1", check=False)
        wait_until_ready(workers=2)
        load.goes_on()
    assert load.ends() == {"succeeded": len(load.accepted)} and not load.errors


def test_redis_restarts_and_is_replaced_with_its_volume(stack: None) -> None:
    scale(2)
    with Load(retry=PATIENT) as load:
        load.goes_on()
        compose("restart", "redis")
        load.goes_on()
        compose("rm", "-sf", "redis")
        compose("up", "-d", "--no-deps", "redis")
        load.goes_on()
    assert load.ends() == {"succeeded": len(load.accepted)} and not load.errors


def test_a_stop_of_everything_under_load_loses_nothing(stack: None) -> None:
    scale(2)
    with Load() as load:
        load.goes_on()
        compose("stop")
    ended = [json.loads(run("docker", "inspect", "-f", "{{json .State}}", one)) for one in compose("ps", "-aq").split()]
    assert ended and 137 not in [one["ExitCode"] for one in ended], "killed when its grace was over"
    compose("start")
    wait_until_ready(workers=2)
    assert load.ends() == {"succeeded": len(load.accepted)}


def test_several_web_processes_behind_one_port(stack: None) -> None:
    """The client sees one address; one of the three is killed, another stopped."""
    files, port = ("deploy/docker-compose.proxy.yml",), free_port()
    here_or_skip("haproxy:3.2-alpine")
    compose("up", "-d", "--scale", "web=3", "--scale", "worker=2", files=files, PORT="0", PROXY_PORT=f"{port}")
    url = f"http://127.0.0.1:{port}"
    wait_until_ready(workers=2, url=url)
    with Load(url) as load:
        load.goes_on()
        first, second, _ = containers("web")
        run("docker", "stop", second)
        load.goes_on()
        run("docker", "exec", first, "sh", "-c", "kill -9 -1", check=False)
        load.goes_on()
    assert load.ends() == {"succeeded": len(load.accepted)} and not load.errors
    compose("stop", "proxy", files=files)
    compose("rm", "-sf", "proxy", files=files)


def test_each_file_can_be_added_to_the_main_one(images: None) -> None:
    """Those whose images no registry gives us here, too."""
    for file in sorted(ROOT.glob("deploy/docker-compose.*.yml")):
        passwords = {"REDIS_OPERATOR_PASSWORD": "o", "GRAFANA_PASSWORD": "g"}
        assert compose("config", "--quiet", files=(f"deploy/{file.name}",), **passwords) == ""


def test_prometheus_reads_every_replica(stack: None) -> None:
    files, port = ("deploy/docker-compose.observe.yml",), free_port()
    here_or_skip("prom/prometheus:v3.5.0")
    try:
        compose("up", "-d", "--scale", "web=2", "--scale", "worker=2", "web", "worker", "prometheus", files=files,
                PORT="0", PROMETHEUS_PORT=f"{port}", GRAFANA_PASSWORD="g")  # fmt: skip
        end, up = time.monotonic() + 90, []
        while len(up) != 4 and time.monotonic() < end:
            time.sleep(0.5)
            with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/api/v1/targets", timeout=5) as response:
                found = json.load(response)["data"]["activeTargets"]
                up = sorted(one["labels"]["job"] for one in found if one["health"] == "up")
        assert up == ["digitq-web"] * 2 + ["digitq-worker"] * 2
    finally:
        compose("rm", "-sf", "prometheus", files=files, GRAFANA_PASSWORD="g")
