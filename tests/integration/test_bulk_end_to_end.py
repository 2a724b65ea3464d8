"""Batches, for real: real processes, the real model, thousands of digits; killed in the middle."""

from __future__ import annotations

import gzip
import io
import json
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from producer import Client, Queue
from shared import ROOT
from shared.batch import BatchState
from shared.errors import MalformedBatch
from shared.settings import Settings
from shared.store import connect
from tests.conftest import shared_folder
from tests.pictures import png, seven
from tests.stack import Stack, client_of, up

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def seed() -> Iterator[Stack]:
    """Two workers with the model of the recipe `seed`."""
    folder = tempfile.TemporaryDirectory(prefix="digitq-")
    model = str(ROOT / "worker" / "model_seed")
    with folder as name, up(Path(name), workers=2, DIGITQ_LEASE_SECONDS="2", DIGITQ_MODEL_PATH=model) as running:
        yield running


def mnist(name: str) -> Path:
    return shared_folder("mnist") / name


IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"


def labels() -> list[int]:
    return list(gzip.decompress(mnist(LABELS).read_bytes())[8:])


def test_ten_thousand_digits_on_the_command_line(seed: Stack) -> None:
    command = [sys.executable, "-m", "digitq", "submit", str(mnist(IMAGES)), "--labels", str(mnist(LABELS)),
               "--wait", "--json", "--url", seed.url]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    found = json.loads(done.stdout)
    assert (found["total"], found["succeeded"], found["failed"]) == (10_000, 10_000, 0)
    assert found["accuracy"] >= 0.98
    assert found["images_per_second"] > 500


def test_a_worker_that_is_killed_in_the_middle_loses_and_doubles_nothing(seed: Stack) -> None:
    raw = gzip.decompress(mnist(IMAGES).read_bytes())
    many = raw[:4] + (40_000).to_bytes(4, "big") + raw[8:16] + 4 * raw[16:]
    with client_of(seed.url) as client:
        batch = client.submit_batch(many)
        while not (batch := batch.refresh()).succeeded:
            time.sleep(0.01)
        seed.kill("digitq worker")
        seen = batch.refresh()
        assert seen.state is BatchState.RUNNING
        ended = seen.wait(120)
        assert (ended.state, ended.succeeded, ended.failed) == (BatchState.FINISHED, 40_000, 0)
        digits = [row["digit"] for row in ended.results()]
    right = sum(digit == label for digit, label in zip(digits, 4 * labels(), strict=True))
    assert right >= 0.98 * 40_000
    redis = connect(seed.redis_url)
    jobs = [redis.xlen(f"rq:results:{batch.id}-{n}") for n in range(157)]
    redis.close()
    assert jobs == [1] * 157  # each chunk has ended once


def test_a_single_picture_does_not_wait_for_a_batch(seed: Stack) -> None:
    with client_of(seed.url) as client:
        batch = client.submit_batch(mnist(IMAGES))
        single = client.submit(seven()).wait(10)
        assert single.timings_ms is not None
        assert not batch.refresh().state.terminal or single.timings_ms["total"] < 1000
        batch.wait(60)


def test_pictures_and_zips_are_batches_for_both_clients(seed: Stack) -> None:
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("seven.png", seven())
        archive.writestr("broken.png", seven()[:60])
    with client_of(seed.url) as client, Queue(settings=replace(Settings(), redis_url=seed.redis_url)) as queue:
        for side in (client, queue):
            mixed = side.submit_batch([("a.png", seven()), seven(112), b"text"], priority="high").wait(30)
            assert [(row["filename"], row["digit"]) for row in mixed.results()] == [
                ("a.png", 7), (None, 7), (None, None)
            ]  # fmt: skip
            packed = side.submit_batch(zipped.getvalue()).wait(30)
            first, second = packed.results()
            assert (first["digit"], second["error"]["code"]) == (7, "undecodable_image")
            key = side.submit_batch([png()], idempotency_key=f"key-{type(side).__name__}")
            assert side.submit_batch([png()], idempotency_key=f"key-{type(side).__name__}").id == key.id
            with pytest.raises(MalformedBatch):
                side.submit_batch(mnist(LABELS))


def test_a_body_that_is_read_piece_by_piece_arrives_whole_with_a_length_and_without(seed: Stack) -> None:
    raw = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (1000, 28, 28)) + bytes(1000 * 784)
    pieces = (raw[at : at + 100_000] for at in range(0, len(raw), 100_000))
    for content in (raw, pieces):  # an iterable is sent in chunks
        answer = httpx2.post(f"{seed.url}/v1/batches", content=content, headers={"Prefer": "wait=20"}, timeout=30)
        assert (answer.status_code, answer.json()["succeeded"]) == (200, 1000)


def test_a_connection_that_breaks_in_the_middle_leaves_nothing_behind(seed: Stack) -> None:
    data = mnist(IMAGES).read_bytes()
    redis = connect(seed.redis_url)
    before = redis.dbsize()
    host, port = seed.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST /v1/batches HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
        connection.sendall(head.encode() + data[: len(data) // 2])
    with client_of(seed.url) as client:
        assert client.submit_batch([seven()]).wait(30).succeeded == 1
    left = [key for key in redis.keys("digitq:[bcr]*") if b":chunk:" in key]
    redis.close()
    assert left == [] and before


def test_labels_of_another_set_are_refused_and_nothing_is_run(seed: Stack, tmp_path: Path) -> None:
    few = tmp_path / "labels"
    few.write_bytes(b"\0\0\x08\x01\0\0\0\x02\x01\x02")
    command = [sys.executable, "-m", "digitq", "submit", str(mnist(IMAGES)), "--labels", str(few), "--url", seed.url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "10000 images" in done.stderr and "2 labels" in done.stderr


def test_labels_belong_to_one_idx_file(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(seven())
    command = [sys.executable, "-m", "digitq", "submit", str(picture), "--labels", str(picture)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")


def test_a_client_that_has_no_server_says_so() -> None:
    client = Client("http://127.0.0.1:9")
    with pytest.raises(Exception, match="does not answer"):
        client.submit_batch([seven()])
    client.close()
