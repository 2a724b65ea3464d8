"""A training run on disk, in one file that is either whole or absent."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataError
from worker.training.network import Parameters
from worker.training.recipes import Recipe

KINDS = ("weights", "biases")
#: The arrays of a run, in the order in which `network.backward_adamw` has them.
STATE = ("parameters", "averages", "first", "second")


@dataclass(frozen=True)
class Checkpoint:
    """A run after `step` steps: all that the next step depends on."""

    recipe: Recipe
    seed: int
    #: File name -> SHA-256 of the data, see `Mnist.sha256`.
    data: dict[str, str]
    step: int
    parameters: Parameters
    #: Moving averages of the parameters: what is evaluated, exported and served.
    averages: Parameters
    #: First and second moments of the gradients; empty lists in a run that keeps none.
    first: Parameters = field(default_factory=list)
    second: Parameters = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write the file in one go: whoever is killed on the way leaves the last checkpoint as it was."""
        about = {"recipe": asdict(self.recipe), "seed": self.seed, "data": self.data, "step": self.step}
        arrays = {key: array for name in STATE for key, array in _named(name, getattr(self, name)).items()}
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            np.savez(file, allow_pickle=False, about=np.array(json.dumps(about)), **arrays)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Raises `DataError` if the file is missing or no checkpoint."""
        try:
            with path.open("rb") as file, np.load(file) as arrays:
                about = json.loads(str(arrays["about"]))
                about["recipe"] = Recipe.from_json(about["recipe"])
                return cls(**about | {name: _pairs(name, arrays) for name in STATE})
        except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} is not a checkpoint ({error}): delete it to train anew") from error


def _named(name: str, parameters: Parameters) -> dict[str, NDArray[np.float32]]:
    return {
        f"{name}/{layer}/{kind}": np.asarray(array)
        for layer, pair in enumerate(parameters)
        for kind, array in zip(KINDS, pair, strict=True)
    }


def _pairs(name: str, arrays: Mapping[str, NDArray[np.float32]]) -> Parameters:
    layers = sum(key.startswith(f"{name}/") for key in arrays) // len(KINDS)
    return [(arrays[f"{name}/{layer}/weights"], arrays[f"{name}/{layer}/biases"]) for layer in range(layers)]
