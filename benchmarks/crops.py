"""Measures what models make of crops of pages: digits read right, and letters, signs and wrong cuts refused.

    python -m benchmarks.crops --data var/mnist [--model DIR ...] [--each 4000] [--seed 0]

The pages are composed of MNIST's test digits and of fonts held out, and cropped as the reader of pages does. A crop
counts as taken for a digit if its digitness is at least a half. What looks like a digit alone has a row of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from shared.settings import SHIPPED_MODEL
from worker.inference.mlp import Mlp, Reading
from worker.training.data.idx import load_mnist, pixels
from worker.training.pages.crop_truth import LIKE, NONDIGIT
from worker.training.pages.crops import Crop, crops

#: From this digitness on a crop counts as a digit.
EVEN = 0.5
#: Confused marks that are named.
NAMED = 12


def table(found: Sequence[Crop], reading: Reading) -> list[str]:
    """Return a row for each kind of crops, and which marks were most often taken for which digits."""
    read, is_digit = reading.probabilities.argmax(axis=1), reading.digitness >= EVEN
    kinds = [_kind(crop) for crop in found]
    rows = []
    for kind in sorted(set(kinds)):
        of = np.array([one == kind for one in kinds])
        labels = np.array([crop.label for crop in found])[of]
        right = np.where(labels == NONDIGIT, ~is_digit[of], is_digit[of] & (read[of] == labels))
        if labels[0] == NONDIGIT:
            sure = f"accepted at a digitness of 0.95: {np.mean(reading.digitness[of] >= 0.95):7.2%}"
        else:
            sure = f"wrong digit: {np.mean(read[of] != labels):7.2%}"
        rows.append(f"{kind:26} {of.sum():6} crops, right {right.mean():7.2%}, {sure}")
    pairs = zip(found, read, is_digit, kinds, strict=True)
    false = Counter((crop.text, int(digit)) for crop, digit, yes, kind in pairs if yes and kind.startswith("mark"))
    return [*rows, "taken for digits: " + ", ".join(f"{a} {b} ({n})" for (a, b), n in false.most_common(NAMED))]


def _kind(crop: Crop) -> str:
    if crop.label != NONDIGIT:
        return "digit, printed" if crop.printed else "digit, written"
    return f"{crop.kind}, like a digit" if crop.trust <= LIKE else crop.kind


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Directory of the four MNIST files.")
@click.option("--model", "models", type=click.Path(path_type=Path), multiple=True, help="[default: the shipped one]")
@click.option("--each", default=4000, show_default=True, help="Crops.")
@click.option("--seed", default=0, show_default=True)
def main(data: Path, models: tuple[Path, ...], each: int, seed: int) -> None:
    """Print a table for each model."""
    mnist = load_mnist(data)
    rng = np.random.default_rng([seed, 1])
    found = list(crops(mnist.test_images, mnist.test_labels, each, rng, held_out=True))
    images = pixels(np.stack([crop.pixels for crop in found]))
    for path in models or (SHIPPED_MODEL,):
        model = Mlp.load(path)
        click.echo("\n".join([f"{path.name} {model.version}", *table(found, model.read(images))]))


if __name__ == "__main__":
    main()
