"""The gate in front of the model in service. The models read one digit in everything: who is better is known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from digitq.cli import main
from shared.errors import ModelError
from shared.settings import Settings
from tests.pictures import seven
from tests.tiny import LINEAR, always, stripes
from worker.inference.classify import Classifier
from worker.inference.mlp import CARD, Mlp, configure_threads
from worker.training.artefact.export import export
from worker.training.artefact.place import previous
from worker.training.artefact.promotion import Measure, NotBetter, compare, promote, table
from worker.training.data.idx import FILES, Mnist, encode
from worker.training.data.pictures import Picture, from_arrays
from worker.training.recipes import RECIPES
from worker.training.train import CHECKPOINT


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    configure_threads()


@pytest.fixture(scope="module")
def mnist() -> Mnist:
    """Of the twenty held-out digits the first twelve are sevens and the others ones."""
    data = stripes()
    data.train_labels[:20] = [7] * 12 + [1] * 8
    return data


@pytest.fixture(scope="module")
def models(mnist: Mnist, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Digit -> a model that reads it everywhere."""
    folder = tmp_path_factory.mktemp("models")
    made = {digit: always(digit, mnist) for digit in (1, 7)}
    return {digit: export(run, mnist, folder / str(digit), preprocessing="mnist-1") for digit, run in made.items()}


@pytest.fixture
def trials(mnist: Mnist) -> dict[str, list[Picture]]:
    return {"held-out digits": from_arrays(mnist.train_images[:20], mnist.train_labels[:20], "MNIST")}


def digit_in(place: Path) -> int:
    return int(Mlp.load(place).predict(np.zeros((1, 28, 28), np.float32)).argmax())


def test_a_better_model_and_one_as_good_take_the_place(models, trials, tmp_path):
    place, said = Path(shutil.copytree(models[1], tmp_path / "model")), []
    assert promote(models[7], place, trials, Settings(), said.append) == place
    assert digit_in(place) == 7
    promote(models[7], place, trials, Settings(), said.append)
    assert [line.split()[-6:] for line in said[0].splitlines()[1:]] == [["12", "(60.00", "%)", "8", "(40.00", "%)"]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.previous"]
    assert digit_in(previous(place)) == 1
    assert models[7].exists()


def test_a_worse_model_does_not_and_the_place_stays_as_it_was(models, trials, tmp_path):
    place = Path(shutil.copytree(models[7], tmp_path / "model"))
    with pytest.raises(NotBetter, match=r"holds seed-1, which reads better: held-out digits.*--force"):
        promote(models[1], place, trials, Settings(), lambda _: None)
    assert digit_in(place) == 7
    assert Mlp.load(place).sha256 == Mlp.load(models[7]).sha256


def test_a_model_that_is_worse_on_one_of_the_trials_does_not(models, trials, mnist, tmp_path):
    place = Path(shutil.copytree(models[1], tmp_path / "model"))
    photos = from_arrays(mnist.train_images[12:15], mnist.train_labels[12:15], "photo")  # ones
    with pytest.raises(NotBetter, match="reads better: pictures"):
        promote(models[7], place, {**trials, "pictures": photos}, Settings(), lambda _: None)


def test_force_replaces_a_better_model_and_says_so(models, trials, tmp_path):
    place, said = Path(shutil.copytree(models[7], tmp_path / "model")), []
    promote(models[1], place, trials, Settings(), said.append, force=True)
    assert digit_in(place) == 1
    assert said[-1] == "replaced although it reads better: held-out digits"


def test_a_free_place_is_taken_without_a_comparison(models, trials, tmp_path):
    said: list[str] = []
    promote(models[1], tmp_path / "new" / "model", trials, Settings(), said.append)
    assert (digit_in(tmp_path / "new" / "model"), said) == (1, [])


def test_a_damaged_model_is_no_better_and_anything_else_is_left_alone(models, trials, tmp_path):
    place, said = Path(shutil.copytree(models[7], tmp_path / "model")), []
    (place / CARD).write_text("{")
    promote(models[1], place, trials, Settings(), said.append)
    assert (digit_in(place), "cannot be loaded and is replaced" in said[0]) == (1, True)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "draft.txt").write_text("years of work")
    with pytest.raises(ModelError, match="holds no model"):
        promote(models[1], tmp_path / "thesis", trials, Settings(), said.append, force=True)
    assert (tmp_path / "thesis" / "draft.txt").exists()


