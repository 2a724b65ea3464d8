"""Image bytes -> outcome, under atheris: nothing but an outcome or a named error, in time, in memory.

    python -m tests.fuzz.outcome CORPUS [libFuzzer's options]

An empty corpus is filled with `tests/hostile/seeds.py`. What crashes, hangs or takes too much is left as a file.
"""

from __future__ import annotations

import random
import re
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["PIL", "worker", "shared"]):
    import numpy as np
    from PIL import (  # noqa: F401  # noqa: F401
        AvifImagePlugin,
        BmpImagePlugin,
        GifImagePlugin,
        JpegImagePlugin,
        MpoImagePlugin,
        PngImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    from shared.errors import DigitqError
    from shared.prediction import Outcome
    from worker.decoding.decode import decode
    from worker.decoding.fast_png import decode_plain_pngs
    from worker.inference.classify import Classifier
    from worker.inference.mlp import Reading

from tests.hostile.mutations import mended, mutated
from tests.hostile.seeds import seeds

SEEDS = list(seeds().values())
#: As many as leave hundreds of inputs a second; what 50 million cost is measured in tests/hostile.
MAX_PIXELS = 2_000_000
MAX_SECONDS = 2


class Watchful:
    """A model that accepts what a model may be given, and nothing else."""

    card: dict[str, Any] = {}  # noqa: RUF012
    version = "watchful"

    def predict(self, pixels: Any) -> Any:
        raise NotImplementedError

    def read(self, pixels: Any) -> Reading:
        """Float32 [n, 28, 28], each a number from 0 to 1."""
        assert pixels.dtype == np.float32 and pixels.shape[1:] == (28, 28), (pixels.dtype, pixels.shape)
        assert np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1
        probabilities = np.full((len(pixels), 10), 0.1, np.float32)
        return Reading(probabilities, np.ones(len(pixels), np.float32))


classify = Classifier(Watchful(), MAX_PIXELS)
slowest = 0.05


def check(data: bytes) -> None:
    """One picture: read, or refused by name for a reason that lies in its bytes. Tells of the slowest so far."""
    global slowest
    start = time.process_time()  # the process may be paused for a while
    [result] = classify([data]).results
    if (took := time.process_time() - start) > slowest:
        slowest = took
        Path(f"slowest-{took * 1000:.0f}ms").write_bytes(data)
    assert took < MAX_SECONDS
    for grey in decode_plain_pngs([data])[1]:  # the short way says what the long one says
        assert np.array_equal(grey, decode(data, max_pixels=MAX_PIXELS))
    if isinstance(result, Outcome):
        return
    if not isinstance(result, DigitqError):
        raise result
    if cause := result.__context__:  # what the decoder has hidden behind "damaged"
        frames = traceback.extract_tb(cause.__traceback__)
        if not re.search("/(PIL|pillow_heif)/", "".join(frame.filename for frame in frames)):
            raise cause


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Mutate by our own rules, which know the fragile parts of files, or by libFuzzer's, which trace comparisons."""
    dice = random.Random(seed)
    data = mutated(data, dice, SEEDS) if dice.random() < 0.4 else mended(atheris.Mutate(data, len(data) or 1))
    return data[:max_size]


def main() -> None:
    """Fuzzes until told to stop."""
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    if not any(corpus.iterdir()):
        for name, data in seeds().items():
            (corpus / name).write_bytes(data)
    atheris.Setup([sys.argv[0], *sys.argv[1:]], check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
