"""How fast a worker is when its batches are full, learned from whatever batches it has had."""

from __future__ import annotations

#: What a batch counts after the next one: the last fifty say most.
FADING = 0.98


class Speed:
    """The time of a batch as a + b · pictures, by least squares with fading weights.

    Small batches alone do not tell what full ones would take; where all had about one size, the estimate keeps to what
    was seen, which errs on the slow side.
    """

    def __init__(self) -> None:
        self._weight = self._n = self._t = self._nn = self._nt = 0.0

    def add(self, pictures: int, seconds: float) -> None:
        """A batch of so many, from its claim to its end."""
        n, t = float(pictures), seconds
        sums = ((self._weight, 1.0), (self._n, n), (self._t, t), (self._nn, n * n), (self._nt, n * t))
        self._weight, self._n, self._t, self._nn, self._nt = (FADING * old + new for old, new in sums)

    def at(self, pictures: int) -> float | None:
        """Pictures per second in batches of so many; None before the first."""
        if not self._weight or not self._t:
            return None
        n, t = self._n / self._weight, self._t / self._weight
        spread = self._nn / self._weight - n * n
        slope = (self._nt / self._weight - n * t) / spread if spread > 0.01 * n * n else t / n
        slope = min(max(slope, 0.0), t / n)  # more pictures never take less time, nor a batch less than nothing
        return pictures / (t + slope * (pictures - n))
