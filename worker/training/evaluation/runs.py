"""The runs behind `digitq evaluate`: models and pictures in, an `Evaluation` and its two files out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from shared.errors import DataError
from shared.settings import Settings
from worker.image.preprocess import PREPROCESSING_VERSION
from worker.inference.classify import Classifier
from worker.inference.mlp import Mlp
from worker.training.data.idx import Images, Labels, load_mnist
from worker.training.data.pictures import from_arrays, from_folder
from worker.training.evaluation.evaluate import evaluate
from worker.training.evaluation.examine import Evaluation, Examination, examine
from worker.training.evaluation.refusals import of_digits, refusals
from worker.training.evaluation.report import page
from worker.training.evaluation.robustness import CHANGES, changed, subset
from worker.training.evaluation.ways import Condition, condition, total

#: Name of a model -> the model as a worker serves it; all with the same limit of pixels.
Classifiers = Mapping[str, Classifier]
#: Is told what is going on.
Say = Callable[[str], None]


def classifiers(paths: Iterable[Path], settings: Settings) -> dict[str, Classifier]:
    """The models in the directories; those of one version are told apart by their SHA-256. Raises `ModelError`."""
    models = [Mlp.load(path) for path in paths]
    versions = [model.version for model in models]
    return {
        m.version if versions.count(m.version) == 1 else f"{m.version} {m.sha256[:7]}": Classifier(
            m, settings.max_pixels, settings.preprocessing
        )
        for m in models
    }


def of_mnist(models: Classifiers, folder: Path, n: int, say: Say) -> Evaluation:
    """Read MNIST's test digits, `n` of them in every condition of the robustness table, and what is no digit.

    Raises `DataError`.
    """
    mnist = load_mnist(folder)
    images, labels = mnist.test_images, mnist.test_labels
    examinations = [_examined(name, one, images, labels, say) for name, one in models.items()]
    conditions = robustness(models, images, labels, n, say)
    say("reading what is no digit")
    refused = [*refusals(models, images), of_digits("MNIST test digits", examinations)]
    return Evaluation("MNIST test digits", _preprocessing(models), examinations, conditions, refused)


def of_pictures(models: Classifiers, folder: Path, say: Say) -> Evaluation:
    """Read the pictures in the folder's index, all of them and kind by kind. Raises `DataError`."""
    pictures = from_folder(folder)
    examinations = []
    for name, classifier in models.items():
        say(f"{name} reads {len(pictures)} pictures")
        examinations.append(examine(name, pictures, classifier))
    say("the same without the preprocessing")
    kinds = sorted({picture.category for picture in pictures})
    parts = {kind: [picture for picture in pictures if picture.category == kind] for kind in kinds}
    conditions = [condition(kind, part, models) for kind, part in parts.items()]
    conditions += [total(conditions)] if len(conditions) > 1 else []
    return Evaluation(f"Pictures: {folder.resolve().name}", _preprocessing(models), examinations, conditions)


def robustness(models: Classifiers, images: Images, labels: Labels, n: int, say: Say) -> list[Condition]:
    """Read `n` of the images uint8 [m, 28, 28], always the same ones, in each of `CHANGES`; nothing if `n` is 0."""
    chosen = subset(n, len(images))
    conditions = []
    for name, change in CHANGES.items() if len(chosen) else ():
        say(f"reading {len(chosen)} digits, {name}")
        pictures = from_arrays(changed(images[chosen], change), labels[chosen], name, chosen.tolist())
        conditions.append(condition(name, pictures, models))
    return conditions


def write(evaluation: Evaluation, out: Path) -> Path:
    """Write report.json and report.html into the directory `out`, and return the page. Raises `DataError`."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").write_text(json.dumps(evaluation.to_json(), indent=1) + "\n")
        (out / "report.html").write_text(page(evaluation), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error}") from error
    return out / "report.html"


def _examined(name: str, classifier: Classifier, images: Images, labels: Labels, say: Say) -> Examination:
    """The digits as PNG files, and directly as arrays."""
    say(f"{name} reads {len(images)} digits")
    pictures = from_arrays(images, labels, "MNIST")
    direct = evaluate(classifier.model, images, labels)
    return Examination(name, pictures, examine(name, pictures, classifier).results, direct)


def _preprocessing(models: Classifiers) -> str:
    """The version of what serving does now, or the name of what is set in its place."""
    [method] = {one.method for one in models.values()}
    return PREPROCESSING_VERSION if method == "mnist" else method
