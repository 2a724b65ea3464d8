"""The training run. Killed at any moment and started again, it ends in bit-identical weights."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm  # type: ignore[import-untyped]  # ships no stubs

from shared.errors import DataError, SettingsError
from worker.mlp import configure_threads
from worker.training import network
from worker.training.checkpoint import Checkpoint
from worker.training.idx import Images, Labels, Mnist, pixels
from worker.training.network import Parameters, tf
from worker.training.recipes import Recipe

CHECKPOINT = "checkpoint.npz"

_backward = tf.function(network.backward)


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
    recipe: Recipe, mnist: Mnist, run_dir: Path, seed: int = 0, steps: int | None = None, progress: bool = True
) -> Path:
    """Train up to `steps` (the recipe's own if None) and return the path of the checkpoint.

    Goes on from the checkpoint in `run_dir` if there is one. Every `recipe.checkpoint_every` steps, and at the end,
    writes it anew and prints the loss of the batch, the learning rate and the accuracy on the held-out images.
    `progress` shows a bar on stderr. Raises `SettingsError` if `run_dir` holds another run or a longer one, `DataError`
    if its checkpoint is damaged or the data are too few.
    """
    configure_threads()
    tf.config.experimental.enable_op_determinism()
    steps = recipe.steps if steps is None else steps
    split, path = Split.of(mnist, recipe), run_dir / CHECKPOINT
    run = _start(recipe, mnist, path, seed, steps)
    with tqdm(total=steps, initial=run.step, unit="step", disable=not progress, file=sys.stderr) as bar:
        while run.step < steps:
            run, loss = _step(run, split)
            bar.update()
            if run.step % recipe.checkpoint_every == 0 or run.step == steps:
                run.save(path)
                tqdm.write(_line(run, loss, split))
    return path


def error_rate(parameters: Parameters, images: Images, labels: Labels) -> float:
    """The share, 0 to 1, of images uint8 [n, 28, 28] whose largest logit is not that of the label."""
    logits = network.forward(parameters, pixels(images)).numpy()
    return float(np.mean(logits.argmax(axis=1) != labels))


def batch_indices(step: int, n: int, batch: int, seed: int) -> NDArray[np.int64]:
    """Which of n images make up the batch of step 0, 1, 2, …: a pure function, so that a resumed run sees the same.

    Each pass over the data is a new permutation; the images that do not fill a last batch are left out of that pass.
    """
    epoch, position = divmod(step, n // batch)
    return _permutation(n, seed, epoch)[position * batch : (position + 1) * batch]


@lru_cache(maxsize=1)
def _permutation(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(n)


def _start(recipe: Recipe, mnist: Mnist, path: Path, seed: int, steps: int) -> Checkpoint:
    """The run as its checkpoint has it, or a new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        parameters = network.initial(recipe.layers, seed)
        return Checkpoint(recipe, seed, mnist.sha256(), 0, parameters, parameters)
    run = Checkpoint.load(path)
    if (run.recipe, run.seed, run.data) != (recipe, seed, mnist.sha256()):
        raise SettingsError(f"{path} is of another recipe, seed or data set: choose another run directory or delete it")
    if run.step > steps:
        raise SettingsError(f"{path} is at step {run.step} already, past {steps}: ask for more steps or delete it")
    return run


def _step(run: Checkpoint, split: Split) -> tuple[Checkpoint, float]:
    """One step further, and the loss of its batch."""
    recipe = run.recipe
    chosen = batch_indices(run.step, len(split.images), recipe.batch, run.seed)
    # Rates as arrays: a Python number would be compiled into the function, and the function anew for each.
    rate, ema = np.float32(recipe.learning_rate_at(run.step)), np.float32(recipe.ema_decay_at(run.step))
    batch, labels = pixels(split.images[chosen]), split.labels[chosen].astype(np.int32)
    parameters, averages, loss = _backward(run.parameters, run.averages, batch, labels, rate, ema, recipe.l2)
    return replace(run, step=run.step + 1, parameters=parameters, averages=averages), loss


def _line(run: Checkpoint, loss: float, split: Split) -> str:
    accuracy = 100 * (1 - error_rate(run.averages, split.held_out_images, split.held_out_labels))
    rate = run.recipe.learning_rate_at(run.step - 1)
    return f"step {run.step:6}  loss {loss:.4f}  lr {rate:.4f}  validation {accuracy:.2f} %"
