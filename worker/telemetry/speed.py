"""Estimates a worker's throughput with full batches from the batches that it has run."""

from __future__ import annotations

#: Factor by which a batch's weight shrinks with each later one: the last fifty matter most.
DECAY = 0.98


class Speed:
    """Fits the time of a batch as a + b · pictures, by least squares with decaying weights.

    Small batches alone do not show how long full ones take. Where all have had about the same size, the estimate is
    their own rate, which is too low rather than too high.
    """

    def __init__(self) -> None:
        self._weight = self._n = self._t = self._nn = self._nt = 0.0

    def add(self, pictures: int, seconds: float) -> None:
        """Add a batch: its number of pictures, and the time from its claim to its end."""
        n, t = float(pictures), seconds
        sums = ((self._weight, 1.0), (self._n, n), (self._t, t), (self._nn, n * n), (self._nt, n * t))
        self._weight, self._n, self._t, self._nn, self._nt = (DECAY * old + new for old, new in sums)

    def at(self, pictures: int) -> float | None:
        """Return pictures per second with batches of this size; None before the first batch."""
        if not self._weight or not self._t:
            return None
        n, t = self._n / self._weight, self._t / self._weight
        spread = self._nn / self._weight - n * n
        slope = (self._nt / self._weight - n * t) / spread if spread > 0.01 * n * n else t / n
        slope = min(max(slope, 0.0), t / n)  # neither term of the fit may be negative
        return pictures / (t + slope * (pictures - n))
