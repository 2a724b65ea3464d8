"""The model as it is served: the artefact in the repository and its loader."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from shared.errors import ModelError
from shared.settings import Settings
from tests.conftest import ROOT, shared_folder
from worker.decoding.decode import decode
from worker.image.model_input import ModelInput
from worker.image.normalise import normalise
from worker.inference.mlp import SHAPES, Mlp, digest, tensorflow
from worker.training.data.download import SHA256
from worker.training.data.idx import Mnist, load_mnist
from worker.training.evaluation.evaluate import evaluate
from worker.training.recipes import RECIPES

SHIPPED = Settings().model_path


@pytest.fixture(scope="module")
def model() -> Mlp:
    return Mlp.load(SHIPPED)


@pytest.fixture(scope="module")
def mnist() -> Mnist:
    return load_mnist(shared_folder("mnist"))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the shipped model, to be damaged."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "model"))


def pictures(n: int) -> np.ndarray:
    return np.random.default_rng(n).random((n, 28, 28), np.float32)


# The artefact


BOTH = pytest.mark.parametrize("folder", [SHIPPED, SHIPPED.with_name("model_seed")], ids=["shipped", "seed"])


@BOTH
def test_a_model_of_ours_says_what_it_is(folder):
    model = Mlp.load(folder)
    card = model.card
    recipe = RECIPES[card["recipe"]["name"]]
    assert (model.version, model.sha256) == (recipe.version, digest(folder))
    assert card["architecture"] == "-".join(map(str, recipe.layers))
    assert card["steps"] == recipe.steps
    assert card["data"].items() >= SHA256.items()
    assert card["data"].keys() - SHA256.keys() == ({recipe.start} if recipe.start else set())
    assert 0 <= card["thresholds"]["reject"] < card["thresholds"]["accept"] < 1


@BOTH
def test_a_model_of_ours_is_its_weights_and_little_else(folder):
    sizes = [int(units) for units in Mlp.load(folder).card["architecture"].split("-")]
    weights = 4 * sum((inputs + 1) * outputs for inputs, outputs in pairwise(sizes))
    assert sum(path.stat().st_size for path in folder.rglob("*")) < weights + 100_000
    assert weights <= 12 * 1024 * 1024


@BOTH
def test_a_model_of_ours_reads_the_test_set_as_its_card_says(folder, mnist):
    model = Mlp.load(folder)
    report = evaluate(model, mnist.test_images, mnist.test_labels)
    assert report.images == 10_000
    assert 1 - report.accuracy == pytest.approx(model.card["test_error"], abs=0.0002)
    assert 1 - report.accuracy <= 0.02
    assert mnist.sha256().items() <= model.card["data"].items()


def test_an_uploaded_test_digit_is_read_as_well_as_its_array(model, mnist):
    images, labels = mnist.test_images[:1000], mnist.test_labels[:1000]
    direct, served = (evaluate(model, images, labels, way) for way in (None, as_served))
    assert served.accuracy >= direct.accuracy - 0.005


def as_served(data: bytes, *, max_pixels: int) -> ModelInput:
    return normalise(decode(data, max_pixels=max_pixels))


def test_most_real_pictures_are_read_right(model):
    photos = shared_folder("photos")
    with (photos / "index.csv").open() as file:
        index = list(csv.DictReader(file))
    pixels = [as_served((photos / row["path"]).read_bytes(), max_pixels=20_000_000).pixels for row in index]
    digits = model.predict(np.stack(pixels)).argmax(axis=1)
    right = sum(int(row["label"]) == digit for row, digit in zip(index, digits.tolist(), strict=True))
    assert right / len(index) >= 0.85


# Prediction


@pytest.mark.parametrize("n", [0, 1, 2, 4, 5, 63, 64, 65, 255, 256, 257, 600])
def test_n_images_in_n_rows_of_probabilities_out(model, n):
    rows = model.predict(pictures(n))
    assert rows.shape == (n, 10)
    assert rows.dtype == np.float32
    assert np.allclose(rows.sum(axis=1), 1, atol=1e-5)


def test_rows_are_in_the_order_of_the_images_whatever_the_batch(model):
    images = pictures(300)
    alone = np.concatenate([model.predict(images[i : i + 1]) for i in range(300)])
    assert np.allclose(model.predict(images), alone, atol=1e-5)
    assert np.allclose(model.predict(images[::-1]), alone[::-1], atol=1e-5)
    assert np.allclose(model.predict(images[7:20]), alone[7:20], atol=1e-5)


def test_a_batch_of_another_shape_is_the_callers_mistake(model):
    with pytest.raises(ValueError, match=r"expected pixels \[n, 28, 28\], found \[2, 784\]"):
        model.predict(np.zeros((2, 784), np.float32))


class Stub:
    """A loaded model that answers with zeros."""

    def __init__(self, rows_short: int = 0, columns: int = 10) -> None:
        tf = tensorflow()

        def answer(pixels):
            return tf.zeros([tf.shape(pixels)[0] - rows_short, columns])

        function = tf.function(answer).get_concrete_function(tf.TensorSpec([None, 28, 28]))
        self.probabilities = SimpleNamespace(concrete_functions=[function])


CARD = {"version": "stub-1", "sha256": "0" * 64}


def test_tensorflow_sees_only_the_few_shapes_of_the_warm_up():
    model, shapes = Mlp(Stub(), CARD), []
    call = model._call
    model._call = lambda pixels: shapes.append(len(pixels)) or call(pixels)
    model.warm_up()
    assert tuple(shapes) == SHAPES
    for n in (2, 5, 17, 65, 256, 300):
        model.predict(pictures(n))
    assert shapes[len(SHAPES) :] == [4, 8, 24, 128, 256, 256, 48]


def test_the_lean_call_gives_what_the_function_gives_to_the_last_bit(model):
    for n in SHAPES:
        [function] = model._model.probabilities.concrete_functions
        assert np.array_equal(model._call(pictures(n)), function(tensorflow().constant(pictures(n))).numpy())


@pytest.mark.parametrize(("columns", "digitness"), [(10, 1), (11, 0)])
def test_an_eleventh_output_is_the_digitness_and_a_model_without_it_sees_digits_everywhere(columns, digitness):
    reading = Mlp(Stub(columns=columns), CARD).read(pictures(3))
    assert reading.probabilities.shape == (3, 10)
    assert reading.digitness.tolist() == [digitness] * 3
    assert reading.digitness.dtype == reading.probabilities.dtype == np.float32


@pytest.mark.parametrize("columns", [1, 9, 12])
def test_a_model_with_another_number_of_outputs_is_not_believed(columns):
    with pytest.raises(ModelError, match=rf"answered \[4, {columns}\] to 4 images"):
        Mlp(Stub(columns=columns), CARD).read(pictures(3))


def test_a_model_that_answers_with_too_few_rows_is_not_believed():
    with pytest.raises(ModelError, match=r"answered \[3, 10\] to 4 images"):
        Mlp(Stub(rows_short=1), CARD).predict(pictures(3))


# Loading


def test_a_model_loads_from_wherever_it_lies(copy, model):
    assert np.array_equal(Mlp.load(copy).predict(pictures(3)), model.predict(pictures(3)))


def test_one_changed_bit_in_the_weights_is_noticed(copy):
    [weights] = copy.glob("variables/*.data*")
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.write_bytes(content)
    with pytest.raises(
        ModelError, match=r"has SHA-256 \w+, but its card\.json says \w+; `digitq promote` .*DIGITQ_MODEL_PATH"
    ):
        Mlp.load(copy)


@pytest.mark.parametrize("change", ["rename", "add", "remove"])
def test_a_file_too_many_too_few_or_renamed_is_noticed(change, copy):
    file = copy / "fingerprint.pb"
    {"rename": lambda: file.rename(copy / "other.pb"), "add": (copy / "new").touch, "remove": file.unlink}[change]()
    with pytest.raises(ModelError, match=r"card\.json says"):
        Mlp.load(copy)


def test_a_missing_or_damaged_card_says_what_to_do(copy):
    card = copy / "card.json"
    for content in ("{", "[]", "null"):
        card.write_text(content)
        with pytest.raises(ModelError, match=r"card\.json cannot be read .*; `digitq promote`"):
            Mlp.load(copy)
    card.write_text(json.dumps(CARD))
    with pytest.raises(ModelError, match="lacks calibration, thresholds; `digitq promote`"):
        Mlp.load(copy)
    with pytest.raises(ModelError, match=r"cannot be read .*nowhere"):
        Mlp.load(copy / "nowhere")


def test_what_tensorflow_cannot_load_is_a_model_error_too(copy):
    (copy / "saved_model.pb").write_bytes(b"not a graph")
    card = json.loads((copy / "card.json").read_text())
    (copy / "card.json").write_text(json.dumps(card | {"sha256": digest(copy)}))
    with pytest.raises(ModelError, match="TensorFlow cannot load the model"):
        Mlp.load(copy)


# Processes of their own: what importing and loading leave behind

IMPORT = "import sys, worker.inference.mlp, worker.training.cli; sys.exit('tensorflow' in sys.modules)"
SERVE = f"""
from itertools import pairwise
from pathlib import Path
from worker.inference.mlp import Mlp
Mlp.load(Path({str(SHIPPED)!r})).warm_up()
from worker.inference.mlp import tensorflow
threading = tensorflow().config.threading
print(threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads())
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)


def test_importing_the_loader_or_the_commands_does_not_import_tensorflow():
    run(IMPORT)


def test_serving_uses_one_thread_and_starts_without_noise():
    process = run(SERVE)
    assert (process.stdout, process.stderr) == ("1 1\n", "")


def test_a_process_that_serves_loads_no_keras() -> None:
    script = (
        "import sys; from shared.settings import SHIPPED_MODEL; from worker.inference.mlp import Mlp\n"
        "Mlp.load(SHIPPED_MODEL)\n"
        "print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
