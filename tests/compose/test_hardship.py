"""The compose file where addresses change, memory is short and workers are slow: `make compose-test`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from producer import NEVER, Client, Prediction
from shared.errors import DigitqError
from tests.compose.engine import (
    PATIENT,
    URL,
    compose,
    containers,
    free_port,
    here_or_skip,
    logs_of,
    run,
    wait_until_ready,
)
from tests.pictures import seven

pytestmark = [
    pytest.mark.skipif(not os.environ.get("COMPOSE_TEST"), reason="builds images for minutes: make compose-test"),
    pytest.mark.timeout(1800),
]


@pytest.fixture(autouse=True)
def nothing_left(images: None) -> Iterator[None]:
    yield
    compose("down", "-v", "--timeout", "10", "--remove-orphans", check=False)


def photo(side: int) -> bytes:
    """Return a JPEG of a seven, square, with the grain of a camera."""
    grey = np.asarray(Image.open(BytesIO(seven(400))).convert("L").resize((side, side)), np.int16)
    grain = np.random.default_rng(1).integers(-8, 9, (side // 10, side // 10)).repeat(10, 0).repeat(10, 1)
    out = BytesIO()
    Image.fromarray(np.clip(grey + grain, 0, 255).astype(np.uint8)).convert("RGB").save(out, "JPEG", quality=75)
    return out.getvalue()


def ended(client: Client, ids: list[str]) -> list[Prediction]:
    found = []
    for id in ids:
        while not (one := client.get(id, wait=30)).state.terminal:
            pass
        found.append(one)
    print(Counter((one.state.value, one.attempt, (one.error or {}).get("code")) for one in found))
    return found


def test_web_and_redis_come_back_with_swapped_addresses() -> None:
    here_or_skip("haproxy:3.2-alpine")
    files, port = ("deploy/docker-compose.proxy.yml",), free_port()
    compose("up", "-d", files=files, PORT="0", PROXY_PORT=f"{port}")
    url = f"http://127.0.0.1:{port}"
    wait_until_ready(workers=1, url=url)
    both = containers("web") + containers("redis")
    print(addresses(both))
    run("docker", "stop", *both)
    for one in both:  # the first takes the lowest address that is free: what Redis had, which was started first
        run("docker", "start", one)
    print(addresses(both))
    wait_until_ready(workers=1, url=url)
    with Client(url) as client:
        assert client.submit(seven()).wait(60).digit == 7


def addresses(names: list[str]) -> str:
    return run("docker", "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", *names)


def test_a_redis_of_64_megabytes_refuses_when_it_is_full_and_then_all_ends() -> None:
    compose("up", "-d", "--scale", "worker=0", REDIS_MAXMEMORY="64mb")
    wait_for_web()
    large, ids, errors = seven() + bytes(1_500_000), list[str](), Counter[str]()
    with Client(URL, retry=NEVER) as client:
        while not errors or len(ids) < 5:
            assert len(ids) < 100, "it is never full"
            try:
                ids.append(client.submit(large).id)
            except DigitqError as error:
                assert error.status == 503, error
                errors[str(error)] += 1
    print(errors)
    assert any("memory is full" in text for text in errors)
    compose("up", "-d", "--scale", "worker=2", REDIS_MAXMEMORY="64mb")
    wait_until_ready(workers=2)
    with Client(URL, retry=PATIENT) as client:
        assert {one.state.value for one in ended(client, ids)} == {"succeeded"}
        assert client.submit(large).wait(60).digit == 7


def wait_for_web() -> None:
    with Client(URL, retry=PATIENT) as client:
        client.status()


def test_a_worker_with_less_memory_than_its_own_bound_warns_and_reads_large_pictures() -> None:
    compose("up", "-d")
    wait_until_ready(workers=1)
    run("docker", "update", "--memory", "1500m", "--memory-swap", "1500m", *containers("worker"))
    compose("restart", "worker")
    wait_until_ready(workers=1)
    assert "1500 MB of memory are available here" in logs_of(containers("worker")[0])
    large = photo(7000)
    with Client(URL, retry=PATIENT) as client:
        ids = [client.submit(large).id for _ in range(16)]
        found = ended(client, ids)
    assert {(one.state.value, one.digit) for one in found} == {("succeeded", 7)}


def test_slow_workers_are_late_and_poison_nothing() -> None:
    compose("up", "-d", "--scale", "worker=2")
    wait_until_ready(workers=2)
    run("docker", "update", "--cpus", "0.05", *containers("worker"))
    large = photo(3500)
    with Client(URL, retry=PATIENT) as client:
        ids = [client.submit(large).id for _ in range(50)]
        found = ended(client, ids)
    assert {(one.error or {}).get("code") for one in found} <= {None, "timeout"}
    assert sum(one.digit == 7 for one in found) > 40
