"""Has the model in service learn from corrections, proves the result, and promotes it.

Corrections are divided in `FOLDS` parts. For each, a model learns from the others and is judged by it, so that every
correction is judged once, by a model that did not see it (cross-validation). What is promoted has learnt from all; what
it does to everything else is measured on itself.
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

#: Parts of the corrections. A part cannot be so small that chance decides: with four, each model learns from three
#: quarters of what the promoted one learns from, and all corrections together are judged; with two from half.
FOLDS = 4

#: The pictures to choose thresholds by, in the bank.
HELD_OUT = "held-out.npz"

Chosen = NDArray[np.bool_]


class Learnt(NamedTuple):
    """The new model, and how it compares."""

    #: The directory of the model: the one that is served, if it was promoted.
    model: Path
    table: list[gate.Row]


def learn(
    corrections: Corrections, mnist: Mnist, settings: Settings, say: Say, run: Path | None = None,
    promote: bool = True,
) -> Learnt:  # fmt: skip
    """Learn from corrections, report the table of the gate, and put the model in service if that allows it.

    `run` is the directory for checkpoints and models, by default one of the state directory that is named after the
    corrections and the model in service: the same command goes on where it was interrupted. Raises
    `BadCorrections`, `TooFewCorrections`, `SuspiciousCorrections` and `NotProven`, and what `train` and `export` do.
    """
    if settings.preprocessing != "mnist":
        raise SettingsError(f"DIGITQ_PREPROCESSING={settings.preprocessing}: models learn with mnist alone")
    place, rows = settings.model_path, corrections.rows
    part = folds(rows, corrections.content)
    old, model = _classifier(place, settings)
    recipe = recipe_of(model, _digest(corrections))
    run = run or settings.state_dir / "train" / recipe.version
    say(f"{len(rows)} corrections; the run is in {run}")
    with _bar(len(rows), f"reading with {model.version}") as done:
        seen = see(corrections, old, done)
    split = Split.of(mnist, recipe)
    say("drawing held-out pictures, unless they are in the bank")
    held_out = HeldOut.kept(run.parent / "bank" / HELD_OUT, split, recipe)
    fitting = Fitting(mnist, run, place, recipe, held_out, say)

    reads, new = np.full(len(rows), NONDIGIT), _undecided(len(rows))
    for number in range(part.max() + 1):
        judged = part == number
        judge, judging = _classifier(fitting.fit(f"without-{number + 1}", _chosen(seen, ~judged)), settings)
        with _bar(int(judged.sum()), "reading the others") as done:
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


def folds(rows: Sequence[Correction], content: Callable[[str], bytes]) -> NDArray[np.intp]:
    """Return the part, 0 to `FOLDS` - 1, of each correction [n]: pictures are divided as wholes, in the order of their
    SHA-256.

    Copies of a picture are in one part, and each picture goes where there are fewest corrections so far. Of fewer
    pictures than parts each is one. Raises `TooFewCorrections` if all corrections are of one picture.
    """
    digests = {name: hashlib.sha256(content(name)).digest() for name in {row.picture for row in rows}}
    counts = dict.fromkeys(sorted(digests.values()), 0)
    if len(counts) < 2:
        raise TooFewCorrections(
            "expected corrections of at least two pictures: each is judged by what the others teach"
        )
    for row in rows:
        counts[digests[row.picture]] += 1
    part, sums = {}, np.zeros(min(FOLDS, len(counts)), int)
    for digest, count in counts.items():
        part[digest] = int(sums.argmin())
        sums[part[digest]] += count
    return np.array([part[digests[row.picture]] for row in rows])


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
