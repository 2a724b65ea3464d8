"""Chooses new thresholds for a model's card, as after a change of the preprocessing; the weights do not change.

    python -m worker.training.artefact.choose --data var/mnist --model worker/model

As when the model was exported: from MNIST's held-out digits, and from pictures drawn of them and of what is no digit.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from worker.image.preprocess import PREPROCESSING_VERSION
from worker.inference.mlp import CARD, Mlp
from worker.training.artefact.export import chosen
from worker.training.artefact.heldout import HeldOut
from worker.training.data.idx import load_mnist
from worker.training.recipes import Recipe
from worker.training.train import Split


def rechosen(folder: Path, data: Path) -> dict[str, float]:
    """Write the thresholds to the card of the model in `folder`, and return them.

    The same every time for one preprocessing and one set of fonts. Raises `ModelError` and `DataError`.
    """
    model, mnist = Mlp.load(folder), load_mnist(data)
    recipe = Recipe.from_json(model.card["recipe"])
    choice = chosen(model, HeldOut.of(Split.of(mnist, recipe), recipe))
    about = {"preprocessing": PREPROCESSING_VERSION, "thresholds_date": datetime.now(UTC).date().isoformat()}
    part = folder / (CARD + ".part")
    part.write_text(json.dumps({**model.card, **choice, **about}, indent=2) + "\n")
    part.replace(folder / CARD)
    thresholds: dict[str, float] = choice["thresholds"]
    return thresholds


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Directory of MNIST's files.")
@click.option("--model", type=click.Path(path_type=Path, exists=True), required=True, help="Directory of the model.")
def main(data: Path, model: Path) -> None:
    """Choose new thresholds for a model's card, and print them."""
    click.echo(json.dumps(rechosen(model, data)))


if __name__ == "__main__":
    main()
