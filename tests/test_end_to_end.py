"""The real thing: real processes, a real server, the real model; killed, stopped and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from rq import Queue as RQQueue

from producer import Client, Prediction, Queue, State
from shared import ROOT, keys
from shared.errors import DigitqError, PredictionFailed
from shared.settings import Settings
from shared.store import connect
from tests.conftest import shared_folder
from tests.pages import page
from tests.pictures import png, seven
from tests.stack import Stack, client_of, up
from tests.waits import until

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Nothing in it is a stand-in: TensorFlow reads."""
    folder = tempfile.TemporaryDirectory(prefix="digitq-")
    with folder as name, up(Path(name), workers=2, DIGITQ_LEASE_SECONDS="2") as running:
        yield running


def submit_stubbornly(client: Client, picture: bytes) -> Prediction:
    """Retries as a user of the SDK while the web process is down: the same key again."""
    key = os.urandom(8).hex()
    for _ in range(200):
        try:
            return client.submit(picture, idempotency_key=key)
        except DigitqError:
            time.sleep(0.1)
    raise AssertionError("never accepted")


def test_a_picture_goes_all_the_way(stack: Stack) -> None:
    with client_of(stack.url) as client:
        done = client.submit(seven(), "im7.png").wait(10)
    assert (done.digit, done.state, done.filename, done.attempt) == (7, State.SUCCEEDED, "im7.png", 1)
    assert done.confidence and done.confidence > 0.5
    assert done.timings_ms and done.timings_ms["total"] > 0


def test_real_digits_are_read(stack: Stack) -> None:
    from worker.training.data.idx import load_mnist

    mnist = load_mnist(shared_folder("mnist"))
    with client_of(stack.url) as client, ThreadPoolExecutor(16) as pool:
        pictures = [png(pixels.tobytes()) for pixels in mnist.test_images[:500]]
        found = list(pool.map(lambda picture: client.submit(picture).wait(30).digit, pictures))
    right = sum(digit == label for digit, label in zip(found, mnist.test_labels.tolist(), strict=False))
    assert right >= 490


def test_every_format_and_mode_is_read(stack: Stack) -> None:
    with client_of(stack.url) as client:
        modes = {"PNG": ("1", "P", "RGBA", "LA", "I;16"), "JPEG": ("L", "CMYK"), "WEBP": ("RGB",), "GIF": ("L",),
                 "BMP": ("RGB",), "TIFF": ("L",)}  # fmt: skip
        for format, mode in [(format, mode) for format, several in modes.items() for mode in several]:
            assert client.submit(seven(112, format, mode)).wait(10).digit == 7, (format, mode)


def test_an_undecodable_picture_fails_with_its_code(stack: Stack) -> None:
    with client_of(stack.url) as client, pytest.raises(PredictionFailed, match="undecodable_image"):
        client.submit(seven(112)[:120]).wait(10)


def test_python_needs_no_web_process(stack: Stack) -> None:
    queue = Queue(stack.redis_url)
    assert queue.submit(seven(), filename="im7.png").wait(timeout=10).digit == 7
    many = queue.submit_many([seven(size) for size in (28, 56, 112)])
    assert [one.wait(10).digit for one in many] == [7, 7, 7]
    queue.close()


def test_the_embedded_server_has_a_limit_of_memory(stack: Stack) -> None:
    memory = connect(stack.redis_url, timeout=5).info("memory")
    assert (memory["maxmemory"], memory["maxmemory_policy"]) == (Settings().embedded_maxmemory(), "noeviction")


def test_a_plain_rq_client_in_another_process_is_answered(stack: Stack) -> None:
    script = (
        "import sys, redis, rq\n"
        "r = redis.Redis.from_url(sys.argv[1])\n"
        "r.set('digitq:image:mine', sys.stdin.buffer.read(), ex=600)\n"
        "queue = rq.Queue('digitq', connection=r, serializer='json')\n"
        "job = queue.enqueue('digitq.tasks.classify', 'mine', job_id='mine')\n"
        "print(job.latest_result(timeout=20).return_value['digit'])\n"
        "print(sorted({'producer', 'shared', 'worker'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", script, stack.redis_url]
    done = subprocess.run(command, input=seven(), capture_output=True, check=True, cwd="/", timeout=60)
    assert done.stdout.decode().split("\n")[:2] == ["7", "[]"]


def test_rq_info_counts_right(stack: Stack) -> None:
    with client_of(stack.url) as client:
        client.submit(seven()).wait(timeout=30)
    command = [sys.executable, "-m", "rq.cli", "info", "--url", stack.redis_url, "--raw"]
    text = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60).stdout
    assert text.count("worker ") == 2
    assert "queue digitq 0" in text


def test_killed_workers_lose_nothing_and_double_nothing(stack: Stack) -> None:
    stop, kills = threading.Event(), []

    def killer() -> None:
        while not stop.wait(1.5):
            with suppress(IndexError):
                kills.append(stack.kill("digitq worker"))

    thread = threading.Thread(target=killer)
    thread.start()
    with client_of(stack.url) as client, ThreadPoolExecutor(16) as pool:

        def post(_: int) -> str:
            time.sleep(0.08)
            return client.submit(seven()).id

        ids = list(pool.map(post, range(1300)))
        stop.set()
        thread.join()
        # Hardly any of the killed had loaded TensorFlow; on a busy machine the last takes a minute for that.
        done = list(pool.map(lambda id: client.get(id, wait=240), ids))
    assert len(kills) >= 3
    assert {one.state for one in done} == {State.SUCCEEDED}
    finished = connect(stack.redis_url, timeout=5).zcard("rq:finished:digitq")
    assert finished >= 1300


