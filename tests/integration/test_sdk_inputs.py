"""The forms of pictures that the Python clients take, and the results that they return."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import PIL.Image
import pytest

from digitq import AsyncClient, AsyncQueue, Client, Queue
from shared.batch import COLUMNS
from shared.store import Store
from tests.pictures import seven
from tests.stack import Stack
from tests.web import Web, web


@pytest.fixture
def site(store: Store) -> Iterator[Web]:
    with web(store) as running:
        yield running


@pytest.fixture(params=[Client, AsyncClient, Queue, AsyncQueue])
def submit(request: pytest.FixtureRequest, site: Web, redis_url: str) -> Any:
    """`submit` of each client, as a plain call."""
    client = request.param
    url = site.url if "Client" in client.__name__ else redis_url

    async def on_a_loop(image: Any, **options: Any) -> Any:
        async with client(url) as sdk:
            return await sdk.submit(image, **options)

    def here(image: Any, **options: Any) -> Any:
        with client(url) as sdk:
            return sdk.submit(image, **options)

    return (lambda *a, **o: asyncio.run(on_a_loop(*a, **o))) if client.__name__.startswith("Async") else here


def test_bytes_paths_and_files_arrive_as_they_are(submit: Any, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "seven.png"
    path.write_bytes(seven())
    with path.open("rb") as file:
        named = [(path, "seven.png"), (str(path), "seven.png"), (file, "seven.png"), (BytesIO(seven()), None),
                 (seven(), None), (bytearray(seven()), None), (memoryview(seven()), None)]  # fmt: skip
        for image, filename in named:
            prediction = submit(image)
            assert (prediction.filename, store.image(prediction.id)) == (filename, seven())
    assert submit(path, filename="other.png").filename == "other.png"


def test_many_and_batches_take_the_same(stack: Stack, tmp_path: Path) -> None:
    path, zipped = tmp_path / "seven.png", tmp_path / "sevens.zip"
    path.write_bytes(seven())
    with ZipFile(zipped, "w") as archive:
        archive.write(path, "in.png")
    pictures: list[Any] = [path, str(path), ("named.png", PIL.Image.open(path)), np.asarray(PIL.Image.open(path))]
    names = ["seven.png", "seven.png", "named.png", None]
    for one in (Client(stack.url), Queue(stack.redis_url)):
        with one as sdk:
            assert [found.filename for found in sdk.submit_many(pictures)] == names
            rows = sdk.submit_batch(pictures).wait(timeout=30).results()
            assert [(row["filename"], row["digit"]) for row in rows] == [(name, 7) for name in names]
            with zipped.open("rb") as file:
                for batch in (zipped, str(zipped), file):
                    assert [row["filename"] for row in sdk.submit_batch(batch).wait(30).results()] == ["in.png"]
            assert sdk.submit_batch(np.zeros((5, 28, 28), np.uint8)).total == 5


def test_results_have_a_length_an_order_and_types(stack: Stack) -> None:
    async def from_asyncio(sdk: AsyncClient | AsyncQueue) -> Any:
        async with sdk:
            return await sdk.results((await sdk.submit_batch([seven(), b"no picture"])).id)

    for one in (Client(stack.url), Queue(stack.redis_url)):
        with one as sdk:
            batch = sdk.submit_batch([seven(), b"no picture"]).wait(timeout=30)
            results = batch.results()
        assert (len(results), results[0]["digit"], results[-1]["state"]) == (2, 7, "failed")
        assert results[1]["error"] and results[1]["error"]["code"] == "unsupported_type"
        assert tuple(results[0]) == (*COLUMNS, "model")
    assert len(asyncio.run(from_asyncio(AsyncClient(stack.url)))) == 2
    assert len(asyncio.run(from_asyncio(AsyncQueue(stack.redis_url)))) == 2
