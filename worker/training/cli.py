"""The commands `digitq train` and `digitq evaluate`. TensorFlow is imported only when one of them runs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from shared.runtime.extras import require
from shared.settings import Settings
from worker.training.recipes import RECIPES

DIRECTORY = click.Path(path_type=Path, file_okay=False)
data_option = click.option("--data", type=DIRECTORY, required=True, help="Directory of the four MNIST files.")


@click.command()
@click.option("--recipe", type=click.Choice(sorted(RECIPES)), default="seed", show_default=True)
@data_option
@click.option("--run", type=DIRECTORY, help="Where checkpoints and the model go.  [default: var/train/RECIPE-SEED]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), help="Train that many steps.  [default: the recipe's]")
@click.option("--start", type=DIRECTORY, help="The model to begin with, if the recipe does.  [default: the one served]")
@click.option("--download", "fetch", is_flag=True, help="Fetch what is missing in the data directory first.")
@click.option("--remark", default="", help="Goes into what the card says of the test set.")
@click.option("--out", type=DIRECTORY, help="Copy the model there, unless a better one is there.")
@click.option("--promote", is_flag=True, help="The same with the directory that is served.")
@click.option("--pictures", type=DIRECTORY, help="Compare on these too: a directory as `digitq evaluate` reads it.")
@click.option("--force", is_flag=True, help="Replace a better model too.")
def train(
    recipe: str, data: Path, run: Path | None, seed: int, steps: int | None, start: Path | None, fetch: bool,
    remark: str, out: Path | None, promote: bool, pictures: Path | None, force: bool,
) -> None:  # fmt: skip
    """Train a model, and write it with its card.

    It goes into model/ of the run's directory. A run that was interrupted goes on from its last checkpoint. Prints the
    loss every 1,000 steps. With --out or --promote the model also goes where it is wanted, if no model is there
    that reads better: both read the held-out digits, and the pictures if there are any, on the way of an upload.
    """
    require("worker", "training")
    from worker.inference.mlp import use_onednn

    if RECIPES[recipe].pictures:
        use_onednn()
    from worker.image.preprocess import PREPROCESSING_VERSION
    from worker.training.artefact import promotion
    from worker.training.artefact.export import export
    from worker.training.artefact.place import check_place
    from worker.training.checkpoint import Checkpoint
    from worker.training.data import download, idx
    from worker.training.data.pictures import from_arrays, from_folder
    from worker.training.train import Split
    from worker.training.train import train as run_training

    if out and promote:
        raise click.UsageError("expected either --out or --promote")
    settings = Settings.from_env()
    place = settings.model_path if promote else out
    if place:
        check_place(place)  # before hours of training
    trials = {"pictures": from_folder(pictures)} if pictures else {}
    if fetch:
        for path in download.download(data):
            click.echo(f"downloaded {path}", err=True)
    mnist = idx.load_mnist(data)
    run = run or settings.state_dir / "train" / f"{recipe}-{seed}"
    first = start or settings.model_path
    checkpoint = Checkpoint.load(run_training(RECIPES[recipe], mnist, run, seed, steps, start=first))
    model = export(checkpoint, mnist, run / "model", preprocessing=PREPROCESSING_VERSION, remark=remark)
    if place:
        split = Split.of(mnist, checkpoint.recipe)
        digits = from_arrays(split.held_out_images, split.held_out_labels, "MNIST")
        model = promotion.promote(model, place, {"held-out digits": digits, **trials}, settings, _say, force)
    _say(f"the model is in {model}")


def _say(message: str) -> None:
    click.echo(message, err=True)


@click.command()
@click.option("--data", type=DIRECTORY, help="Directory of the four MNIST files: read the test digits.")
@click.option("--pictures", type=DIRECTORY, help="Directory with pictures and an index.csv: path, label, category.")
@click.option(
    "--numbers", type=DIRECTORY, help="Directory with pages of numbers and a manifest.jsonl: path, category, lines."
)
@click.option(
    "--model",
    "paths",
    type=DIRECTORY,
    multiple=True,
    help="Directory of a model, repeatable.  [default: \
the one that is served]",
)
@click.option("--out", type=DIRECTORY, help="Where report.html and report.json go.  [default: var/evaluation/NAME]")
@click.option(
    "--robustness",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Test digits that \
are also read moved, turned, redrawn and badly taken.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a summary.")
def evaluate(
    data: Path | None, pictures: Path | None, numbers: Path | None, paths: tuple[Path, ...], out: Path | None,
    robustness: int, as_json: bool,
) -> None:  # fmt: skip
    """Read labelled pictures, and report how many are right.

    They are read exactly as an upload is. The report is a page with figures, plots and the mistakes.

    \b
    digitq evaluate --data var/mnist
    digitq evaluate --pictures photos --model worker/model --model var/train/best-0/model

    With --numbers it reads pages as with `digitq submit --read numbers`, and prints a table: how many pages are
    wholly right, digits and cells found, false digits, and the time of each stage. `lines` has the digits of each row,
    of a table with `.` for an empty cell; the category `negative` is for pictures without digits.

    \b
    digitq evaluate --numbers pages
    """
    if numbers:
        if data or pictures:
            raise click.UsageError("expected only one of --data, --pictures and --numbers")
        _evaluate_numbers(numbers, paths, as_json)
        return
    require("worker", "training")
    from worker.training.evaluation import runs as evaluation
    from worker.training.evaluation.tables import text

    folder = data or pictures
    if folder is None or (data and pictures):
        raise click.UsageError("expected one of --data, --pictures and --numbers")
    settings = Settings.from_env()
    classifiers = evaluation.classifiers(paths or (settings.model_path,), settings)

    if data:
        found = evaluation.of_mnist(classifiers, data, robustness, _say)
    else:
        found = evaluation.of_pictures(classifiers, folder, _say)
    page = evaluation.write(found, out or settings.state_dir / "evaluation" / folder.resolve().name)
    click.echo(json.dumps(found.to_json()) if as_json else text(found))
    _say(f"the report is {page}")


def _evaluate_numbers(folder: Path, paths: tuple[Path, ...], as_json: bool) -> None:
    """Print a table for each model, or JSON."""
    require("worker")
    from worker.inference.classify import Classifier
    from worker.inference.mlp import Mlp
    from worker.inference.numbers_classifier import NumbersClassifier
    from worker.training.evaluation.evaluate_numbers import evaluate_numbers, from_manifest

    settings, pages = Settings.from_env(), from_manifest(folder)
    found = {}
    for path in paths or (settings.model_path,):
        model = Mlp.load(path)
        model.warm_up()
        _say(f"{path} reads {len(pages)} pages")
        classifier = NumbersClassifier(Classifier(model, settings.max_pixels, settings.preprocessing))
        found[str(path)] = evaluate_numbers(classifier, folder, pages, _say)
    if as_json:
        click.echo(json.dumps({path: one.to_json() for path, one in found.items()}))
    else:
        click.echo("\n\n".join(f"{path}: {one.text()}" for path, one in found.items()))