def test_pictures_that_take_so_long_that_they_close_their_batch_are_read_too(models, trials, monkeypatch):
    monkeypatch.setattr("worker.inference.classify.BUDGET_SECONDS", -1)
    one, seven = (Classifier(Mlp.load(models[digit]), 784) for digit in (1, 7))
    assert compare(one, seven, trials) == [Measure("held-out digits", 20, 12, 8)]


def test_the_table_has_a_row_for_each_trial():
    text = table([Measure("held-out digits", 5000, 27, 25), Measure("pictures", 0, 0, 0)], "best-1", "best-2")
    heads, digits, none = text.splitlines()
    assert heads.split() == ["read", "wrongly", "of", "in", "place:", "best-1", "candidate:", "best-2"]
    assert digits.split()[2:] == ["5000", "27", "(0.54", "%)", "25", "(0.50", "%)"]
    assert none.split()[1:] == ["0", "0", "(0.00", "%)", "0", "(0.00", "%)"]


# The command


@pytest.fixture
def trained(mnist: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs `digitq train` where the run has ended already, in a model that reads the given digit everywhere."""
    monkeypatch.setitem(RECIPES, "seed", LINEAR)
    monkeypatch.setenv("DIGITQ_MODEL_PATH", str(tmp_path / "served"))
    for attribute, name in FILES.items():
        (tmp_path / name).write_bytes(encode(getattr(mnist, attribute)))

    def train(digit: int, *options: str):
        run = tmp_path / f"run-{digit}"
        run.mkdir(exist_ok=True)
        always(digit, mnist).save(run / CHECKPOINT)
        words = ["train", "--data", str(tmp_path), "--run", str(run), *options]
        return CliRunner().invoke(main, words)

    return train


def test_promote_puts_the_model_where_serving_takes_it_and_refuses_a_worse_one(trained, tmp_path):
    assert trained(7, "--promote").exit_code == 0
    assert digit_in(tmp_path / "served") == 7
    refused = trained(1, "--promote")
    assert refused.exit_code == 1
    assert "held-out digits" in refused.stderr
    assert "The model in place reads better" in refused.stderr
    assert digit_in(tmp_path / "served") == 7
    assert digit_in(tmp_path / "run-1" / "model") == 1  # nothing of the training is lost
    assert trained(1, "--promote", "--force").exit_code == 0
    assert digit_in(tmp_path / "served") == 1


def test_out_is_guarded_too_and_by_the_pictures_as_well(trained, tmp_path):
    out, album = tmp_path / "out", tmp_path / "album"
    album.mkdir()
    (album / "one.png").write_bytes(seven())
    (album / "index.csv").write_text("path,label,category\none.png,1,photo\n")
    assert trained(1, "--out", str(out)).exit_code == 0
    refused = trained(7, "--out", str(out), "--pictures", str(album))
    assert (refused.exit_code, "reads better: pictures" in refused.stderr) == (1, True)
    assert trained(7, "--out", str(out)).exit_code == 0
    assert digit_in(out) == 7


def test_a_place_that_cannot_be_taken_is_named_before_the_training(trained, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "draft.txt").write_text("years of work")
    refused = trained(7, "--out", str(tmp_path / "thesis"))
    assert (refused.exit_code, "holds no model" in refused.stderr) == (78, True)
    assert not (tmp_path / "run-7" / "model").exists()
    assert trained(7, "--out", "a", "--promote").exit_code == 2


def test_a_remark_reaches_the_card(trained, tmp_path):
    assert trained(7, "--remark", "Seen before.").exit_code == 0
    assert json.loads((tmp_path / "run-7" / "model" / CARD).read_text())["test_set"].endswith("Seen before.")


# digitq promote


@pytest.fixture
def promoting(mnist: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs `digitq promote` with a place of its own, and MNIST's files beside it."""
    monkeypatch.setenv("DIGITQ_MODEL_PATH", str(tmp_path / "served"))
    for attribute, name in FILES.items():
        (tmp_path / name).write_bytes(encode(getattr(mnist, attribute)))
    return lambda *words: CliRunner().invoke(main, ["promote", *map(str, words)])


def test_promote_puts_a_model_there_and_says_what_it_compared_it_with(promoting, models, tmp_path):
    first = promoting(models[1])
    assert (first.exit_code, first.stdout) == (0, "")
    assert "compared with nothing: --data and --pictures would" in first.stderr
    assert f"{tmp_path / 'served'} holds seed-1 now: workers take it within seconds" in first.stderr
    assert digit_in(tmp_path / "served") == 1
    better = promoting(models[7], "--data", tmp_path)
    assert better.exit_code == 0
    assert "held-out digits           20" in better.stderr
    assert "compared with nothing" not in better.stderr
    assert digit_in(tmp_path / "served") == 7
    assert "holds seed-1 already" in promoting(models[7]).stderr


def test_promote_refuses_a_worse_model_unless_it_is_forced(promoting, models, tmp_path):
    promoting(models[7])
    refused = promoting(models[1], "--data", tmp_path)
    assert (refused.exit_code, "reads better: held-out digits" in refused.stderr) == (1, True)
    assert digit_in(tmp_path / "served") == 7
    assert promoting(models[1], "--data", tmp_path, "--force").exit_code == 0
    assert digit_in(tmp_path / "served") == 1


def test_promote_compares_on_pictures_too(promoting, models, tmp_path):
    album = tmp_path / "album"
    album.mkdir()
    (album / "one.png").write_bytes(seven())
    (album / "index.csv").write_text("path,label,category\none.png,7,photo\n")
    promoting(models[7])
    refused = promoting(models[1], "--pictures", album)
    assert (refused.exit_code, "reads better: pictures" in refused.stderr) == (1, True)
    assert digit_in(tmp_path / "served") == 7


def test_promote_previous_goes_back_and_forth(promoting, models, tmp_path):
    promoting(models[1])
    refused = promoting("--previous")
    assert (refused.exit_code, "has no previous model" in refused.stderr) == (78, True)
    promoting(models[7])
    for digit in (1, 7, 1):
        assert promoting("--previous").exit_code == 0
        assert digit_in(tmp_path / "served") == digit


def test_promote_initial_fills_an_empty_place_alone(promoting, models, tmp_path):
    assert promoting("--initial", models[1]).exit_code == 0
    assert digit_in(tmp_path / "served") == 1
    again = promoting("--initial", models[7])
    assert (again.exit_code, "holds seed-1 already" in again.stderr) == (0, True)
    assert digit_in(tmp_path / "served") == 1


def test_promote_names_what_it_cannot_do(promoting, models, tmp_path):
    assert promoting().exit_code == 2
    assert promoting(models[1], "--previous").exit_code == 2
    assert promoting("--previous", "--data", tmp_path).exit_code == 2
    assert promoting("--previous", "--initial").exit_code == 2
    assert promoting(tmp_path / "none").exit_code == 2
    empty = promoting(tmp_path)
    assert (empty.exit_code, "card.json cannot be read" in empty.stderr) == (78, True)
    bare = Path(shutil.copytree(models[1], tmp_path / "bare"))
    card = json.loads((bare / CARD).read_text())
    del card["recipe"]
    (bare / CARD).write_text(json.dumps(card))
    unknown = promoting(bare, "--data", tmp_path)
    assert (unknown.exit_code, "names its recipe" in unknown.stderr) == (78, True)
