"""The command `digitq learn`. TensorFlow is imported only when it runs."""

from __future__ import annotations

from pathlib import Path

import click

from shared.runtime.extras import require
from shared.settings import Settings

DIRECTORY = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("corrections", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--pictures",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    multiple=True,
    help="Learn from these too: a directory with the files of an export, such as index.csv (path, label); repeatable.",
)
@click.option("--data", type=DIRECTORY, help="Directory of the four MNIST files.  [default: var/mnist]")
@click.option("--download", "fetch", is_flag=True, help="Fetch what is missing in the data directory first.")
@click.option("--run", type=DIRECTORY, help="Where checkpoints and models go.  [default: var/train/VERSION]")
@click.option("--promote/--no-promote", default=True, show_default=True, help="Serve the new model if it is better.")
def learn(
    corrections: tuple[Path, ...], pictures: tuple[Path, ...], data: Path | None, fetch: bool, run: Path | None,
    promote: bool,
) -> None:  # fmt: skip
    """Have the model in service learn from exported corrections.

    \b
    digitq learn corrections.zip
    digitq learn corrections.zip --pictures photos --no-promote

    A correction is a digit, a digit of a page, or that there is none. The model goes on from its weights for some
    minutes; its own answers to drawn pictures keep what it knew. A run that was interrupted goes on if the same command
    is given.

    The new model is promoted if it reads the corrections better than chance explains, each judged by a model that did
    not learn from it, and reads nothing else worse: held-out and golden digits, drawn non-digits and digits. The table
    says so. Otherwise it exits with 1, says what failed, and leaves the model in service as it is. If too many labels
    seem wrong, a file lists them.
    """
    require("worker", "training")
    from worker.inference.mlp import use_onednn

    use_onednn()
    from worker.training.data import download, idx
    from worker.training.learning.corrections import Corrections
    from worker.training.learning.learn import learn as run_learning

    if not corrections and not pictures:
        raise click.UsageError("expected corrections: the zip that the page exports, or --pictures")
    settings = Settings.from_env()
    found = Corrections(settings.max_upload_bytes)
    for path in (*corrections, *pictures):
        found.add(path)
    data = data or settings.state_dir / "mnist"
    if fetch:
        for path in download.download(data):
            _say(f"downloaded {path}")
    learnt = run_learning(found, idx.load_mnist(data), settings, _say, run, promote)
    _say(f"{'promoted: ' if promote else ''}the model is in {learnt.model}")


def _say(message: str) -> None:
    click.echo(message, err=True)
