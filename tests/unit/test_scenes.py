"""What the preprocessing makes of pictures drawn by chance: each of its constants has one that needs it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.scenes import KINDS, RECORD, described
from worker.image.normalise import normalise, normalise_uneven

#: Largest difference of a mean of four pixels, in 255ths: other processors round otherwise, other constants move ink.
TOLERANCE = 12
#: To be recorded only with another PREPROCESSING_VERSION: a model is trained on what this one gives.
AGAIN = "if that is meant, give the preprocessing another name and run `python -m tests.scenes`"


def assert_as_recorded(found: dict[str, Any], expected: dict[str, Any]) -> None:
    one, other = (np.frombuffer(bytes.fromhex(row.pop("pixels")), np.uint8).astype(int) for row in (found, expected))
    assert found == expected, AGAIN
    assert np.abs(one - other).max() <= TOLERANCE, AGAIN


@pytest.mark.parametrize(
    ("kind", "number", "even", "uneven"),
    [pytest.param(*row, id=f"{row[0]}-{row[1]}") for row in json.loads(RECORD.read_text())],
)
def test_a_picture_gives_what_was_recorded(
    kind: str, number: int, even: dict[str, Any], uneven: dict[str, Any]
) -> None:
    grey = KINDS[kind](number)
    assert_as_recorded(described(normalise(grey)), even)
    assert_as_recorded(described(normalise_uneven(grey)), uneven)
