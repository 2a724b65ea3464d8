"""Shows that a model learns from its users: the mistakes of a source before and after, and that poison is refused.

    python -m benchmarks.learning --photos DIR --numbers DIR --data var/mnist [--model DIR] [--only TEXT]
        [--poison TEXT] [--out DIR]

`--made` draws two sources more (`benchmarks.made`).

A user (`benchmarks.corrected`) reads a source with the model in service, corrects half of its mistakes and confirms as
many right digits. The model learns from those by `digitq learn`; then it reads the other half of the mistakes, and
right digits of the other half's pictures. No picture is in both halves. Sources with fewer than FEWEST mistakes are
left out. No source was seen in training. A candidate counts whether the gate promotes it or not: the table says which.
Poisoned: the same corrections with a fifth of the labels, at least one, replaced by others.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from benchmarks.corrected import Judged, cells, export, pages, photos
from benchmarks.made import make
from shared.errors import DigitqError
from shared.settings import Settings
from worker.inference.classify import Classifier
from worker.inference.mlp import Mlp, use_onednn
from worker.inference.numbers_classifier import NumbersClassifier

if TYPE_CHECKING:
    from worker.training.data.idx import Mnist

#: Sources with fewer mistakes show nothing.
FEWEST = 4
#: Most right digits that are read again.
RIGHT = 300
#: The share of labels that is replaced.
POISON = 0.2


@dataclass
class Found:
    """The result of learning from a source."""

    source: str
    #: Corrections learnt from: mistakes, and as many right digits.
    learnt: int
    #: Mistakes of the other half, how many of them serving rejects before any model sees them, and how many are left.
    mistakes: int
    unseen: int
    left: int
    #: Right digits of the other half, and how many are wrong now.
    right: int
    broken: int
    #: What the gate said: `promoted`, or the code of the error; and of the poisoned corrections, if they were tried.
    gate: str
    poisoned: str
    #: CPU seconds of learning and its gate.
    cpu: float


def divided(judged: Sequence[Judged]) -> tuple[list[Judged], list[Judged], list[Judged]]:
    """Return what is corrected, and the mistakes and right digits of the other half."""
    wrong = [one for one in judged if one.wrong]
    side, counts = {}, [0, 0]
    for picture in sorted({one.picture for one in wrong}, key=lambda path: Judged(path, None, "", "").order):
        side[picture] = int(counts[1] < counts[0])
        counts[side[picture]] += sum(one.picture == picture for one in wrong)
    right = sorted((one for one in judged if not one.wrong), key=lambda one: (one.order, one.box or ()))
    # Pictures without a mistake are divided too; a page's digits in any order, always the same.
    np.random.default_rng(0).shuffle(right)  # type: ignore[arg-type]
    halves = [[one for one in right if side.get(one.picture, int(one.order, 16) % 2) == half] for half in (0, 1)]
    mistakes = [[one for one in wrong if side[one.picture] == half] for half in (0, 1)]
    again = sorted(halves[1][:RIGHT], key=lambda one: one.order)  # a page is read once for all its digits
    return mistakes[0] + halves[0][: len(mistakes[0])], mistakes[1], again


def poisoned(judged: Sequence[Judged], rng: np.random.Generator) -> list[Judged]:
    """Replace a fifth of the labels by other digits."""
    chosen = set(rng.choice(len(judged), max(1, round(POISON * len(judged))), replace=False).tolist())
    others = [str(rng.choice([digit for digit in "0123456789" if digit != one.label])) for one in judged]
    return [one._replace(label=others[at]) if at in chosen else one for at, one in enumerate(judged)]


def wrong(judged: Sequence[Judged], folder: Path, settings: Settings, model: Path) -> tuple[int, int]:
    """Count what the model reads wrongly, as an upload, and what of all serving rejects before a model sees it."""
    from worker.training.learning.corrections import Corrections
    from worker.training.learning.inputs import see

    if not judged:
        return 0, 0
    corrections = Corrections(settings.max_upload_bytes)
    corrections.add(export(judged, folder))
    found = see(corrections, Classifier(Mlp.load(model), settings.max_pixels), lambda _: None)
    return sum(one.read != one.correction.label for one in found), sum(one.pixels is None for one in found)


def shown(
    source: str, judged: Sequence[Judged], mnist: Mnist, poison: bool, out: Path, settings: Settings
) -> Found:  # fmt: skip
    """Learn from half of a source, and read the other half."""
    from worker.training.learning.corrections import Corrections
    from worker.training.learning.learn import learn

    name = "".join(char if char.isalnum() else "-" for char in source)
    verdicts, spent = [], 0.0
    corrected, mistakes, right = divided(judged)
    bad = {"-poisoned": poisoned(corrected, np.random.default_rng(0))} if poison else {}
    for kind, labels in {"": corrected, **bad}.items():
        corrections, run = Corrections(settings.max_upload_bytes), out / (name + kind)
        corrections.add(export(labels, out / f"{name}{kind}.export"))
        start = time.process_time()
        try:
            learn(corrections, mnist, settings, lambda text: click.echo(text, err=True), run, False)
            verdicts.append("promoted")
        except DigitqError as error:
            click.echo(f"{error.code}: {error}", err=True)
            verdicts.append(error.code)
        spent = spent or time.process_time() - start
    model, again = out / name / "all" / "model", out / f"{name}.other"
    model = model if model.exists() else settings.model_path  # the labels of the source seem wrong themselves
    (left, unseen), (broken, _) = wrong(mistakes, again, settings, model), wrong(right, again, settings, model)
    return Found(
        source,
        len(corrected),
        len(mistakes),
        unseen,
        left,
        len(right),
        broken,
        *verdicts,
        *["-"] * (2 - len(verdicts)),
        spent,
    )


def text(found: Sequence[Found]) -> str:
    """Return the table."""
    columns = f"{'learnt':>7}{'mistakes':>9}{'unseen':>7}{'left':>5}{'right':>6}{'broken':>7}"
    head = f"{'source':52}{columns}  gate, poisoned; CPU s"
    rows = [
        f"{one.source[:51]:52}{one.learnt:7}{one.mistakes:9}{one.unseen:7}{one.left:5}{one.right:6}{one.broken:7}"
        f"  {one.gate}, {one.poisoned}; {one.cpu:.0f}"
        for one in found
    ]
    means = [
        f"mistakes of the other half that are gone, mean over {len(shares)} {kind}: {np.mean(shares):.0%}"
        for kind, made in (("sources", False), ("made sources", True))
        if (shares := [1 - one.left / one.mistakes for one in found if one.source.startswith("made, ") == made])
    ]
    verdicts = [one.poisoned for one in found if one.poisoned != "-"]
    poison = f"poisoned corrections promoted: {verdicts.count('promoted')} of {len(verdicts)}"
    return "\n".join([head, *rows, *means, poison])


@click.command()
@click.option("--photos", "album", type=click.Path(path_type=Path, exists=True), help="Folder with an index.csv.")
@click.option("--numbers", type=click.Path(path_type=Path, exists=True), help="Folder with a manifest.jsonl.")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Directory of the four MNIST files.")
@click.option("--model", type=click.Path(path_type=Path, exists=True), help="[default: the one in service]")
@click.option("--made", is_flag=True, help="Draw sources too.")
@click.option("--only", default="", help="Only sources with one of these words, separated by commas.")
@click.option("--poison", default="", help="Only sources with one of these words are poisoned too.  [default: all]")
@click.option("--out", type=click.Path(path_type=Path), default=Path("var/train/learning"), show_default=True)
def main(
    album: Path | None, numbers: Path | None, data: Path, model: Path | None, made: bool, only: str, poison: str,
    out: Path,
) -> None:  # fmt: skip
    """Print the table."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    use_onednn()
    from worker.training.data.idx import load_mnist

    settings = Settings.from_env()
    settings = replace(settings, model_path=model or settings.model_path)
    digits, mnist = Classifier(Mlp.load(settings.model_path), settings.max_pixels), load_mnist(data)
    found = photos(album, digits) if album else {}
    if made:
        found |= photos(make(out / "made", mnist), digits)
    if numbers:
        found |= cells(numbers, digits) | pages(numbers, NumbersClassifier(digits))
    out.mkdir(parents=True, exist_ok=True)
    table: list[Found] = []
    for source, judged in found.items():
        count = sum(one.wrong for one in judged)
        click.echo(f"{source}: {count} of {len(judged)} wrong", err=True)
        if count >= FEWEST and any(word in source for word in only.split(",")):
            table.append(shown(source, judged, mnist, any(word in source for word in poison.split(",")), out, settings))
            click.echo(text(table), err=True)
    click.echo(text(table))
    (out / "learning.json").write_text(json.dumps([asdict(one) for one in table], indent=1) + "\n")


if __name__ == "__main__":
    main()
