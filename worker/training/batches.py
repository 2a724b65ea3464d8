"""Chooses the images of each batch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def batch_indices(step: int, n: int, batch: int, seed: int) -> NDArray[np.int64]:
    """Return which of n images are in the batch of step 0, 1, 2, …: always the same, so that a run can be resumed.

    Each pass over the data is a new permutation; the images left over for a last batch are skipped in that pass.
    """
    epoch, position = divmod(step, n // batch)
    return _permutation(n, seed, epoch)[position * batch : (position + 1) * batch]


@lru_cache(maxsize=1)
def _permutation(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(n)
