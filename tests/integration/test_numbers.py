"""Numbers from outside: plain RQ clients and stock workers, the Python clients and the command line."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import zipfile
from pathlib import Path

import pytest
import redis
from rq import Queue as RQQueue
from rq import SimpleWorker

from producer import AsyncClient, AsyncQueue, Client, Prediction, Queue
from shared import keys
from shared.errors import BadRequest
from shared.numbers import PageReading
from shared.prediction import State
from shared.store import Store, connect
from tests.invoked import invoked
from tests.pages import page
from tests.pictures import seven
from tests.stack import Stack


def digits(prediction: Prediction) -> str:
    return "".join(number.text for number in prediction.numbers or ())


# ---------------------------------------------------------------------- RQ


@pytest.fixture
def queue(client: redis.Redis) -> RQQueue:
    return RQQueue("digitq", connection=client, serializer="json")


def stock_worker(queue: RQQueue) -> None:
    SimpleWorker([queue], connection=queue.connection, serializer="json").work(burst=True, logging_level="CRITICAL")


def test_a_plain_rq_client_and_a_stock_worker_read_numbers(queue: RQQueue, store: Store) -> None:
    queue.connection.set(keys.image("p"), page(), ex=60)
    job = queue.enqueue("digitq.tasks.classify", "p", read="numbers")
    stock_worker(queue)
    found = store.fetch(job.id)
    assert (found.state, digits(found), found.digit) == (State.SUCCEEDED, "74", None)
    assert "".join(job.return_value()["numbers"]) == "74"


def test_a_stock_worker_reads_a_picture_of_ours_and_a_batch_as_numbers(queue: RQQueue, store: Store) -> None:
    with Queue(store.settings.redis_url) as ours:
        one = ours.submit(page(), read="numbers")
        batch = ours.submit_batch([page(), seven()], read="numbers", priority="normal")
        stock_worker(queue)
        assert digits(one.refresh()) == "74"
        readings = [PageReading.from_json(row) for row in batch.results()]
        assert ["".join(reading.lines).replace(" ", "") if reading else None for reading in readings] == ["74", "7"]


def test_a_job_with_another_way_of_reading_fails_by_name(queue: RQQueue, store: Store, stack: Stack) -> None:
    queue.connection.set(keys.image("p"), seven(), ex=60)
    job = queue.enqueue("digitq.tasks.classify", "p", read="words")
    stock_worker(queue)
    assert (store.fetch(job.id).error or {})["code"] == "unknown_read"
    theirs = connect(stack.redis_url, timeout=5)
    job = RQQueue("digitq", connection=theirs, serializer="json").enqueue(keys.JOB_FUNCTION, "p", read="words")
    with Queue(stack.redis_url) as client:
        error = client.get(job.id, wait=20).error or {}
    theirs.close()
    assert error["code"] == "unknown_read" and "`digit`" in error["message"]


# ---------------------------------------------------------------------- the clients


@pytest.mark.parametrize("kind", ["http", "redis"])
def test_both_clients_read_numbers(stack: Stack, kind: str) -> None:
    with Client(stack.url) if kind == "http" else Queue(stack.redis_url) as client:
        found = client.submit(page(), read="numbers").wait(timeout=20)
        assert digits(found) == "74" and found.digit is None and found.rotated == 0
        assert found.numbers is not None
        first = found.numbers[0].digits[0]
        left, top, width, height = first.box
        assert (first.digit, first.decision) == (7, "accept")
        assert (left, top) == pytest.approx((34, 46), abs=6) and (width, height) == pytest.approx((72, 88), abs=12)
        single = client.submit(seven(), read="numbers").wait(timeout=20)
        assert (single.digit, digits(single), len(single.probabilities or ())) == (7, "7", 10)
        assert [digits(one) for one in client.wait(client.submit_many([page(), seven()], read="numbers"))] == [
            "74",
            "7",
        ]
        rows = list(client.submit_batch([page()], read="numbers").wait(timeout=20).results())
        assert "".join(number["text"] for number in rows[0]["numbers"]) == "74"


@pytest.mark.parametrize("kind", ["http", "redis"])
def test_both_asyncio_clients_read_numbers(stack: Stack, kind: str) -> None:
    async def read() -> str:
        async with AsyncClient(stack.url) if kind == "http" else AsyncQueue(stack.redis_url) as client:
            [many] = await client.wait(await client.submit_many([page()], read="numbers"))
            one = await client.result(await client.submit(page(), read="numbers"), timeout=20)
            batch = await client.submit_batch([page()], read="numbers")
            assert (await client.batch_result(batch)).read == "numbers"
            return digits(many) + digits(one)

    assert asyncio.run(read()) == "7474"


@pytest.mark.parametrize("kind", ["http", "redis"])
def test_both_clients_refuse_another_way_of_reading(stack: Stack, kind: str) -> None:
    with Client(stack.url) if kind == "http" else Queue(stack.redis_url) as client:
        with pytest.raises(BadRequest, match="`numbers`"):
            client.submit(seven(), read="words")  # type: ignore[arg-type]
        with pytest.raises(BadRequest, match="`numbers`"):
            client.submit_batch([seven()], read="words")  # type: ignore[arg-type]


# ---------------------------------------------------------------------- the command line


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(page())
    (tmp_path / "b.png").write_bytes(seven())
    return tmp_path


def test_submit_prints_the_numbers_of_one_picture_bare_and_of_several_with_their_names(
    stack: Stack, scans: Path
) -> None:
    words = ("--read", "numbers", "--wait", "--url", stack.url)
    alone = invoked("submit", str(scans / "a.png"), *words)
    assert (alone.returncode, alone.stdout.replace(" ", "")) == (0, "74\n")
    several = invoked("submit", str(scans), *words)
    assert several.stdout.replace(f"{scans}/", "").replace("7 4", "74") == "a.png: 74\nb.png: 7\n"


def test_submit_prints_all_of_the_numbers_as_json_and_their_text_as_csv(stack: Stack, scans: Path) -> None:
    words = ("submit", str(scans / "a.png"), "--read", "numbers", "--wait", "--url", stack.url)
    body = json.loads(invoked(*words, "--json").stdout)
    assert len([digit["box"] for number in body["numbers"] for digit in number["digits"]]) == 2
    [row] = csv.DictReader(io.StringIO(invoked(*words, "--csv").stdout))
    assert (row["text"].replace(" ", ""), row["digit"]) == ("74", "")


def test_a_batch_of_numbers_prints_a_line_for_each_picture(stack: Stack, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "scans.zip", "w") as archive:
        archive.writestr("a.png", page())
        archive.writestr("b.png", seven())
    words = ("submit", str(tmp_path / "scans.zip"), "--read", "numbers", "--wait", "--url", stack.url)
    first, second, *_ = invoked(*words).stdout.splitlines()
    assert (first.replace("7 4", "74"), second) == ("a.png: 74", "b.png: 7")
    rows = list(csv.DictReader(io.StringIO(invoked(*words, "--csv").stdout)))
    assert [row["text"].replace(" ", "") for row in rows] == ["74", "7"]


def test_the_journal_tells_ways_of_reading_apart(stack: Stack, scans: Path, tmp_path: Path) -> None:
    words = ("submit", str(scans / "b.png"), "--wait", "--json", "--journal", str(tmp_path / "j"), "--url", stack.url)
    digit, numbers, again = invoked(*words), invoked(*words, "--read", "numbers"), invoked(*words, "--read", "numbers")
    assert "numbers" not in json.loads(digit.stdout) and "numbers" in json.loads(numbers.stdout)
    assert json.loads(again.stdout)["id"] == json.loads(numbers.stdout)["id"] != json.loads(digit.stdout)["id"]


def test_labels_go_with_single_digits(scans: Path) -> None:
    (scans / "labels").write_bytes(b"")
    words = ("--labels", str(scans / "labels"), "--read", "numbers")
    assert invoked("submit", str(scans / "a.png"), *words).returncode == 2
