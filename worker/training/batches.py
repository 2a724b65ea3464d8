"""Which images make up a batch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def batch_indices(step: int, n: int, batch: int, seed: int) -> NDArray[np.int64]:
    """Which of n images make up the batch of step 0, 1, 2, …: a pure function, so that a resumed run sees the same.

    Each pass over the data is a new permutation; the images that do not fill a last batch are left out of that pass.
    """
    epoch, position = divmod(step, n // batch)
    return _permutation(n, seed, epoch)[position * batch : (position + 1) * batch]


@lru_cache(maxsize=1)
def _permutation(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(n)
