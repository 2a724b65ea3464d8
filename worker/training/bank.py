"""The bank: distorted digits, and pictures as serving sees them, made once and kept on disk for every run.

Preprocessing costs milliseconds a picture, and a teacher's answer more than a step of its pupil: so both are made
before, in chunks. A chunk is a pure function of the data and its number, and a file that is either whole or absent:
whoever is interrupted goes on with the next. A batch is rows of a few chunks, a pure function of the seed and the step.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.errors import SettingsError
from worker.image.normalise import normalise
from worker.image.preprocess import PREPROCESSING_VERSION
from worker.training import camera, nondigits, strokes
from worker.training.distort import distort
from worker.training.idx import Images, Labels, pixels
from worker.training.recipes import Recipe

Rows = NDArray[np.uint8]

#: Raise it with every change of what is in the chunks.
REVISION = 1
#: Rows of a chunk at most, by what they are.
CHUNK = {"digits": 16_384, "pictures": 2_048}
#: Chunks that a batch takes its rows from.
MIXED = 4
#: Of the pictures, those of rare forms and those of no digit; the others are of MNIST's digits.
FORMS, NONDIGITS = 0.2, 0.3
#: How often what is no digit is of a kind, by how much it looks like one; the other kinds once.
OFTEN = {"letters": 4, "symbols": 2, "shapes": 2, "scribbles": 2, "several digits": 2}
#: What serving refuses by itself: the network need not learn it, and of several digits it may see but one.
REFUSED = {"no_ink", "several_digits"}
#: The label of what is no digit.
NONDIGIT = 10
#: Rare forms are drawn at this side.
FORM_SIDE = 56
#: Batches that are ready before they are asked for.
AHEAD = 8

#: Pixels float32 [n, 28, 28] in [0, 1], targets float32 [n, 11] that sum to 1, and the dice of `network.dropout`,
#: uint8 [n, hidden units]; [n, 0] if nothing is left out.
Batch = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]
#: Images uint8 [n, 28, 28] -> logits float32 [n, 11].
Teach = Callable[[Images], NDArray[np.float32]]


class Bank:
    """The chunks in a directory. A row is uint8 [785]: the pixels and the label."""

    def __init__(self, directory: Path, counts: tuple[int, int], about: dict[str, str]) -> None:
        """`counts` of digits and pictures are rounded up to whole chunks; `about` says what data they are made of.

        Raises `SettingsError` if the directory holds chunks of other data, another preprocessing or another revision.
        """
        self.directory = directory
        wanted = {**about, "preprocessing": PREPROCESSING_VERSION, "revision": str(REVISION)}
        note = directory / "about.json"
        if note.exists() and json.loads(note.read_text()) != wanted:
            raise SettingsError(f"{directory} is of other data or another version: choose another or delete it")
        directory.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(wanted))
        self._rows = {kind: min(rows, count) for (kind, rows), count in zip(CHUNK.items(), counts, strict=True)}
        self._chunks = {
            kind: [directory / f"{kind}-{index:04}.npy" for index in range(-(-count // self._rows[kind]))]
            for kind, count in zip(CHUNK, counts, strict=True)
        }

    def make(self, images: Images, labels: Labels, done: Callable[[], object]) -> None:
        """Makes the chunks that are missing, on every core; images are uint8 [n, 28, 28]. Calls `done` for each."""
        missing = [
            (path, kind, self._rows[kind], index)
            for kind, paths in self._chunks.items()
            for index, path in enumerate(paths)
            if not path.exists()
        ]
        with ProcessPoolExecutor(
            os.cpu_count(), get_context("spawn"), initializer=_remember, initargs=(images, labels)
        ) as pool:
            for _ in pool.map(_make, *zip(*missing, strict=True)) if missing else ():
                done()

    def teach(self, name: str, teach: Teach, done: Callable[[], object]) -> None:
        """Writes the logits of the teacher `name` beside the chunks where they are missing."""
        for path in (path for paths in self._chunks.values() for path in paths):
            if not (answers := _answers(path, name)).exists():
                _write(answers, teach(_opened(path)[:, :-1].reshape(-1, 28, 28)).astype(np.float16))
                done()

    def batch(self, recipe: Recipe, seed: int, step: int) -> Batch:
        """The batch of step 0, 1, 2, …: so many pictures as the recipe says, and digits for the rest."""
        rng = np.random.default_rng([seed, step])
        counts = {"digits": recipe.batch - recipe.pictures, "pictures": recipe.pictures}
        parts = [self._chosen(kind, count, recipe, rng) for kind, count in counts.items()]
        images, targets = (np.concatenate(part) for part in zip(*parts, strict=True))
        hidden = sum(recipe.layers[1:-1]) if recipe.dropout else 0
        dice = rng.integers(0, 256, (len(images), hidden), np.uint8)
        return pixels(images), targets, dice

    def batches(self, recipe: Recipe, seed: int, start: int, stop: int) -> Iterator[Batch]:
        """The batches of the steps start..stop-1, made by one thread while earlier ones are used."""
        with ThreadPoolExecutor(1) as maker:
            waiting = [maker.submit(self.batch, recipe, seed, step) for step in range(start, min(start + AHEAD, stop))]
            for step in range(start, stop):
                batch = waiting.pop(0).result()
                if step + AHEAD < stop:
                    waiting.append(maker.submit(self.batch, recipe, seed, step + AHEAD))
                yield batch

    def _chosen(
        self, kind: str, count: int, recipe: Recipe, rng: np.random.Generator
    ) -> tuple[Images, NDArray[np.float32]]:
        """Images uint8 [count, 28, 28] and what they should be taken for, [count, 11]."""
        images, targets = [], []
        shares = np.diff(np.linspace(0, count, MIXED + 1).astype(int))
        for chunk, share in zip(rng.integers(0, len(self._chunks[kind]), MIXED), shares, strict=True):
            path = self._chunks[kind][chunk]
            chosen = np.sort(rng.choice(self._rows[kind], share, replace=False))
            rows = _opened(path)[chosen]
            images.append(rows[:, :-1].reshape(-1, 28, 28))
            if recipe.teacher:
                targets.append(softened(_opened(_answers(path, recipe.teacher))[chosen], recipe.temperature))
            else:
                targets.append(smoothed(rows[:, -1], recipe.label_smoothing))
        return np.concatenate(images), np.concatenate(targets)


def softened(logits: NDArray[np.float16], temperature: float) -> NDArray[np.float32]:
    """Softmax of logits [n, classes] divided by the temperature."""
    scores = logits.astype(np.float32) / np.float32(temperature)
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def smoothed(labels: Labels, smoothing: float) -> NDArray[np.float32]:
    """Labels [n] -> [n, 11]: all but the share `smoothing` of each on its class.

    Source: C. Szegedy et al., "Rethinking the Inception Architecture", 2015, section 7.
    """
    classes = NONDIGIT + 1
    return np.eye(classes, dtype=np.float32)[labels] * np.float32(1 - smoothing) + np.float32(smoothing / classes)


_data: tuple[Images, Labels]


def _remember(images: Images, labels: Labels) -> None:
    """In each process of the pool, once: its chunks are of these."""
    global _data
    _data = images, labels
    cv2.setNumThreads(1)


def _make(path: Path, kind: str, rows: int, index: int) -> None:
    rng = np.random.default_rng([list(CHUNK).index(kind), index])
    images, labels = {"digits": digits, "pictures": pictures}[kind](*_data, rows, rng)
    _write(path, np.concatenate([images.reshape(len(images), -1), labels[:, None]], axis=1))


def digits(images: Images, labels: Labels, count: int, rng: np.random.Generator) -> tuple[Images, Labels]:
    """So many of the images, distorted: uint8 [count, 28, 28], and their labels uint8 [count]."""
    chosen = rng.integers(0, len(images), count)
    return distort(images[chosen], rng), labels[chosen]


def pictures(images: Images, labels: Labels, count: int, rng: np.random.Generator) -> tuple[Images, Labels]:
    """Pictures of distorted digits, of rare forms, and of what is no digit, as `digits` has them."""
    forms, others = round(FORMS * count), round(NONDIGITS * count)
    plain, plain_labels = digits(images, labels, count - forms - others, rng)
    names = rng.choice(list(strokes.FORMS), forms)
    seen = [camera.seen(ink, rng) for ink in plain]
    seen += [camera.seen(strokes.draw(int(name), FORM_SIDE, rng), rng) for name in names]
    seen += [nondigit(nondigits.KINDS, images, rng) for _ in range(others)]
    return np.stack(seen), np.concatenate([plain_labels, names, np.full(others, NONDIGIT)]).astype(np.uint8)


def nondigit(kinds: dict[str, nondigits.Kind], images: Images, rng: np.random.Generator) -> Images:
    """What serving makes of something of these kinds that it does not refuse: uint8 [28, 28]."""
    odds = np.array([OFTEN.get(kind, 1) for kind in kinds], np.float64)
    while True:
        draw = kinds[str(rng.choice(list(kinds), p=odds / odds.sum()))]
        seen = normalise(draw(images, rng))
        if not REFUSED & set(seen.warnings):
            return np.rint(seen.pixels * 255).astype(np.uint8)


def _answers(path: Path, teacher: str) -> Path:
    return path.with_suffix(f".{teacher}.npy")


@cache
def _opened(path: Path) -> Rows:
    return np.asarray(np.load(path, mmap_mode="r"))


def _write(path: Path, rows: NDArray[np.generic]) -> None:
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.save(file, rows)
    part.replace(path)
