"""`digitq batches`, against a web process without a worker."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from producer import Client, Queue
from shared.settings import Settings
from shared.store import Store
from tests.invoked import invoked
from tests.pictures import seven
from tests.web import web


@pytest.fixture
def url(store: Store) -> Iterator[str]:
    with web(store) as running:
        yield running.url


def test_batches_are_listed_newest_first_as_text_and_as_json(url: str) -> None:
    with Client(url) as client:
        ids = [client.submit_batch([seven(), seven(56)]).id for _ in range(3)]
        page, cursor = client.list_batches(2)
        assert [batch.refresh().id for batch in page] == ids[:0:-1]
        assert [batch.id for batch in client.list_batches(2, cursor)[0]] == ids[:1]
    listed = invoked("batches", "--url", url)
    assert re.findall(r"batch (\S+): queued  0 succeeded, 0 failed, of 2", listed.stdout) == ids[::-1]
    listed = invoked("batches", "--url", url, "--json", "--limit", "2")
    assert [json.loads(line)["id"] for line in listed.stdout.splitlines()] == ids[:0:-1]


def test_more_batches_than_a_page_holds_are_asked_for_page_by_page(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer.cli.batches.PAGE", 2)
    with Client(url) as client:
        ids = [client.submit_batch([seven()]).id for _ in range(5)]
    listed = invoked("batches", "--url", url, "--json")
    assert [json.loads(line)["id"] for line in listed.stdout.splitlines()] == ids[::-1]


def test_a_batch_has_the_name_of_its_file_whoever_submits_it(url: str, redis_url: str, tmp_path: Path) -> None:
    file = tmp_path / "scans.zip"
    with ZipFile(file, "w") as archive:
        archive.writestr("7.png", seven())
    with Client(url) as client, Queue(redis_url, Settings(allow_ephemeral="1")) as queue:
        assert [one.submit_batch(file).refresh().filename for one in (client, queue)] == ["scans.zip"] * 2
    submitted = invoked("submit", str(file), "--url", url)
    assert submitted.returncode == 0, submitted.stderr
    assert invoked("batches", "--url", url).stdout.count("scans.zip") == 3


def test_without_batches_it_says_so(url: str) -> None:
    listed = invoked("batches", "--url", url)
    assert (listed.returncode, listed.stdout, listed.stderr) == (0, "", "digitq: there are no batches\n")
