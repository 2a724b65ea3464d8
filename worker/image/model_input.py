"""The input of the model for one picture, and the warnings of the preprocessing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from worker.image.arrays import Floats32
from worker.image.mnist_format import SIDE

#: The names in `ModelInput.warnings`.
WARNINGS = (
    "no_ink",  # nothing stands out from the background; the pixels are all 0, and no other warning is given
    "inverted",  # the ink was darker than its background
    "low_contrast",  # pencil, pale ink: ink hardly darker than paper, or soft edges in uneven light
    "touches_border",  # the digit may be cut
    "several_digits",  # two or more, wherever they stand; the pixels show them, or the largest
    "too_thin",  # a hairline, thickened to be seen
    "lines_removed",  # ruling or squares
    "noisy",  # salt and pepper or a grainy sensor, smoothed
    "too_small",  # fewer pixels than the model's box has, or a small part of a large picture that shows more than that
    "uneven_light",  # shadows: paper and ink were told apart from place to place
    "several_frames",  # an animation, or a file of several pages: one of them was read
    "signs_left_out",  # on a page: a point, dash or other sign between or beside digits, which is no part of the text
)


class ModelInput(NamedTuple):
    """The input of the model for one picture, and what the preprocessing noticed."""

    #: float32 [28, 28] in [0, 1], ink bright on 0.
    pixels: Floats32
    #: Of `WARNINGS`.
    warnings: tuple[str, ...]
    #: Whether the picture was like MNIST's already and passed unchanged.
    mnist_like: bool = False
    #: Whether it is one thing clearly apart from its background: no gap splits it half way, and in uneven light its
    #: contrast is higher than that of clouds and leaves.
    clear: bool = True
    #: If the ink ends at a side of the picture: the free room on the opposite side, in sizes of the digit; else 0.
    #: People crop a digit tightly on both sides; with much room left on one side, it is a part of something.
    cut: float = 0.0

    def with_warning(self, warning: str) -> ModelInput:
        """Return a copy with one more of `WARNINGS`; a blank input stays as it is."""
        names = {*self.warnings, warning} if "no_ink" not in self.warnings else self.warnings
        return self._replace(warnings=tuple(name for name in WARNINGS if name in names))


def blank() -> ModelInput:
    """Return the input for a picture without ink."""
    return ModelInput(np.zeros((SIDE, SIDE), np.float32), ("no_ink",))
