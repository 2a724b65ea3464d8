"""The forms of pictures that the Python clients take, and the results that they return."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from io import BytesIO, StringIO
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

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)


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


def pixels(store: Store, id: str) -> Any:
    return np.asarray(PIL.Image.open(BytesIO(store.image(id) or b"")))


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


@pytest.mark.parametrize(
    ("image", "arrives"),
    [
        (GREY, GREY),
        (GREY[..., None], GREY),
        (GREY / 255, GREY),
        ((GREY / 255).astype(np.float32), GREY),
        (GREY > 5, (GREY > 5) * np.uint8(255)),
        (GREY.astype(np.int64), GREY),
        (np.dstack([GREY] * 3), np.dstack([GREY] * 3)),
        (np.dstack([GREY] * 4), np.dstack([GREY] * 4)),
        (PIL.Image.fromarray(GREY), GREY),
        (PIL.Image.fromarray(np.dstack([GREY] * 3)), np.dstack([GREY] * 3)),
        (PIL.Image.fromarray((GREY > 5) * np.uint8(255)).convert("1"), GREY > 5),
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'dtype', '')}",
)
def test_arrays_and_pillow_images_arrive_with_the_same_pixels(image: Any, arrives: Any, store: Store) -> None:
    with Queue(settings=store.settings) as queue:
        assert np.array_equal(pixels(store, queue.submit(image).id), arrives)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "LAB", "F", "P", "LA", "I;16", "RGBX"])
def test_every_mode_of_pillow_can_be_submitted(mode: str, store: Store) -> None:
    with Queue(settings=store.settings) as queue:
        assert pixels(store, queue.submit(PIL.Image.new(mode, (4, 3))).id).shape[:2] == (3, 4)


def test_a_photo_opened_with_pillow_arrives_upright(store: Store, tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turn it clockwise
    PIL.Image.new("L", (4, 3)).save(tmp_path / "photo.jpg", exif=exif)
    with Queue(settings=store.settings) as queue, PIL.Image.open(tmp_path / "photo.jpg") as photo:
        assert pixels(store, queue.submit(photo).id).shape == (4, 3)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (7, TypeError, "expected bytes, a path, a file opened with 'rb', a NumPy array or a Pillow image, not int"),
        (None, TypeError, "not NoneType"),
        ([[0, 255]], TypeError, "not list"),
        (StringIO("text"), TypeError, "opened with 'rb'"),
        (np.zeros(784), ValueError, r"expected an array of height × width, .* not \(784,\)"),
        (np.zeros((2, 28, 28)), ValueError, r"not \(2, 28, 28\)"),
        (np.zeros((0, 28)), ValueError, r"not \(0, 28\)"),
        (np.full((2, 2), 255.0), ValueError, "from 0 to 1"),
        (np.full((2, 2), np.nan), ValueError, "from 0 to 1"),
        (np.full((2, 2), 256), ValueError, "from 0 to 255"),
        (np.full((2, 2), "x"), TypeError, "numbers"),
        ("missing.png", FileNotFoundError, "missing.png"),
    ],
)
def test_what_is_no_picture_is_an_error_that_says_what_is_expected(
    image: Any, error: type[Exception], message: str, store: Store
) -> None:
    with Queue(settings=store.settings) as queue, pytest.raises(error, match=message):
        queue.submit(image)
    with Client("http://127.0.0.1:1") as client, pytest.raises(error, match=message):
        client.submit(image)


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
