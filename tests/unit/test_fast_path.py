"""The fast way for pictures like MNIST's gives, to the last bit, what the slow way gives."""

from __future__ import annotations

import gzip
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import shared_folder
from tests.fakes import OnlyDigits
from tests.scenes import near_mnist
from worker.image.fast_path import normalise_mnist_like
from worker.image.normalise import normalise
from worker.inference.classify import Classifier


def test_digits() -> NDArray[np.uint8]:
    data = gzip.decompress((shared_folder("mnist") / "t10k-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(data, np.uint8, offset=16).reshape(-1, 28, 28)


test_digits.__test__ = False  # type: ignore[attr-defined]


def assert_same(greys: NDArray[np.uint8]) -> int:
    """Compare all that go the fast way; return how many did."""
    found = normalise_mnist_like(greys)
    for at, fast in found.items():
        slow = normalise(greys[at])
        assert fast.warnings == slow.warnings, at
        assert fast.pixels.dtype == slow.pixels.dtype
        assert fast.pixels.tobytes() == slow.pixels.tobytes(), at
    return len(found)


def test_digits_of_mnist_go_the_fast_way_and_end_the_same() -> None:
    assert assert_same(test_digits()[:3000]) > 2950


def changed(greys: NDArray[np.uint8], way: str) -> NDArray[np.uint8]:
    random = np.random.default_rng(1)
    if way == "inverted":
        return 255 - greys
    if way == "shifted":
        return np.roll(greys, (1, -1), axis=(1, 2))
    if way == "dim":
        return greys // 2
    if way == "thick":
        return np.maximum(greys, np.roll(greys, 2, axis=2))
    if way == "noisy":
        return np.maximum(greys, random.integers(0, 12, greys.shape, dtype=np.uint8))
    if way == "filled":  # the skewness goes all the way down to where the polarity is in doubt
        share = np.linspace(0, 0.6, len(greys))[:, None, None]
        middle = np.zeros((28, 28), bool)
        middle[4:24, 4:24] = True
        return np.where((random.random(greys.shape) < share) & middle, 255, greys).astype(np.uint8)
    return random.integers(0, 256, greys.shape, dtype=np.uint8)


@pytest.mark.parametrize("way", ["inverted", "shifted", "dim", "thick", "noisy", "filled", "random"])
def test_the_fast_path_and_the_full_path_give_the_same_pixels(way: str) -> None:
    assert_same(changed(test_digits()[:600], way))


def test_blank_and_odd_sizes_go_the_slow_way() -> None:
    assert normalise_mnist_like(np.zeros((3, 28, 28), np.uint8)) == {}
    assert normalise_mnist_like(np.full((3, 28, 28), 255, np.uint8)) == {}
    assert normalise_mnist_like(np.zeros((3, 20, 20), np.uint8)) == {}
    assert normalise_mnist_like(np.zeros((0, 28, 28), np.uint8)) == {}


class Mean(OnlyDigits):
    """Reads the ink: the more, the larger the digit."""

    card: dict[str, Any] = {}  # noqa: RUF012
    version = "mean"

    def predict(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.eye(10, dtype=np.float32)[np.minimum(pixels.sum(axis=(1, 2)) // 20, 9).astype(int)]


@pytest.mark.parametrize("method", ["mnist", "seed"])
def test_grey_levels_and_a_png_of_them_are_classified_alike(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.pictures import png

    monkeypatch.setattr("worker.inference.classify.BUDGET_SECONDS", 60)
    greys = changed(test_digits()[:40], "filled")
    classify = Classifier(Mean(), 10**6, method)
    assert classify(greys).results == classify([png(grey.tobytes()) for grey in greys]).results


def test_pictures_that_are_hardly_like_mnists_end_the_same() -> None:
    assert assert_same(np.stack([near_mnist(number) for number in range(1500)])) > 40
