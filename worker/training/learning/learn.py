"""Has the model in service learn from corrections, proves the result, and promotes it.

Corrections are divided in two halves, and a model learns from each: it is judged by the other half, so that every
correction is judged once, by a model that did not see it (two-fold cross-validation). What is promoted has learnt from
both; what it does to everything else is measured on itself.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm  # type: ignore[import-untyped]  # ships no stubs

from shared.errors import SettingsError
from shared.settings import Settings
from worker.inference.classify import Classifier
from worker.inference.mlp import Mlp, Reading
from worker.training.artefact import promotion
from worker.training.artefact.heldout import HeldOut
from worker.training.data.idx import Mnist, pixels
from worker.training.learning import gate, suspicion
from worker.training.learning.corrections import Correction, Corrections
from worker.training.learning.fit import Fitting, Say, TooFewCorrections, recipe_of
from worker.training.learning.inputs import Seen, read, see
from worker.training.pages.crop_truth import NONDIGIT
from worker.training.train import Split

Chosen = NDArray[np.bool_]


class Learnt(NamedTuple):
    """The new model, and how it compares."""

    #: The directory of the model: the one that is served, if it was promoted.
    model: Path
    table: list[gate.Row]


def learn(
    corrections: Corrections, mnist: Mnist, settings: Settings, say: Say, run: Path | None = None,
    promote: bool = True, held_out: HeldOut | None = None,
) -> Learnt:  # fmt: skip
    """Learn from corrections, report the table of the gate, and put the model in service if that allows it.

    `run` is the directory for checkpoints and models, by default one of the state directory that is named after the
    corrections and the model in service: the same command goes on where it was interrupted. `held_out` are pictures to
    choose thresholds by, `HeldOut.of` if None, which takes half a minute. Raises `BadCorrections`,
    `TooFewCorrections`, `SuspiciousCorrections` and `NotProven`, and what `train` and `export` do.
    """
    if settings.preprocessing != "mnist":
        raise SettingsError(f"DIGITQ_PREPROCESSING={settings.preprocessing}: models learn with mnist alone")
    place, rows = settings.model_path, corrections.rows
    second = halves(rows, corrections.content)
    old, model = _classifier(place, settings)
    recipe = recipe_of(model, _digest(corrections))
    run = run or settings.state_dir / "train" / recipe.version
    say(f"{len(rows)} corrections; the run is in {run}")
    with _bar(len(rows), f"reading with {model.version}") as done:
        seen = see(corrections, old, done)
    split = Split.of(mnist, recipe)
    if held_out is None:
        say("drawing held-out pictures")
        held_out = HeldOut.of(split, recipe)
    fitting = Fitting(mnist, run, place, recipe, held_out, say)

    reads, new = np.full(len(rows), NONDIGIT), _undecided(len(rows))
    for name, judged in (("half-1", second), ("half-2", ~second)):
        judge, judging = _classifier(fitting.fit(name, _chosen(seen, ~judged)), settings)
        with _bar(int(judged.sum()), "reading the other half") as done:
            reads[judged] = read(corrections.only(judged), judge, done)
        _fill(new, judging, seen, judged)
    before = _undecided(len(rows))
    _fill(before, model, seen, np.ones(len(rows), np.bool_))
    found = suspicion.check(rows, before, new, run)
    say(f"{found.sum()} labels seem wrong" + (f", see {run / suspicion.FILE}" if found.any() else ""))

    candidate = fitting.fit("all", seen)
    latest, learnt = _classifier(candidate, settings)
    say(f"comparing {learnt.version} with {model.version}")
    labels = np.array([row.label for row in rows])
    table = [
        gate.of_corrections(np.array([one.read for one in seen]) != labels, reads != labels),
        *gate.side_effects(old, latest, place, split.held_out_images, split.held_out_labels),
    ]
    say(gate.table(table, model.version, learnt.version))
    gate.check(table)
    if not promote:
        return Learnt(candidate, table)
    if Mlp.load(place).sha256 != model.sha256:
        raise gate.NotProven(f"{place} holds another model by now than the one that was compared: run it again")
    return Learnt(promotion.promote(candidate, place, {}, settings, say), table)


def halves(rows: Sequence[Correction], content: Callable[[str], bytes]) -> Chosen:
    """Tell which corrections are in the second half: pictures are divided as wholes, in the order of their SHA-256.

    Copies of a picture are on one side, and each picture goes where there are fewer corrections so far. Raises
    `TooFewCorrections` if all are of one picture.
    """
    digests = {name: hashlib.sha256(content(name)).digest() for name in {row.picture for row in rows}}
    if len(set(digests.values())) < 2:
        raise TooFewCorrections("expected corrections of at least two pictures: one half is kept to judge by")
    counts = dict.fromkeys(sorted(digests.values()), 0)
    for row in rows:
        counts[digests[row.picture]] += 1
    second, sums = {}, [0, 0]
    for digest, count in counts.items():
        second[digest] = sums[1] < sums[0]
        sums[second[digest]] += count
    return np.array([second[digests[row.picture]] for row in rows])


def _classifier(path: Path, settings: Settings) -> tuple[Classifier, Mlp]:
    """Return the model in a directory as serving has it, and alone. Raises `ModelError`."""
    model = Mlp.load(path)
    return Classifier(model, settings.max_pixels, settings.preprocessing), model


def _digest(corrections: Corrections) -> str:
    """Return what tells these corrections from others, in hex; names of files do not count."""
    total = hashlib.sha256()
    for row in corrections.rows:
        total.update(hashlib.sha256(corrections.content(row.picture)).digest() + repr(row[1:]).encode())
    return total.hexdigest()


def _chosen(seen: Sequence[Seen], chosen: Chosen) -> list[Seen]:
    return [one for one, taken in zip(seen, chosen, strict=True) if taken]


def _undecided(n: int) -> Reading:
    return Reading(np.full((n, NONDIGIT), 1 / NONDIGIT, np.float32), np.full(n, 0.5, np.float32))


def _fill(reading: Reading, model: Mlp, seen: Sequence[Seen], chosen: Chosen) -> None:
    """Set what a model makes of the chosen corrections' inputs; those without an input stay undecided."""
    images = {at: seen[at].pixels for at in np.flatnonzero(chosen).tolist()}
    known = {at: image for at, image in images.items() if image is not None}
    if known:
        found = model.read(pixels(np.stack(list(known.values()))))
        reading.probabilities[list(known)], reading.digitness[list(known)] = found


@contextmanager
def _bar(total: int, name: str) -> Iterator[Callable[[int], object]]:
    with tqdm(total=total, desc=name, unit="correction", disable=None, file=sys.stderr) as bar:
        yield bar.update
