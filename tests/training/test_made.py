"""The sources that `benchmarks.learning` draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import made
from tests.tiny import stripes


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(made, "PICTURES", 6)
    return made.make(tmp_path / "a", stripes())


def test_made_sources_are_always_the_same_and_named_so(album: Path, tmp_path: Path) -> None:
    head, *rows = (album / "index.csv").read_text().splitlines()
    assert head == "path,label,category,source"
    assert rows[1] == 'display/1.png,1,made,"made, seven-segment display"'
    assert [row.split(",")[1] for row in rows[6:]] == list("012045")
    again = made.make(tmp_path / "b", stripes())
    for row in rows:
        path = row.split(",")[0]
        assert (album / path).read_bytes() == (again / path).read_bytes()


def test_an_eight_lights_every_segment_and_a_zero_is_slashed(monkeypatch: pytest.MonkeyPatch) -> None:
    mnist, rng = stripes(), np.random.default_rng
    lit = [made.display(digit, mnist, rng(0)) for digit in range(10)]
    assert all((lit[8] >= ink).all() for ink in lit)
    assert len({ink.tobytes() for ink in lit}) == 10
    slashed = made.writer(0, mnist, rng(0))
    monkeypatch.setattr(made.cv2, "line", lambda *_: None)
    assert (slashed >= made.writer(0, mnist, rng(0))).all()
    assert (slashed > made.writer(0, mnist, rng(0))).sum() > 500
