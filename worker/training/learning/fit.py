"""Trains the model in service further with some corrections, and exports the result as serving loads it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.errors import DigitqError, SettingsError
from worker.image.preprocess import PREPROCESSING_VERSION
from worker.inference.mlp import Mlp
from worker.training.artefact.decision import REFUSED_PICTURES, digit_from, refusing
from worker.training.artefact.export import export
from worker.training.artefact.heldout import HeldOut
from worker.training.bank import softened
from worker.training.checkpoint import Checkpoint
from worker.training.data.idx import Images, Mnist
from worker.training.learning import gate
from worker.training.learning.examples import Examples
from worker.training.learning.inputs import Seen
from worker.training.learning.rehearsal import Rehearsal, hardest
from worker.training.network import Parameters
from worker.training.pages.crop_truth import NONDIGIT
from worker.training.recipes import LEARN, Recipe
from worker.training.train import Split, logits, mixed, model_weights, train

#: Shares of the trained weights to choose from; the rest are those of the model in service.
SHARES = (1.0, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
#: By how much, as a share, the held-out pictures of digits that are refused may rise where as many non-digits are
#: refused as before.
MORE_REFUSED = 0.005
#: Within the version of a model, between that of the first model and what tells the corrections.
LEARNT = "-learn"
Say = Callable[[str], None]


class TooFewCorrections(DigitqError):
    """There are not enough corrections to learn from some and judge by the others."""

    code, title = "too_few_corrections", "There are too few corrections"


def recipe_of(model: Mlp, corrections: str) -> Recipe:
    """Return the recipe with which a model learns from corrections of this digest; its version is of both.

    Raises `SettingsError` if the model has no class for what is no digit.
    """
    layers = Recipe.from_json(model.card["recipe"]).layers
    if layers[-1] != NONDIGIT + 1:
        raise SettingsError(f"the model {model.version} cannot learn: it has no class for what is no digit")
    number = int(hashlib.sha256(f"{model.sha256} {corrections}".encode()).hexdigest(), 16) % 10**6
    name = model.version.split(LEARNT)[0] + LEARNT
    return replace(LEARN, name=name, revision=number, layers=layers, start=model.version)


@dataclass(frozen=True)
class Fitting:
    """Trains and exports in the directories of a run."""

    mnist: Mnist
    #: The directory of checkpoints and models; beside it lies the bank.
    run: Path
    #: The directory of the model to begin with.
    start: Path
    recipe: Recipe
    held_out: HeldOut
    say: Say

    def fit(self, name: str, seen: Sequence[Seen]) -> Path:
        """Learn from these corrections, in the directory `name` of the run; return that of the exported model.

        Raises `TooFewCorrections` if none of them can be learnt, and what `train` and `export` do.
        """
        usable = [(one.pixels, one.correction.label) for one in seen if one.pixels is not None]
        if not usable:
            raise TooFewCorrections("serving rejects all pictures to learn from before a model sees them")
        images, labels = zip(*usable, strict=True)
        examples = Examples(np.stack(images), np.array(labels, np.uint8), self._rehearsal)
        self.say(f"learning from {len(usable)} corrections ({name})")
        folder = self.run / name
        path = train(
            self.recipe, self.mnist, folder, start=self.start, beside=self.run.parent, corrections=examples
        )  # fmt: skip
        run, (first, _) = Checkpoint.load(path), model_weights(self.start, self.recipe.start or "")
        share = share_of(first, run.averages, self.held_out)
        run = replace(run, averages=mixed(first, run.averages, share), recipe=replace(self.recipe, share=share))
        return export(
            run, self.mnist, folder / "model", preprocessing=PREPROCESSING_VERSION, held_out=self.held_out,
            remark=f"It learnt from {len(usable)} corrections of users.", instead_of=Mlp.load(self.start),
        )  # fmt: skip

    @cached_property
    def _rehearsal(self) -> Rehearsal:
        split, (first, _) = Split.of(self.mnist, self.recipe), model_weights(self.start, self.recipe.start or "")
        return hardest(logits(first, split.images), split.images, split.labels, self.recipe.temperature)


def share_of(first: Parameters, trained: Parameters, held_out: HeldOut) -> float:
    """Return the largest share of the trained weights with which held-out digits and non-digits are read as before.

    The thresholds of the result are raised until as many non-digits are refused as before (`export.chosen`): of the
    digits hardly more may be then. The smallest share if there is none: then the gate says what is worse.
    """

    def digitness(parameters: Parameters, images: Images) -> NDArray[np.float32]:
        return 1 - softened(logits(parameters, images), 1)[:, NONDIGIT]

    def wrong(parameters: Parameters) -> int:
        return int((logits(parameters, held_out.digits)[:, :NONDIGIT].argmax(axis=1) != held_out.labels).sum())

    def refused(parameters: Parameters, passed: int | None) -> tuple[int, int]:
        pictures, nondigits = (digitness(parameters, one) for one in (held_out.pictures, held_out.nondigits))
        limit = digit_from(pictures, nondigits, REFUSED_PICTURES)
        if passed is not None:
            limit = max(limit, refusing(nondigits, passed))
        return int((pictures < limit).sum()), int((nondigits >= limit).sum())

    before, passed = refused(first, None)
    errors = wrong(first) + gate.more(gate.MORE_ERRORS, len(held_out.digits))
    most = before + gate.more(MORE_REFUSED, len(held_out.pictures))
    for share in SHARES:
        found = mixed(first, trained, share)
        if wrong(found) <= errors and refused(found, passed)[0] <= most:
            return share
    return SHARES[-1]
