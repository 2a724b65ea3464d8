"""The command `digitq explain`. Pillow, NumPy and TensorFlow are imported only when it runs."""

from __future__ import annotations

from pathlib import Path

import click

from shared.errors import DataError
from shared.prediction import verdict
from shared.runtime.extras import require
from shared.settings import Settings

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--out", type=FILE, default=Path("steps.png"), show_default=True, help="Where the drawing goes.")
@click.option(
    "--model",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of the model.  [default: the one that is served]",
)
def explain(file: Path, out: Path, model: Path | None) -> None:
    """Draw how a picture is read, step by step.

    The drawing has the upload, every step of the preprocessing, the ten bars and the decision.
    """
    require("worker")
    from worker.inference.classify import Classifier
    from worker.inference.explain import explain as steps
    from worker.inference.mlp import Mlp

    settings = Settings.from_env()
    mlp = Mlp.load(model or settings.model_path)
    outcome, sheet = steps(file.read_bytes(), file.name, Classifier(mlp, settings.max_pixels, settings.preprocessing))
    try:
        sheet.save(out, "PNG")
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error}") from error
    warnings = f"  {', '.join(outcome.warnings)}" if outcome.warnings else ""
    found = verdict(outcome.digit, outcome.confidence, outcome.decision, outcome.reason)
    click.echo(f"{file}: {found}{warnings}")
    click.echo(f"the steps are in {out}", err=True)
