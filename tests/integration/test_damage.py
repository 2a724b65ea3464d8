"""Whatever is damaged in an upload, it is read or refused by name; the short way and the long way agree."""

from __future__ import annotations

import random
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.uploads.files import opened, pictures
from shared.errors import DigitqError, MalformedBatch
from shared.settings import Settings
from shared.store import Store, connect
from tests.hostile.bombs import PNG_28
from tests.hostile.mutations import mutated
from tests.hostile.run import BOUNDARY, archive, batches, form
from tests.hostile.seeds import drawn, encoded, seeds
from tests.pictures import png_chunk, seven
from tests.served import WebClient, site
from worker.decoding.decode import decode
from worker.decoding.fast_png import decode_plain_pngs

SETTINGS = Settings(max_pixels=1_000_000, max_upload_bytes=100_000, batch_max_images=1000, batch_max_bytes=1_000_000)

dice = st.integers(0, 2**32).map(random.Random)
# Made when they are first drawn: every test process collects this file.
pictures_of_all_kinds = st.deferred(lambda: st.sampled_from(list(seeds().values())))
whole_batches = st.deferred(lambda: st.sampled_from(batches()))


@settings(deadline=None, max_examples=300)
@given(whole_batches, dice)
def test_a_damaged_batch_is_read_to_its_end_or_refused_by_name(batch: bytes, dice: random.Random) -> None:
    with suppress(DigitqError):
        upload = opened(BytesIO(mutated(batch, dice, batches())), SETTINGS)
        assert sum(chunk.count for chunk in upload.chunks) == upload.total


def test_an_undamaged_batch_is_read_to_its_end() -> None:
    for batch in batches():
        upload = opened(BytesIO(batch), SETTINGS)
        assert sum(chunk.count for chunk in upload.chunks) == upload.total > 0


def test_a_file_without_a_name_in_a_zip_fails_no_upload() -> None:
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("7.png", seven())
        file.filelist[0].filename = ""  # in the directory alone
    out.seek(0)
    assert opened(out, SETTINGS).total == 1


def test_a_zip_that_asks_for_a_newer_reader_is_refused_by_name() -> None:
    data = archive([seven()])
    at = data.index(b"PK\x01\x02") + 6  # the version that the entry needs, in the directory
    with pytest.raises(MalformedBatch):
        opened(BytesIO(data[:at] + b"\x54" + data[at + 1 :]), SETTINGS)


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=300), pictures_of_all_kinds, dice), max_size=5))
def test_files_with_any_names_and_any_damage_are_a_batch(files: list[tuple[str, bytes, random.Random]]) -> None:
    damaged = [(name, mutated(data, dice, list(seeds().values()))) for name, data, dice in files]
    with suppress(DigitqError):
        upload = pictures(damaged, len(damaged), SETTINGS)
        assert sum(chunk.count for chunk in upload.chunks) == len(files)


@pytest.fixture(scope="module")
def web(redis_url: str) -> Iterator[WebClient]:
    store = Store(connect(redis_url), Settings(redis_url=redis_url))
    with site(store) as web:
        yield web
    store.client.close()


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # Werkzeug closes no file of a broken form
@settings(deadline=None)
@given(dice=dice, path=st.sampled_from(["/v1/predictions", "/v1/batches", "/"]))
def test_a_damaged_form_is_no_error_of_ours(web: WebClient, dice: random.Random, path: str) -> None:
    body = mutated(form(dice.choice(list(seeds().values()))), dice, batches())
    answer = web.post(path, data=body, content_type=f"multipart/form-data; boundary={BOUNDARY}")
    assert answer.status_code < 500, answer.text


@settings(deadline=None, max_examples=300)
@given(st.lists(st.integers(0, 5), min_size=28, max_size=28), st.binary(max_size=28 * 28), st.integers(-30, 30))
def test_the_short_way_reads_a_png_as_the_long_way_does(filters: list[int], pixels: bytes, extra: int) -> None:
    rows = b"".join(bytes([how]) + pixels[28 * at : 28 * at + 28].ljust(28, b"\x55") for at, how in enumerate(filters))
    rows = rows[:extra] if extra < 0 else rows + bytes(extra)
    data = PNG_28 + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    assert_same(data)
    if extra >= 0 and max(filters) < 5:
        assert decode_plain_pngs([data])[0] == [0]


@settings(deadline=None, max_examples=300)
@given(dice)
def test_the_short_way_takes_nothing_damaged_for_whole(dice: random.Random) -> None:
    assert_same(mutated(encoded(drawn("L", (28, 28)), "PNG"), dice, list(seeds().values())))


def assert_same(data: bytes) -> None:
    """Assert that the fast path and the full path read the same, as the same."""
    for grey in decode_plain_pngs([data])[1]:
        assert np.array_equal(grey, decode(data, max_pixels=784))
