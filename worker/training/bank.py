"""Keeps training data on disk: distorted digits, pictures and crops of pages as serving sees them, made once.

Preprocessing takes milliseconds a picture, and a teacher's answer longer than a training step of its student: both are
made in advance, in chunks. A chunk is a pure function of the data and its number, and its file is whole or absent: an
interrupted run continues with the next. A batch has rows of a few chunks, as a pure function of seed and step.
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
from worker.training.data.distort import distort
from worker.training.data.idx import Images, Labels, pixels
from worker.training.drawing import camera, nondigits, strokes
from worker.training.pages.crop_truth import NONDIGIT, trusted
from worker.training.pages.crops import crops
from worker.training.recipes import Recipe

Rows = NDArray[np.uint8]

#: Raise it when the content of the chunks changes.
REVISION = 3
#: Most rows of a chunk, by kind.
CHUNK = {"digits": 16_384, "pictures": 2_048, "crops": 1_024}
#: The pixels of a row.
PIXELS = 28 * 28
#: How many chunks the rows of a batch come from.
MIXED = 4
#: The shares of pictures that show rare forms and no digit; the others show MNIST's digits.
FORMS, NONDIGITS = 0.2, 0.3
#: Weights of the kinds of non-digits, by how much they look like digits; the other kinds have 1.
OFTEN = {"letters": 4, "symbols": 2, "shapes": 2, "scribbles": 2, "several digits": 2, "numerals": 2}
#: The same for the rare forms of digits.
FORMS_OFTEN = {1: 2}
#: Warnings with which serving rejects a picture: the network need not learn it, and it may see one of several digits.
REFUSED = {"no_ink", "several_digits"}
#: Rare forms are drawn at this side.
FORM_SIDE = 56
#: How many batches are made in advance.
AHEAD = 8

#: Pixels float32 [n, 28, 28] in [0, 1], targets float32 [n, 11] that sum to 1, and random numbers for
#: `network.dropout`, uint8 [n, hidden units]; [n, 0] without dropout.
Batch = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]
#: Returns the logits float32 [n, 11] of images uint8 [n, 28, 28].
Teach = Callable[[Images], NDArray[np.float32]]


class Bank:
    """The chunks in a directory. A row is uint8 [786]: the pixels, the label, and how far it is trusted, in 255ths."""

    def __init__(self, directory: Path, counts: tuple[int, ...], about: dict[str, str]) -> None:
        """Open or create the bank; `about` is the data.

        `counts` of digits, pictures and crops are rounded up to whole chunks; without the last there are no crops.

        Raises `SettingsError` if the directory holds chunks of other data, another preprocessing or another revision.
        """
        self.directory = directory
        #: Whose answers the batches have, see `teach`; None for the labels alone.
        self.teacher: str | None = None
        wanted = {**about, "preprocessing": PREPROCESSING_VERSION, "revision": str(REVISION)}
        note = directory / "about.json"
        if note.exists() and json.loads(note.read_text()) != wanted:
            raise SettingsError(f"{directory} is of other data or another version: choose another or delete it")
        directory.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(wanted))
        every = dict(zip(CHUNK, counts, strict=False))
        self._rows = {kind: min(CHUNK[kind], count) for kind, count in every.items()}
        self._chunks = {
            kind: [directory / f"{kind}-{index:04}.npy" for index in range(-(-count // self._rows[kind]))]
            for kind, count in every.items()
        }

    def make(self, images: Images, labels: Labels, done: Callable[[], object]) -> None:
        """Make the missing chunks of images uint8 [n, 28, 28], on all cores. Calls `done` after each."""
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
        """Write the missing logits of the teacher `name` beside the chunks; the batches have them from then on."""
        self.teacher = name
        for path in (path for paths in self._chunks.values() for path in paths):
            if not (answers := _answers(path, name)).exists():
                _write(answers, teach(_opened(path)[:, :PIXELS].reshape(-1, 28, 28)).astype(np.float16))
                done()

    def batch(self, recipe: Recipe, seed: int, step: int) -> Batch:
        """Return the batch of step 0, 1, 2, … without corrections and what is rehearsed: digits, and others."""
        rng = np.random.default_rng([seed, step])
        plain = recipe.batch - recipe.pictures - recipe.crops - recipe.corrections - recipe.rehearsed
        counts = {"digits": plain, "pictures": recipe.pictures, "crops": recipe.crops}
        parts = [self._chosen(kind, count, recipe, rng) for kind, count in counts.items() if count]
        images, targets = (np.concatenate(part) for part in zip(*parts, strict=True))
        hidden = sum(recipe.layers[1:-1]) if recipe.dropout else 0
        dice = rng.integers(0, 256, (len(images), hidden), np.uint8)
        return pixels(images), targets, dice

    def batches(self, recipe: Recipe, seed: int, start: int, stop: int) -> Iterator[Batch]:
        """Yield the batches of the steps start..stop-1, made by a thread while earlier ones are used."""
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
        """Return images uint8 [count, 28, 28] and their targets float32 [count, 11]."""
        images, targets = [], []
        shares = np.diff(np.linspace(0, count, MIXED + 1).astype(int))
        for chunk, share in zip(rng.integers(0, len(self._chunks[kind]), MIXED), shares, strict=True):
            path = self._chunks[kind][chunk]
            chosen = np.sort(rng.choice(self._rows[kind], share, replace=False))
            rows = _opened(path)[chosen]
            images.append(rows[:, :PIXELS].reshape(-1, 28, 28))
            known = smoothed(rows[:, PIXELS], recipe.label_smoothing)
            if self.teacher:
                answers = softened(_opened(_answers(path, self.teacher))[chosen], recipe.temperature)
                share = _trust(kind, rows, recipe)
                known = share * known + (1 - share) * answers
            targets.append(known)
        return np.concatenate(images), np.concatenate(targets)


def _trust(kind: str, rows: Rows, recipe: Recipe) -> NDArray[np.float32]:
    """Return the share [n, 1] of the labels in the targets of rows that have a teacher."""
    trust = rows[:, PIXELS + 1 :] / np.float32(255)
    if kind == "crops":
        return np.asarray(trust)
    none = rows[:, PIXELS : PIXELS + 1] == NONDIGIT
    return np.asarray(trust * np.where(none, recipe.nondigits, recipe.labels), np.float32)


def softened(logits: NDArray[np.floating], temperature: float) -> NDArray[np.float32]:
    """Return the softmax of logits [n, classes] divided by the temperature."""
    scores = logits.astype(np.float32) / np.float32(temperature)
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def smoothed(labels: Labels, smoothing: float) -> NDArray[np.float32]:
    """Return targets [n, 11] of labels [n]: the share `smoothing` is spread over all classes.

    Source: C. Szegedy et al., "Rethinking the Inception Architecture", 2015, section 7.
    """
    classes = NONDIGIT + 1
    return np.eye(classes, dtype=np.float32)[labels] * np.float32(1 - smoothing) + np.float32(smoothing / classes)


_data: tuple[Images, Labels]


def _remember(images: Images, labels: Labels) -> None:
    """Initialise a process of the pool with the data of its chunks."""
    global _data
    _data = images, labels
    cv2.setNumThreads(1)


def _make(path: Path, kind: str, rows: int, index: int) -> None:
    rng = np.random.default_rng([list(CHUNK).index(kind), index])
    if kind == "crops":
        found = list(crops(*_data, rows, rng))
        images, labels = np.stack([one.pixels for one in found]), np.array([one.label for one in found], np.uint8)
        trust = np.rint([one.trust * 255 for one in found]).astype(np.uint8)
    else:
        images, labels = {"digits": digits, "pictures": pictures}[kind](*_data, rows, rng)
        known = [trusted(seen / 255, label, 1.0) for seen, label in zip(images, labels, strict=True)]
        trust = np.rint(np.multiply(known, 255)).astype(np.uint8)
    _write(path, np.concatenate([images.reshape(len(images), -1), labels[:, None], trust[:, None]], axis=1))


def digits(images: Images, labels: Labels, count: int, rng: np.random.Generator) -> tuple[Images, Labels]:
    """Distort `count` random images; return uint8 [count, 28, 28] and their labels uint8 [count]."""
    chosen = rng.integers(0, len(images), count)
    return distort(images[chosen], rng), labels[chosen]


def pictures(images: Images, labels: Labels, count: int, rng: np.random.Generator) -> tuple[Images, Labels]:
    """Make pictures of distorted digits, rare forms and non-digits; return them like `digits`."""
    forms, others = round(FORMS * count), round(NONDIGITS * count)
    plain, plain_labels = digits(images, labels, count - forms - others, rng)
    odds = np.array([FORMS_OFTEN.get(name, 1) for name in strokes.FORMS], np.float64)
    names = rng.choice(list(strokes.FORMS), forms, p=odds / odds.sum())
    seen = [camera.seen(ink, rng) for ink in plain]
    seen += [camera.seen(strokes.draw(int(name), FORM_SIDE, rng), rng) for name in names]
    seen += [nondigit(nondigits.KINDS, images, rng) for _ in range(others)]
    return np.stack(seen), np.concatenate([plain_labels, names, np.full(others, NONDIGIT)]).astype(np.uint8)


def nondigit(kinds: dict[str, nondigits.Kind], images: Images, rng: np.random.Generator) -> Images:
    """Draw a non-digit of these kinds that serving does not reject; return the model's input, uint8 [28, 28]."""
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
