"""The commands `digitq explain` and `digitq promote`. NumPy and TensorFlow are imported only when one of them runs."""

from __future__ import annotations

from pathlib import Path

import click

from shared.errors import DataError, ModelError
from shared.numbers import READS, Read
from shared.prediction import verdict
from shared.runtime.extras import require
from shared.settings import Settings

FILE = click.Path(path_type=Path, dir_okay=False)
DIRECTORY = click.Path(path_type=Path, file_okay=False, exists=True)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--out", type=FILE, default=Path("steps.png"), show_default=True, help="Where the drawing goes.")
@click.option("--read", type=click.Choice(READS), default="digit", show_default=True, help="One digit, or all numbers.")
@click.option(
    "--model",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of the model.  [default: the one that is served]",
)
def explain(file: Path, out: Path, read: Read, model: Path | None) -> None:
    """Draw how a picture is read, step by step.

    The drawing has the upload, every step of the preprocessing, the ten bars and the decision. With --read numbers it
    has the page with a box around each digit, in the colour of its decision, each row, and the text of the numbers; a
    page that is read as a single digit is drawn as one.
    """
    require("worker")
    from worker.inference.classify import Classifier
    from worker.inference.explain import explain as steps
    from worker.inference.explain_page import explain_page
    from worker.inference.mlp import Mlp
    from worker.inference.numbers_classifier import NumbersClassifier

    settings = Settings.from_env()
    mlp = Mlp.load(model or settings.model_path)
    classifier = Classifier(mlp, settings.max_pixels, settings.preprocessing)
    if read == "digit":
        outcome, sheet = steps(file.read_bytes(), file.name, classifier)
    else:
        outcome, sheet = explain_page(file.read_bytes(), file.name, NumbersClassifier(classifier))
    try:
        sheet.save(out, "PNG")
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error}") from error
    warnings = f"  {', '.join(outcome.warnings)}" if outcome.warnings else ""
    found = " / ".join(outcome.page.lines) if outcome.page else ""
    found = found or verdict(outcome.digit, outcome.confidence, outcome.decision, outcome.reason)
    click.echo(f"{file}: {found}{warnings}")
    click.echo(f"the steps are in {out}", err=True)


@click.command()
@click.argument("model", type=DIRECTORY, required=False, metavar="[MODEL_DIR]")
@click.option("--previous", "back", is_flag=True, help="Put the model back that was there before; again: undo that.")
@click.option("--initial", is_flag=True, help="Only if no model is there yet, as in a new volume.")
@click.option("--data", type=DIRECTORY, help="Compare on held-out digits first: directory of the four MNIST files.")
@click.option("--pictures", type=DIRECTORY, help="Compare on these: a directory as `digitq evaluate` reads it.")
@click.option("--force", is_flag=True, help="Replace a model that reads better too.")
def promote(
    model: Path | None, back: bool, initial: bool, data: Path | None, pictures: Path | None, force: bool
) -> None:  # fmt: skip
    """Put a model into service: copy it to DIGITQ_MODEL_PATH.

    Workers that use this directory load it beside the one that they serve, and take it between two batches, within
    seconds and without a restart. The model is loaded and tested first. With --data or --pictures it also has to read
    them as well as the one in its place, which is kept for --previous.

    \b
    digitq promote var/train/best-0/model --data var/mnist
    digitq promote --previous
    """
    require("worker")
    if bool(model) == back:
        raise click.UsageError("expected either MODEL_DIR or --previous")
    if back and (initial or data or pictures):
        raise click.UsageError("--initial, --data and --pictures belong to MODEL_DIR")
    from worker.training.artefact import place

    settings = Settings.from_env()
    served = settings.model_path
    before = place.card_in(served)
    if initial and before:
        _say(f"{served} holds {before['version']} already")
        return
    if model is None:
        place.restore(served, settings)
    elif data or pictures:
        _promote_compared(model, data, pictures, settings, force)
    else:
        place.install(model, served, settings, force)
        _say("compared with nothing: --data and --pictures would")
    after = place.card_in(served)
    if after == before:
        _say(f"{served} holds {after['version']} already")
    else:
        _say(f"{served} holds {after['version']} now: workers take it within seconds")


def _promote_compared(model: Path, data: Path | None, pictures: Path | None, settings: Settings, force: bool) -> None:
    """Promote a model that reads the held-out digits and the pictures as well. Raises as `promotion.promote`."""
    require("training")
    from worker.training.artefact import place, promotion
    from worker.training.data.idx import load_mnist
    from worker.training.data.pictures import from_arrays, from_folder
    from worker.training.recipes import Recipe
    from worker.training.train import Split

    trials = {}
    if data:
        recipe = place.card_in(model).get("recipe")
        if not recipe:
            raise ModelError(f"{model} has no card that names its recipe, and so which digits it has not seen")
        split = Split.of(load_mnist(data), Recipe.from_json(recipe))
        trials["held-out digits"] = from_arrays(split.held_out_images, split.held_out_labels, "MNIST")
    if pictures:
        trials["pictures"] = from_folder(pictures)
    promotion.promote(model, settings.model_path, trials, settings, _say, force)


def _say(message: str) -> None:
    click.echo(message, err=True)
