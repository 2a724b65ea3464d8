"""The command `digitq explain`. Pillow, NumPy and TensorFlow are imported only when it runs."""

from __future__ import annotations

from pathlib import Path

import click

from shared.errors import DataError
from shared.numbers import READS, Read
from shared.prediction import verdict
from shared.runtime.extras import require
from shared.settings import Settings

FILE = click.Path(path_type=Path, dir_okay=False)


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
