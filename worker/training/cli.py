"""The commands `digitq train` and `digitq evaluate`. TensorFlow is imported only when one of them runs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from shared.settings import Settings
from worker.training.recipes import RECIPES

DIRECTORY = click.Path(path_type=Path, file_okay=False)
data_option = click.option("--data", type=DIRECTORY, required=True, help="Directory of the four MNIST files.")


@click.command()
@click.option("--recipe", type=click.Choice(sorted(RECIPES)), default="seed", show_default=True)
@data_option
@click.option("--out", type=DIRECTORY, help="Where the model goes.  [default: model/ in the run directory]")
@click.option("--run", type=DIRECTORY, help="Where checkpoints go.  [default: var/train/RECIPE-SEED]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), help="Train so many steps.  [default: the recipe's]")
@click.option("--download", "fetch", is_flag=True, help="Fetch what is missing in the data directory first.")
def train(
    recipe: str, data: Path, out: Path | None, run: Path | None, seed: int, steps: int | None, fetch: bool
) -> None:
    """Train a model and write it with its card.

    A run that was interrupted goes on from its last checkpoint. Prints the loss every 1,000 steps.
    """
    from worker.preprocess import PREPROCESSING_VERSION
    from worker.training import download, idx
    from worker.training.checkpoint import Checkpoint
    from worker.training.export import export
    from worker.training.train import train as run_training

    if fetch:
        for path in download.download(data):
            click.echo(f"downloaded {path}", err=True)
    mnist = idx.load_mnist(data)
    run = run or Settings.from_env().state_dir / "train" / f"{recipe}-{seed}"
    checkpoint = run_training(RECIPES[recipe], mnist, run, seed, steps)
    model = export(Checkpoint.load(checkpoint), mnist, out or run / "model", preprocessing=PREPROCESSING_VERSION)
    click.echo(f"the model is in {model}", err=True)


@click.command()
@data_option
@click.option("--model", type=DIRECTORY, help="Directory of the model.  [default: the one that is served]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def evaluate(data: Path, model: Path | None, as_json: bool) -> None:
    """Read the MNIST test set with a model: directly, and as PNG files on the way of an upload."""
    from worker.mlp import Mlp
    from worker.preprocess import preprocess
    from worker.training import idx
    from worker.training.evaluate import evaluate as read

    mlp = Mlp.load(model or Settings.from_env().model_path)
    mnist = idx.load_mnist(data)
    ways = {"direct": None, "served": preprocess}
    reports = {way: read(mlp, mnist.test_images, mnist.test_labels, step) for way, step in ways.items()}
    if as_json:
        click.echo(json.dumps({"model": mlp.version, **{way: report.to_json() for way, report in reports.items()}}))
    else:
        click.echo("\n\n".join(f"{mlp.version}, {way}: {report.table()}" for way, report in reports.items()))
