"""Estimates the accuracy on pictures from new sources, by leaving one source out.

    python -m benchmarks.sources PICTURES [MODEL …]      a folder with index.csv: path, label, category, source

The constants of the preprocessing were chosen on pictures like these, so the accuracy on them is too high. Here they
are chosen again: of many settings (each constant alone at half to twice its value, and all drawn together; every
model) the best on all sources but one reads that one. Ties count by their mean, so the shipped setting has no
advantage. (M. Stone, J. R. Stat. Soc. B 36, 1974, 111-147.)
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

import worker.inference.classify
from shared.prediction import Outcome
from shared.settings import SHIPPED_MODEL
from worker.image import border_lines, mnist_format, noise, normalise, ruling, threshold, uneven_light
from worker.inference.classify import Classifier
from worker.inference.mlp import Mlp

#: The constants of the preprocessing, and the modules that use them.
CONSTANTS: dict[str, tuple[ModuleType, ...]] = {
    "MIN_CONTRAST": (normalise,),
    "MIN_DISTANCE": (normalise,),
    "WORK_SIDE": (normalise,),
    "CLEARLY": (threshold,),
    "LEAST_SIDE": (threshold,),
    "MIN_STROKE": (mnist_format,),
    "HAIRLINE": (mnist_format, normalise),
    "INKED": (ruling,),
    "NOISY": (noise,),
    "ALONG": (border_lines,),
    "LEAST_RISE": (uneven_light,),
}
FACTORS = (0.5, 0.7, 1.4, 2.0)
DRAWN = 40

Setting = dict[str, float]


def settings() -> Iterator[Setting]:
    """Yield the settings, the shipped one first."""
    yield {}
    for name in CONSTANTS:
        for factor in FACTORS:
            yield {name: factor}
    rng = np.random.default_rng(0)
    for _ in range(DRAWN):
        yield {
            name: float(factor)
            for name, factor in zip(CONSTANTS, rng.choice((0.7, 1, 1.4), len(CONSTANTS)), strict=True)
        }


def read(model: Mlp, files: list[bytes], setting: Setting) -> list[int]:
    """Return the digits, -1 for pictures that were not read."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(worker.inference.classify, "BUDGET_SECONDS", float("inf")))
        for name, factor in setting.items():
            for module in CONSTANTS[name]:
                now = getattr(module, name)
                stack.enter_context(patch.object(module, name, type(now)(now * factor)))
        found = Classifier(model, 10**9)(files).results
    return [one.digit if isinstance(one, Outcome) else -1 for one in found]


def left_out(right: NDArray[np.bool_], sources: list[str]) -> dict[str, tuple[float, float]]:
    """By source: the shares read right by the best settings on the others, and as shipped. `right` is [n, k]."""
    found = {}
    for source in sorted(set(sources)):
        here = np.array([one == source for one in sources])
        elsewhere = right[~here].mean(axis=0)
        best = elsewhere >= elsewhere.max() - 1e-9
        found[source] = float(right[np.ix_(here, best)].mean()), float(right[here, 0].mean())
    return found


def main() -> None:
    folder, *paths = map(Path, sys.argv[1:])
    rows = list(csv.DictReader((folder / "index.csv").open(encoding="utf-8-sig")))
    files, labels = [(folder / row["path"]).read_bytes() for row in rows], [int(row["label"]) for row in rows]
    models = [Mlp.load(path) for path in [SHIPPED_MODEL, *paths]]
    digits = [read(model, files, setting) for model in models for setting in settings()]
    right = np.array(labels)[:, None] == np.array(digits).T
    shares = right.mean(axis=0)
    print(f"{len(rows)} pictures, {len(shares)} settings: {shares.min():.1%} to {shares.max():.1%}")
    by_source = left_out(right, [row["source"] for row in rows])
    counts: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        counts[row["source"]] += 1
    for source, (fair, shipped) in by_source.items():
        print(f"{source:50} {counts[source]:4}  {fair:7.1%}  shipped {shipped:7.1%}")
    fair, shipped = (sum(by_source[name][i] * n for name, n in counts.items()) / len(rows) for i in (0, 1))
    print(f"{'all':50} {len(rows):4}  {fair:7.1%}  shipped {shipped:7.1%}")


if __name__ == "__main__":
    main()
