"""Promotes a model to service, unless the model in place reads better or the promotion is forced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from shared.errors import DigitqError, ModelError
from shared.settings import Settings
from worker.inference.classify import Classifier
from worker.inference.mlp import CARD, Mlp
from worker.training.artefact.place import check_place, install
from worker.training.data.pictures import Picture
from worker.training.evaluation.examine import examine


class NotBetter(DigitqError):
    """The model would replace a better one."""

    code, title = "not_better", "The model in place reads better"


class Measure(NamedTuple):
    """The errors of two models on the same pictures: read wrongly or not at all."""

    name: str
    pictures: int
    in_place: int
    candidate: int


#: Pictures to compare the models on, by name.
Trials = Mapping[str, Sequence[Picture]]
#: Reports progress.
Say = Callable[[str], None]


def promote(candidate: Path, place: Path, trials: Trials, settings: Settings, say: Say, force: bool = False) -> Path:
    """Copy the model in `candidate` to `place`, where serving loads it; return `place`.

    If there is a model already, both first read the trials, processed like uploads; without trials nothing is compared.
    Raises `NotBetter` if the model in place has fewer errors in any trial, unless `force`, and `ModelError` as
    `place.install`. A model that cannot be loaded is replaced.
    """
    check_place(place)
    if trials and (place / CARD).exists():
        _compete(candidate, place, trials, settings, say, force)
    return install(candidate, place, settings, force)


def compare(in_place: Classifier, candidate: Classifier, trials: Trials) -> list[Measure]:
    """Read all pictures with both models, as serving would."""
    return [
        Measure(name, len(pictures), *(examine(name, pictures, one).report.errors for one in (in_place, candidate)))
        for name, pictures in trials.items()
    ]


def table(measures: Sequence[Measure], in_place: str, candidate: str) -> str:
    """Return a text table with a row for each measure and a column for each model."""
    rows = [f"{'read wrongly':20}{'of':>8}{f'in place: {in_place}':>24}{f'candidate: {candidate}':>24}"]
    rows += [f"{one.name:20}{one.pictures:8}{_errors(one, 2)}{_errors(one, 3)}" for one in measures]
    return "\n".join(rows)


def _errors(one: Measure, column: int) -> str:
    errors = int(one[column])
    return f"{f'{errors} ({100 * errors / max(one.pictures, 1):.2f} %)':>24}"


def _compete(candidate: Path, place: Path, trials: Trials, settings: Settings, say: Say, force: bool) -> None:
    """Raise `NotBetter` if the model in place has fewer errors in any trial, unless forced."""
    new = _classifier(candidate, settings)
    try:
        old = _classifier(place, settings)
    except ModelError as error:
        say(f"the model in place cannot be loaded and is replaced: {error}")
        return
    measures = compare(old, new, trials)
    say(table(measures, old.model.version, new.model.version))
    better = [one.name for one in measures if one.in_place < one.candidate]
    if better and force:
        say(f"replaced although it reads better: {', '.join(better)}")
    elif better:
        raise NotBetter(
            f"{place} holds {old.model.version}, which reads better: {', '.join(better)}. "
            f"The new model is in {candidate}; --force puts it there nevertheless"
        )


def _classifier(path: Path, settings: Settings) -> Classifier:
    return Classifier(Mlp.load(path), settings.max_pixels, settings.preprocessing)