def test_a_batch_whose_worker_is_killed_in_the_middle_is_taken_over(stack: Stack) -> None:
    picture = seven(6000)  # takes a worker a while
    with client_of(stack.url) as client:
        ids = [client.submit(picture).id for _ in range(12)]
        until(lambda: client.get(ids[0]).state is not State.QUEUED)
        killed = [os.kill(pid, signal.SIGKILL) for pid in stack.pids("digitq worker")]
        done = [client.get(id, wait=180) for id in ids]
    print("killed", len(killed), "attempts", [one.attempt for one in done])
    # The first to be asked for waits for the others, too: it is running still, not failed, where time was short.
    assert [(one.state, one.digit, one.error) for one in done] == [(State.SUCCEEDED, 7, None)] * 12
    assert max(one.attempt for one in done) == 2


def test_a_killed_web_process_comes_back_and_keeps_its_promises(stack: Stack) -> None:
    with client_of(stack.url) as client, ThreadPoolExecutor(8) as pool:
        threading.Timer(0.5, lambda: [os.kill(pid, signal.SIGKILL) for pid in stack.pids("digitq web")]).start()
        sent = list(pool.map(lambda _: (time.sleep(0.02), submit_stubbornly(client, seven()))[1], range(400)))
        stack.wait_until_ready()
        assert {client.get(one.id, wait=30).state for one in sent} == {State.SUCCEEDED}


def test_a_killed_server_comes_back_and_accepted_pictures_finish(stack: Stack) -> None:
    accepted: dict[str, float] = {}

    def post(client: Client) -> None:
        with suppress(DigitqError):
            accepted[client.submit(seven()).id] = time.monotonic()
        time.sleep(0.02)

    with client_of(stack.url) as client, ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(post, client) for _ in range(1200)]
        time.sleep(3)
        killed = time.monotonic()
        stack.kill("-server unixsocket")
        for future in futures:
            future.result()
        stack.wait_until_ready()
        ends = {}
        for id, when in accepted.items():
            try:
                ends[id] = client.get(id, wait=30).state
            except DigitqError as error:
                assert when > killed - 2, error
    assert len(ends) > 100
    assert set(ends.values()) == {State.SUCCEEDED}


def test_sigterm_leaves_nothing_running_and_a_restart_keeps_the_results() -> None:
    with tempfile.TemporaryDirectory(prefix="digitq-") as name:
        with up(Path(name), workers=1) as first:
            client = Client(first.url)
            id = client.submit(seven()).wait(10).id
            client.close()
            ghost = connect(first.redis_url, timeout=5)
            ghost.zadd(keys.WORKERS, {"killed-before-the-stop": time.time() + 3600})
            ghost.close()
        assert first.process.returncode == 0
        assert first.pids() == []
        with up(Path(name), workers=1) as second:
            client = Client(second.url)
            assert client.get(id).digit == 7
            timings = client.submit(seven()).wait(10).timings_ms
            assert timings and timings["queue"] < 1000  # ready meant ready, not that a ghost is
            client.close()


def test_a_second_stack_on_the_same_data_is_refused(stack: Stack) -> None:
    command = [sys.executable, "-m", "digitq", "up", "--port", "1"]
    env = {**os.environ, "DIGITQ_STATE_DIR": str(stack.state_dir)}
    refused = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode == 2
    assert "another" in refused.stderr


def test_the_real_model_reads_the_numbers_of_a_page(stack: Stack) -> None:
    with Client(stack.url) as client:
        found = client.submit(page(), read="numbers").wait(timeout=60)
        single = client.submit(seven(), read="numbers").wait(timeout=60)
    assert "".join(number.text for number in found.numbers or ()) == "74"
    assert (single.digit, single.lines, single.decision) == (7, ["7"], "accept")
    assert sum(single.probabilities or ()) == pytest.approx(1, abs=1e-4)


def test_a_stock_rq_worker_serves_our_queue(redis_url: str, cli_env: dict[str, str]) -> None:
    client = connect(redis_url, timeout=5)
    client.flushall()
    queue = Queue(redis_url)
    good, bad = queue.submit(seven()), queue.submit(seven(112)[:120])
    command = [sys.executable, "-m", "rq.cli", "worker", "--url", redis_url, "--worker-class", "rq.SimpleWorker",
               "--serializer", "json", "--burst", *keys.QUEUES]  # fmt: skip
    subprocess.run(command, env=cli_env, cwd=ROOT, check=True, timeout=120, capture_output=True)
    found = queue.get(good.id)
    assert (found.digit, found.state, found.attempt, found.model) == (7, State.SUCCEEDED, 1, good.refresh().model)
    assert (queue.get(bad.id).error or {})["code"] == "undecodable_image"
    rq = RQQueue("digitq", connection=client, serializer="json")
    assert (rq.finished_job_registry.count, rq.failed_job_registry.count) == (1, 1)
    queue.close()
    client.close()
