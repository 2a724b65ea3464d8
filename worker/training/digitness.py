"""Fits the digitness of a trained model anew, with more of what is no digit, and leaves its digits as they are.

    python -m worker.training.digitness --data var/mnist --model worker/model --out var/refitted

The weights below stay; only the eleventh unit of the last layer, which says that there is no digit, is fitted.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.preprocess import Look, evened, normalise, unwatched
from worker.training import bank, camera, strokes
from worker.training.camera import Picture
from worker.training.clutter import KINDS
from worker.training.idx import Images, Labels
from worker.training.letters import fonts, print_
from worker.training.nondigits import _one_of, _slanted, bent

#: Samples of a chunk, which is a pure function of the digits and its number.
CHUNK = 1024
#: How often a kind of what is no digit is drawn; the other kinds once.
OFTEN = {"letters": 4, "words": 2, "symbols": 2, "shapes": 2, "scribbles": 3, "several digits": 2, "scenes": 2, "textures": 2,
         "cells": 4, "stacked": 2}  # fmt: skip


def nondigit(images: Images, rng: np.random.Generator) -> Picture:
    """What serving makes of something that is no digit and that it does not refuse by itself: uint8 [28, 28]."""
    odds = np.array([OFTEN.get(kind, 1) for kind in KINDS], np.float64)
    while True:
        picture = KINDS[str(rng.choice(list(KINDS), p=odds / odds.sum()))](images, rng)
        for look in (normalise, evened) if rng.random() < 0.6 else (evened,):
            seen = look(picture, unwatched)
            if not bank.REFUSED & set(seen.warnings):
                return np.rint(seen.pixels * 255).astype(np.uint8)


def digit(images: Images, labels: Labels, rng: np.random.Generator) -> Picture:
    """What serving makes of a picture of a digit, at a first look or at a second: uint8 [28, 28]."""
    look: Look = evened if rng.random() < 0.3 else normalise
    way = rng.random()
    if way < 0.15:
        ink = strokes.draw(int(_one_of(list(strokes.FORMS), rng)), bank.FORM_SIDE, rng)
    elif way < 0.3:
        ink = bent(_slanted(print_(str(rng.integers(10)), _one_of(fonts(held_out=False), rng)), rng), rng)
        ink = np.pad(ink, [((max(ink.shape) - side) // 2, (max(ink.shape) - side + 1) // 2) for side in ink.shape])
    else:
        ink = bank.digits(images, labels, 1, rng)[0][0]
    return camera.seen(ink, rng, look)


_data: tuple[Images, Labels]


def _remember(images: Images, labels: Labels) -> None:
    global _data
    _data = images, labels
    cv2.setNumThreads(1)


def _chunk(kind: str, index: int) -> Images:
    rng = np.random.default_rng([kind == "digits", index])
    if kind == "digits":
        return np.stack([digit(*_data, rng) for _ in range(CHUNK)])
    return np.stack([nondigit(_data[0], rng) for _ in range(CHUNK)])


def drawn(kind: str, images: Images, labels: Labels, chunks: range) -> Images:
    """So many chunks of "digits" or of "nondigits", uint8 [n, 28, 28], made of these digits on every core."""
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), initializer=_remember, initargs=(images, labels)) as pool:
        return np.concatenate(list(pool.map(_chunk, [kind] * len(chunks), chunks)))
