"""The MNIST files: read strictly, fetched from mirrors with checksums."""

from __future__ import annotations

import gzip
import hashlib
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import DataError
from worker.training.data.idx import FILES, encode, load_mnist, pixels, read_images, read_labels

RNG = np.random.default_rng(7)
IMAGES = RNG.integers(0, 256, (3, 28, 28), dtype=np.uint8)
LABELS = np.array([5, 0, 4], np.uint8)


def header(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_images_and_labels_are_read_whether_packed_or_not(pack, tmp_path):
    assert (read_images(pack(encode(IMAGES))) == IMAGES).all()
    (tmp_path / "labels").write_bytes(pack(encode(LABELS)))
    assert (read_labels(tmp_path / "labels") == LABELS).all()


def test_the_encoding_is_the_published_one():
    assert encode(LABELS) == header(2049, 3) + bytes([5, 0, 4])
    assert encode(IMAGES)[:16] == header(2051, 3, 28, 28)


def test_pixels_run_from_0_for_paper_to_1_for_ink():
    seen = pixels(np.array([[[0, 51, 255]]], np.uint8))
    assert seen.dtype == np.float32
    assert seen.ravel().tolist() == pytest.approx([0, 0.2, 1])


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "magic number 2051, found 0"),
        (encode(LABELS), "magic number 2051, found 2049"),
        (header(2051, 3), "header of 16 bytes, found 8"),
        (encode(IMAGES)[:-1], "truncated: expected 2368 bytes for 3 items, found 2367"),
        (encode(IMAGES) + b"\0", "trailing bytes: expected 2368 bytes for 3 items, found 2369"),
        (header(2051, 1, 2, 2) + bytes(4), "28 x 28 pixels, found 2 x 2"),
        (header(2051, 2**32 - 1, 28, 28), "truncated"),
        (gzip.compress(encode(IMAGES), mtime=0)[:-9], "cannot be read"),
    ],
)
def test_what_is_wrong_with_an_image_file_is_said(content, fault, tmp_path):
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(DataError, match=fault) as error:
        read_images(tmp_path / "images")
    assert str(tmp_path / "images") in str(error.value)


def test_a_label_above_nine_is_refused():
    with pytest.raises(DataError, match="from 0 to 9, found 10"):
        read_labels(encode(np.array([3, 10], np.uint8)))


@settings(deadline=None)  # a busy machine is slow
@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(content):
    for read in (read_images, read_labels):
        with suppress(DataError):
            read(content)


@settings(deadline=None)  # a busy machine is slow
@given(data=st.data(), packed=st.booleans())
def test_any_damage_is_read_or_refused(data, packed):
    content = bytearray(encode(IMAGES[:1]))
    if packed:
        content = bytearray(gzip.compress(content, mtime=0))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, min(len(content) - 1, 40)))] = data.draw(st.integers(0, 255))
    damaged = bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(DataError):
        assert read_images(damaged).shape[1:] == (28, 28)


def write_mnist(directory: Path, images: int = 3) -> None:
    for attribute, name in FILES.items():
        array = IMAGES[:images] if attribute.endswith("images") else LABELS
        (directory / f"{name}.gz").write_bytes(gzip.compress(encode(array), mtime=0))


def test_the_four_files_are_read_with_and_without_gz(tmp_path):
    write_mnist(tmp_path)
    packed = tmp_path / "train-images-idx3-ubyte.gz"
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    mnist = load_mnist(tmp_path)
    assert (mnist.train_images == IMAGES).all()
    assert (mnist.test_labels == LABELS).all()
    assert mnist.sha256()["t10k-labels-idx1-ubyte"] == hashlib.sha256(encode(LABELS)).hexdigest()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"neither train-images-idx3-ubyte nor .* --download"):
        load_mnist(tmp_path)


def test_images_and_labels_must_be_as_many(tmp_path):
    write_mnist(tmp_path, images=2)
    with pytest.raises(DataError, match="2 images but 3 labels"):
        load_mnist(tmp_path)


# Downloading, from a mirror on this machine.
