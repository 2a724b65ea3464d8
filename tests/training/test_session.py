"""A model served through TensorFlow's C API: the same bits as through its package, without importing that."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shared import ROOT
from shared.errors import ModelError
from shared.settings import SHIPPED_MODEL
from worker.inference import session
from worker.inference.mlp import SHAPES, Mlp, digest

SHIPPED = SHIPPED_MODEL


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the shipped model, to be damaged."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "model"))


def pictures(n: int) -> np.ndarray:
    return np.random.default_rng(n).random((n, 28, 28), np.float32)


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)


ALONE = pytest.mark.skipif(session.library() is None, reason="TensorFlow's libraries cannot be used alone here")


@ALONE
@pytest.mark.parametrize("folder", [SHIPPED, SHIPPED.with_name("model_seed")], ids=["shipped", "seed"])
def test_a_model_that_serves_gives_the_same_bits_as_one_that_is_evaluated(folder):
    serves, loaded = Mlp.to_serve(folder, "auto"), Mlp.load(folder)
    assert (serves.device, serves.card) == ("cpu", loaded.card)
    for n in (*SHAPES, 5, 300):
        for one, other in zip(serves.read(pictures(n)), loaded.read(pictures(n)), strict=True):
            assert np.array_equal(one, other)


@ALONE
def test_results_of_a_model_that_serves_are_not_overwritten_by_later_ones():
    model = Mlp.to_serve(SHIPPED, "cpu")
    first = model.predict(pictures(4))
    kept = first.copy()
    model.predict(pictures(3))
    assert np.array_equal(first, kept)


@ALONE
def test_a_worker_runs_its_model_in_its_own_thread_without_the_package_and_without_noise():
    process = run(f"""
import sys, time
from pathlib import Path
import numpy as np
from worker.inference.mlp import Mlp
model = Mlp.to_serve(Path({str(SHIPPED)!r}), "auto")
model.warm_up()
all, mine = time.process_time(), time.thread_time()
for _ in range(50):
    model.predict(np.zeros((64, 28, 28), np.float32))
print((time.thread_time() - mine) / (time.process_time() - all) > 0.95, "tensorflow" in sys.modules)
""")
    assert (process.stdout, process.stderr) == ("True False\n", "")


@ALONE
@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x12\x05abc", bytes(50)])
def test_a_damaged_graph_is_no_reason_to_crash(copy, content):
    (copy / "saved_model.pb").write_bytes(content)
    card = json.loads((copy / "card.json").read_text())
    (copy / "card.json").write_text(json.dumps(card | {"sha256": digest(copy)}))
    with pytest.raises(ModelError, match="TensorFlow cannot load the model"):
        Mlp.to_serve(copy, "auto")


def test_where_the_libraries_cannot_be_used_alone_the_package_serves(monkeypatch):
    monkeypatch.setattr(session, "library", lambda: None)
    assert np.array_equal(Mlp.to_serve(SHIPPED, "auto").predict(pictures(3)), Mlp.load(SHIPPED).predict(pictures(3)))


def test_a_missing_package_or_one_for_gpus_has_no_libraries_to_use_alone(monkeypatch):
    session.library.cache_clear()
    monkeypatch.setattr(session, "_is_cpu_only", lambda: False)
    assert session.library() is None
    session.library.cache_clear()
    monkeypatch.setattr(session, "find_spec", lambda name: None)
    assert session.library() is None
    session.library.cache_clear()


def test_a_signature_names_input_and_output_and_one_that_is_cut_off_is_a_value_error():
    graph = (SHIPPED / "saved_model.pb").read_bytes()
    assert session.signature(graph) == ("serving_default_pixels:0", "StatefulPartitionedCall:0")
    for end in range(0, len(graph), 997):
        with contextlib.suppress(ValueError):
            session.signature(graph[:end])
