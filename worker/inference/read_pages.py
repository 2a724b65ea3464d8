"""Reads the numbers on pages: grey levels in, digits with their boxes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from shared.errors import DigitqError, TooManyDigits
from shared.numbers import FoundDigit, FoundNumber, PageReading
from worker.image.arrays import Floats32, Grey
from worker.inference.mlp import Reading

Read = Callable[[Floats32], Reading]

DEFAULT_THRESHOLDS = {"page_accept": 0.97, "page_review": 0.6}
MOST_DIGITS = 1000
GAP = 1.5


def read_pages(pages, read, thresholds):
    from worker.page.layout import lay_out

    limits = {**DEFAULT_THRESHOLDS, **thresholds}
    laid = [lay_out(page) for page in pages]
    reading = read(np.concatenate([np.empty((0, 28, 28), np.float32), *[one.pixels for one in laid]]))
    results = []
    at = 0
    for page, one in zip(pages, laid):
        n = len(one.pixels)
        results.append(
            _numbers(one, page.shape, reading.probabilities[at : at + n], reading.digitness[at : at + n], limits)
        )
        at += n
    return results


def _numbers(layout, shape, probs, digitness, limits):
    from worker.page.path import best_path

    at = 0
    numbers = []
    for row in layout.rows:
        n = len(row.candidates)
        p, q = probs[at : at + n], digitness[at : at + n]
        at += n
        path = best_path(row, (p.max(axis=1) * q).astype(float)) if n else []
        found, last = [], None
        for c in path:
            cand = row.candidates[c]
            conf = float(p[c].max() * q[c])
            d = "accept" if conf >= limits["page_accept"] else "review" if conf >= limits["page_review"] else "reject"
            if d == "reject":
                continue
            if last is not None and cand.box[0] - last > GAP * row.height:
                numbers.append(FoundNumber(tuple(found)))
                found = []
            found.append(FoundDigit(int(p[c].argmax()), conf, d, layout.on_page(cand.box, shape)))
            last = cand.box[0] + cand.box[2]
        if found:
            numbers.append(FoundNumber(tuple(found)))
    return PageReading(tuple(numbers))
