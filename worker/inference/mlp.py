"""Runs the trained model: pixels in, probabilities out, a batch at a time.

TensorFlow is imported on first use, so importing this module is cheap. A worker on a CPU does without the import:
see session.py.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.errors import ModelError
from worker.inference import session
from worker.inference.session import Session

CARD = "card.json"
SIDE = 28
CLASSES = 10
#: Batches are padded to one of these sizes, so that TensorFlow sees no new shape after the warm-up; larger ones are
#: split.
SHAPES = (1, 4, 8, 16, 24, 32, 48, 64, 128, 256)


class Reading(NamedTuple):
    """The output of a model for n images."""

    #: float32 [n, 10]: the probability of each digit, given that the picture shows one; rows sum to 1.
    probabilities: NDArray[np.float32]
    #: float32 [n]: the probability that the picture shows a digit at all; 1 from a model without it.
    digitness: NDArray[np.float32]

    @property
    def chances(self) -> NDArray[np.float64]:
        """The probability [n] that each picture shows the likeliest digit."""
        found: NDArray[np.float64] = (self.probabilities.max(axis=1) * self.digitness).astype(np.float64)
        return found


def _quiet() -> None:
    """Have TensorFlow load without its messages; set either variable to see them."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # oneDNN logs despite that level, and is no faster for single small pictures; see `use_onednn`.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


@cache
def tensorflow() -> Any:
    """Import TensorFlow."""
    _quiet()
    # Keras is not used. With this, TensorFlow imports an older Keras, and only when asked for it, instead of the one
    # installed: 35 MB and half a second less.
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    import tensorflow

    return tensorflow


def use_onednn() -> None:
    """Make TensorFlow use oneDNN, which is a quarter faster with batches of 512. Call it before the import."""
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def configure_threads(within: int = 1) -> None:
    """Use `within` threads in an operation and one between operations: results do not depend on the number of cores.

    Only the first call in a process has an effect. Raises RuntimeError if TensorFlow has run anything before.
    """
    threading = tensorflow().config.threading
    if not threading.get_inter_op_parallelism_threads():
        threading.set_intra_op_parallelism_threads(within)
        threading.set_inter_op_parallelism_threads(1)


def configure_device(device: str) -> None:
    """Choose where models run, before one is loaded: `cpu` hides the GPUs, `gpu` requires one, `auto` uses one if any.

    A GPU's memory is allocated as needed, so that workers can share it. Raises `ModelError` if `gpu` finds none.
    """
    config = tensorflow().config
    gpus = config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        raise ModelError("DIGITQ_DEVICE=gpu, and TensorFlow sees no GPU here")
    if device == "cpu":
        config.set_visible_devices([], "GPU")
        return
    for gpu in gpus:
        config.experimental.set_memory_growth(gpu, True)


def device_in_use() -> str:
    """Return `gpu` if TensorFlow runs models on one, else `cpu`."""
    return "gpu" if tensorflow().config.get_visible_devices("GPU") else "cpu"


