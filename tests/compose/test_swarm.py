"""The compose file on Swarm: `make compose-test`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.compose.engine import PROJECT, Load, free_port, run, wait_until_ready

pytestmark = [
    pytest.mark.skipif(not os.environ.get("COMPOSE_TEST"), reason="builds images for minutes: make compose-test"),
    pytest.mark.timeout(1800),
]
SWARM = f"{PROJECT}-swarm"
VOLUME = f"{SWARM}_redis-data"


@pytest.fixture
def swarm(images: None) -> Iterator[None]:
    joined = run("docker", "info", "-f", "{{.Swarm.LocalNodeState}}") == "active"
    if not joined:
        run("docker", "swarm", "init", "--advertise-addr", "127.0.0.1")
    yield
    run("docker", "stack", "rm", SWARM)
    if not joined:
        run("docker", "swarm", "leave", "--force")
    # Removing a stack returns before its containers are gone, and never removes its volume.
    end = time.monotonic() + 60
    while run("docker", "ps", "-aq", "--filter", f"volume={VOLUME}"):
        assert time.monotonic() < end, "the containers of the stack are still there"
        time.sleep(0.3)
    run("docker", "volume", "rm", VOLUME)


def test_the_same_file_deploys_on_swarm_and_its_workers_are_changed_under_load(swarm: None) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    run("docker", "tag", "digitq-worker", "digitq-worker:next")
    run(
        "docker",
        "stack",
        "deploy",
        "--resolve-image",
        "never",
        "-c",
        "docker-compose.yml",
        "-c",
        "tests/compose/swarm.yml",
        SWARM,
        PORT=f"{port}",
    )
    wait_until_ready(workers=1, url=url)
    run("docker", "service", "scale", f"{SWARM}_worker=3")
    wait_until_ready(workers=3, url=url)
    with Load(url) as load:
        load.goes_on()
        run("docker", "service", "update", "--no-resolve-image", "--image", "digitq-worker:next", f"{SWARM}_worker")
        load.goes_on()
    assert load.ends() == {"succeeded": len(load.accepted)} and not load.errors
    assert "digitq-worker:next" in run("docker", "service", "ps", "-f", "desired-state=running", f"{SWARM}_worker")
