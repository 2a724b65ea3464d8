"""The training run. Killed at any moment and started again, it ends in bit-identical weights."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm  # type: ignore[import-untyped]  # ships no stubs

from shared.errors import DataError, SettingsError
from worker.inference.mlp import Mlp, configure_threads
from worker.training import network
from worker.training.batches import batch_indices
from worker.training.checkpoint import STATE, Checkpoint
from worker.training.data.idx import Images, Labels, Mnist, pixels
from worker.training.network import Parameters, tf
from worker.training.recipes import RECIPES, Recipe

if TYPE_CHECKING:
    from worker.training.bank import Bank
    from worker.training.learning.examples import Examples

CHECKPOINT = "checkpoint.npz"
#: Threads within an operation of the large networks, whatever the machine has: the number decides the order of sums.
THREADS = 2


@dataclass(frozen=True)
class Split:
    """The training set in two: what is trained on, and the first images, held out."""

    images: Images
    labels: Labels
    held_out_images: Images
    held_out_labels: Labels

    @classmethod
    def of(cls, mnist: Mnist, recipe: Recipe) -> Split:
        """Raises `DataError` if less than one batch is left to train on."""
        n, images, labels = recipe.validation, mnist.train_images, mnist.train_labels
        if len(images) - n < recipe.batch:
            raise DataError(f"expected at least {n + recipe.batch} training images, found {len(images)}")
        return cls(images[n:], labels[n:], images[:n], labels[:n])


def train(
    recipe: Recipe, mnist: Mnist, run_dir: Path, seed: int = 0, steps: int | None = None, progress: bool = True,
    start: Path | None = None, beside: Path | None = None, corrections: Examples | None = None,
) -> Path:  # fmt: skip
    """Train up to `steps` (the recipe's own if None) and return the path of the checkpoint.

    A recipe that distorts finds or makes the bank, and its teacher, in the directories of these names in `beside`, the
    folder of `run_dir` if None. One that begins with a model finds it in the directory `start`, and one with
    corrections takes them from `corrections`.
    Goes on from the checkpoint in `run_dir` if there is one. Every `recipe.checkpoint_every` steps, and at the end,
    writes it anew and prints the loss of the batch, the learning rate and the accuracy on the held-out images.
    `progress` shows a bar on stderr if that is a terminal. Raises `SettingsError` if `run_dir` holds another run or a
    longer one, `DataError` if its checkpoint is damaged or the data are too few.
    """
    configure_threads(THREADS if recipe.bank else 1)
    tf.config.experimental.enable_op_determinism()
    steps = recipe.steps if steps is None else steps
    split, path = Split.of(mnist, recipe), run_dir / CHECKPOINT
    first = model_weights(start, recipe.start) if recipe.start and start else None
    if recipe.start and not first:
        raise SettingsError(f"the recipe {recipe.name} begins with the model {recipe.start}: tell where it is")
    run = _start(recipe, mnist, path, seed, steps, first, corrections)
    if 0 < run.step < steps:
        tqdm.write(f"the recipe {recipe.name} goes on from step {run.step:,} of {steps:,}", file=sys.stderr)
    with tqdm(total=steps, initial=run.step, unit="step", disable=not progress or None, file=sys.stderr) as bar:
        batches = _batches(run, split, mnist, beside or run_dir.parent, steps, progress, first)
        for step, batch in enumerate(batches, run.step):
            if corrections:
                batch = corrections.join(batch, recipe, seed, step)
            run, loss = _step(run, batch)
            bar.update()
            if first and run.step == recipe.steps:
                run = replace(run, averages=mixed(first[0], run.averages, recipe.share))
            if run.step % recipe.checkpoint_every == 0 or run.step == steps:
                run.save(path)
                tqdm.write(_line(run, loss, split))
    return path


def error_rate(parameters: Parameters, images: Images, labels: Labels) -> float:
    """The share, 0 to 1, of images uint8 [n, 28, 28] whose largest logit is not that of the label."""
    answers = logits(parameters, images)[:, :10].argmax(axis=1)
    return float(np.mean(answers != labels))


def logits(parameters: Parameters, images: Images) -> NDArray[np.float32]:
    """Images uint8 [n, 28, 28] -> what the last layer says, [n, classes]; in parts that memory holds."""
    parameters = tf.nest.map_structure(tf.convert_to_tensor, parameters)
    forward = network.compiled(network.forward)
    parts = [forward(parameters, pixels(images[start : start + 1024])) for start in range(0, len(images), 1024)]
    return np.concatenate(parts)


def model_weights(path: Path, version: str) -> tuple[Parameters, str]:
    """The weights of the model in the directory `path`, and its SHA-256.

    Raises `SettingsError` if it has another version, and `ModelError` if it is damaged.
    """
    model = Mlp.load(path)
    if model.version != version:
        raise SettingsError(f"{path} holds the model {model.version}, expected {version}")
    pairs = tf.saved_model.load(str(path)).parameters
    return [(weights.numpy(), biases.numpy()) for weights, biases in pairs], model.sha256


def mixed(first: Parameters, trained: Parameters, share: float) -> Parameters:
    """Return `share` of the trained weights and the rest of the first ones."""
    if share == 1:
        return trained
    return tf.nest.map_structure(lambda one, other: one + share * (other - one), first, trained)  # type: ignore[no-any-return]


def _start(
    recipe: Recipe, mnist: Mnist, path: Path, seed: int, steps: int, first: tuple[Parameters, str] | None,
    corrections: Examples | None,
) -> Checkpoint:  # fmt: skip
    """The run as its checkpoint has it, or a new one, of the weights `first` if there are any."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = mnist.sha256() | ({recipe.start: first[1]} if recipe.start and first else {})
    data |= {"corrections": corrections.sha256()} if corrections else {}
    if not path.exists():
        parameters = first[0] if first else network.initial(recipe, seed)
        moments = [] if recipe.adamw is None else tf.nest.map_structure(tf.zeros_like, parameters)
        return Checkpoint(recipe, seed, data, 0, parameters, parameters, moments, moments)
    run = Checkpoint.load(path)
    if (run.recipe, run.seed, run.data) != (recipe, seed, data):
        raise SettingsError(f"{path} is of another recipe, seed or data set: choose another run directory or delete it")
    if run.step > steps:
        raise SettingsError(f"{path} is at step {run.step} already, past {steps}: ask for more steps or delete it")
    return run


def _batches(
    run: Checkpoint, split: Split, mnist: Mnist, directory: Path, steps: int, progress: bool,
    first: tuple[Parameters, str] | None,
) -> Iterator[tuple[Any, ...]]:  # fmt: skip
    """Yield the remaining batches of a run of `steps` steps that began with the weights `first`, if there are any."""
    if run.recipe.bank and run.step < steps:
        bank = _bank(run.recipe, split, mnist, directory, progress, first)
        yield from bank.batches(run.recipe, run.seed, run.step, steps)
        return
    for step in range(run.step, steps):
        chosen = batch_indices(step, len(split.images), run.recipe.batch, run.seed)
        yield pixels(split.images[chosen]), split.labels[chosen].astype(np.int32)


def _bank(
    recipe: Recipe, split: Split, mnist: Mnist, directory: Path, progress: bool, first: tuple[Parameters, str] | None
) -> Bank:
    """The bank with the answers of the teacher or of `first`, all made here if they are not in the directory."""
    # Here, because distortions want OpenCV, which the other recipe does without.
    from worker.training.bank import Bank

    assert recipe.bank is not None
    bank = Bank(directory / "bank", recipe.bank, mnist.sha256() | {"validation": str(recipe.validation)})
    with tqdm(unit="chunk", desc="distorting", disable=not progress or None, file=sys.stderr) as bar:
        bank.make(split.images, split.labels, bar.update)
    if recipe.teacher:
        teacher = Checkpoint.load(train(RECIPES[recipe.teacher], mnist, directory / recipe.teacher, progress=progress))
        with tqdm(unit="chunk", desc="teaching", disable=not progress or None, file=sys.stderr) as bar:
            bank.teach(recipe.teacher, lambda images: logits(teacher.averages, images), bar.update)
    if recipe.start and first:
        weights, sha256 = first
        with tqdm(unit="chunk", desc="answering", disable=not progress or None, file=sys.stderr) as bar:
            # Two models may have one version: of other seeds, for example.
            bank.teach(f"{recipe.start}-{sha256[:8]}", lambda images: logits(weights, images), bar.update)
    return bank


def _step(run: Checkpoint, batch: tuple[Any, ...]) -> tuple[Checkpoint, float]:
    """One step further, and the loss of its batch."""
    recipe = run.recipe
    # Rates as arrays: a Python number would be compiled into the function, and the function anew for each.
    rate, ema = np.float32(recipe.learning_rate_at(run.step)), np.float32(recipe.ema_decay_at(run.step))
    if recipe.adamw is None:
        backward = network.compiled(network.backward)
        parameters, averages, loss = backward(run.parameters, run.averages, *batch, rate, ema, recipe.l2)
        return replace(run, step=run.step + 1, parameters=parameters, averages=averages), loss
    rates = rate, ema, np.float32(run.step + 1)
    state = [getattr(run, name) for name in STATE]
    state, loss = network.compiled(network.backward_adamw)(state, batch, rates, recipe)
    return replace(run, step=run.step + 1, **dict(zip(STATE, state, strict=True))), loss


def _line(run: Checkpoint, loss: float, split: Split) -> str:
    accuracy = 100 * (1 - error_rate(run.averages, split.held_out_images, split.held_out_labels))
    rate = run.recipe.learning_rate_at(run.step - 1)
    return f"step {run.step:6}  loss {loss:.4f}  lr {rate:.4f}  validation {accuracy:.2f} %"