class Mlp:
    """A trained multilayer perceptron with its card."""

    def __init__(self, model: Any, card: dict[str, Any]) -> None:
        """Wrap a loaded SavedModel or a Session; see `load` and `to_serve`.

        Its `probabilities` maps float32 [n, 28, 28] to [n, 11]: ten digits, and the digitness; or to [n, 10] without.
        """
        self._model = model  # its functions alone do not keep its variables alive
        self._call: Callable[[NDArray[np.float32]], NDArray[np.float32]] = (
            model if isinstance(model, Session) else _lean_call(model)
        )
        #: The content of `card.json`: data, recipe, errors, calibration, thresholds.
        self.card = card
        #: Such as "seed-1".
        self.version: str = card["version"]
        #: Of the model's files; see `digest`.
        self.sha256: str = card["sha256"]

    @classmethod
    def load(cls, path: Path) -> Mlp:
        """Load the model in the directory `path`, and check its files against its card.

        Raises `ModelError` if the card or the model is missing or damaged, or they do not belong together.
        """
        card = checked_card(path)
        if not tensorflow().config.threading.get_intra_op_parallelism_threads():  # a training run sets its own
            configure_threads()
        try:
            return cls(tensorflow().saved_model.load(str(path)), card)
        except Exception as error:  # TensorFlow raises nearly anything for a model that its version cannot read
            raise ModelError(f"{path}: TensorFlow cannot load the model ({error}); {_ADVICE}") from error

    @classmethod
    def to_serve(cls, path: Path, device: str) -> Mlp:
        """Load the model as `load` does, for a device of `configure_device`; without Python's TensorFlow if possible.

        The results are the same to the last bit. Raises as `load` and `configure_device`.
        """
        card = checked_card(path)
        _quiet()
        try:
            alone = session.load(path) if device != "gpu" else None
        except (session.SessionError, OSError, ValueError) as error:
            raise ModelError(f"{path}: TensorFlow cannot load the model ({error}); {_ADVICE}") from error
        if alone:
            return cls(alone, card)
        configure_device(device)
        return cls.load(path)

    @property
    def device(self) -> str:
        """Return `gpu` if the model runs on one, else `cpu`."""
        return "cpu" if isinstance(self._model, Session) else device_in_use()

    @property
    def outputs(self) -> int:
        """Run the model once, and return its number of outputs: 11, or 10 if it takes everything for a digit."""
        return int(self._call(np.zeros((SHAPES[0], SIDE, SIDE), np.float32)).shape[1])

    def predict(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities of the digits, float32 [n, 10]; see `read`."""
        return self.read(pixels).probabilities

    def read(self, pixels: NDArray[np.float32]) -> Reading:
        """Run the model on images float32 [n, 28, 28] in [0, 1]; n may be 0. Results keep their order.

        Raises ValueError for another shape, and `ModelError` unless the model returns one row for each image.
        """
        if pixels.shape[1:] != (SIDE, SIDE):
            raise ValueError(f"expected pixels [n, {SIDE}, {SIDE}], found {list(pixels.shape)}")
        largest = SHAPES[-1]
        chunks = [pixels[start : start + largest] for start in range(0, len(pixels), largest)]
        rows = np.concatenate([np.empty((0, CLASSES + 1), np.float32), *map(self._read, chunks)])
        return Reading(rows[:, :CLASSES], rows[:, CLASSES])

    def warm_up(self) -> None:
        """Run every batch size once: the first call of each is slow."""
        for shape in SHAPES:
            self.predict(np.zeros((shape, SIDE, SIDE), np.float32))

    def _read(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the model on a batch of at most the largest size, padded with blank images; returns float32 [n, 11]."""
        n = len(pixels)
        shape = next(shape for shape in SHAPES if shape >= n)
        padded = np.zeros((shape, SIDE, SIDE), np.float32)
        padded[:n] = pixels
        rows = self._call(padded)
        if rows.shape not in ((shape, CLASSES), (shape, CLASSES + 1)):
            raise ModelError(f"the model answered {list(rows.shape)} to {shape} images; {_ADVICE}")
        if rows.shape[1] == CLASSES:  # a model without digitness takes everything for a digit
            rows = np.concatenate([rows, np.ones((shape, 1), np.float32)], axis=1)  # np.pad takes ten times as long
        return rows[:n]


def _lean_call(model: Any) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return a call of a SavedModel's function `probabilities`, as the op that TensorFlow makes of it.

    With one image that takes half the CPU of calling the function itself, which binds arguments, converts them, and
    hands the work to another thread. (Calling `signatures[...]` takes milliseconds.)
    """
    [function] = model.probabilities.concrete_functions
    call, captured = tensorflow().raw_ops.StatefulPartitionedCall, function.captured_inputs
    types = [output.dtype for output in function.outputs]

    def run(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        [rows] = call(args=[pixels, *captured], Tout=types, f=function)
        found: NDArray[np.float32] = rows.numpy()
        return found

    return run


def digest(path: Path) -> str:
    """Return the SHA-256, in hex, over all files of the model in `path` except its card.

    Hashes for each file, sorted by relative name: the name, a zero byte, and the SHA-256 of the content (32 bytes).
    """
    files = {f.relative_to(path).as_posix(): f for f in path.rglob("*") if f.is_file() and f != path / CARD}
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(name.encode() + b"\0" + hashlib.sha256(files[name].read_bytes()).digest())
    return total.hexdigest()


_ADVICE = "`digitq promote` puts another model there (--previous the one before), DIGITQ_MODEL_PATH names another place"


def checked_card(path: Path) -> dict[str, Any]:
    """Return the card of a model, whose files are those that it names. Raises ModelError."""
    card, found = _read_card(path), digest(path)
    if found != card["sha256"]:
        raise ModelError(f"{path} has SHA-256 {found}, but its {CARD} says {card['sha256']}; {_ADVICE}")
    return card


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads((path / CARD).read_bytes())
        missing = {"version", "sha256", "calibration", "thresholds"} - card.keys()
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{path / CARD} cannot be read ({error}); {_ADVICE}") from error
    if missing:
        raise ModelError(f"{path / CARD} lacks {', '.join(sorted(missing))}; {_ADVICE}")
    return dict(card)
