"""The evaluation: its figures against values known from elsewhere, and the report that people look at."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from shared.errors import DataError
from shared.settings import Settings
from tests.conftest import shared_folder
from tests.fakes import OnlyDigits
from tests.pictures import seven
from worker.inference.classify import Classifier
from worker.training import cli
from worker.training.data.idx import FILES, encode
from worker.training.data.pictures import from_arrays, from_folder
from worker.training.drawing.nondigits import UNSEEN
from worker.training.evaluation import runs as evaluation
from worker.training.evaluation.evaluate import Report
from worker.training.evaluation.examine import Evaluation, examine
from worker.training.evaluation.measures import area, calibration_error, reliability, risk_coverage, wilson
from worker.training.evaluation.plots import reliability_diagram, risk_coverage_plot
from worker.training.evaluation.refusals import refusals
from worker.training.evaluation.report import page
from worker.training.evaluation.robustness import CHANGES, changed, subset
from worker.training.evaluation.tables import text
from worker.training.evaluation.ways import WAYS, condition, plain


class Height(OnlyDigits):
    """A model that reads the height of the ink, in tenths of the picture, with a confidence of 0.6."""

    def __init__(self, version: str = "fake-1") -> None:
        self.version = version
        self.card: dict[str, Any] = {}

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        rows = np.arange(28) @ pixels.sum(axis=2).T / np.maximum(pixels.sum(axis=(1, 2)), 1e-6)
        odds = np.full((len(pixels), 10), 0.4 / 9, np.float32)
        odds[range(len(pixels)), np.clip(rows / 2.8, 0, 9).astype(int)] = 0.6
        return odds


def bars() -> tuple[np.ndarray, np.ndarray]:
    """Thirty pictures with their labels: a bright bar, the higher the digit the lower."""
    labels = np.tile(np.arange(10, dtype=np.uint8), 3)
    images = np.zeros((30, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[int(label * 2.8) : int(label * 2.8) + 3, 6:22] = 255
    return images, labels


def album(folder: Path) -> Path:
    """Three pictures of a seven and one that is damaged, in two categories."""
    (folder / "sub").mkdir(parents=True)
    for name, size in {"a.png": 28, "sub/b.png": 120, "c.png": 300}.items():
        (folder / name).write_bytes(seven(size))
    (folder / "d.png").write_bytes(b"damaged")
    rows = ["a.png,7,small", "sub/b.png,7,<large>", "c.png,1,<large>", "d.png,7,small"]
    (folder / "index.csv").write_text("\n".join(["path,label,category", *rows]) + "\n")
    return folder


def classifiers(*versions: str) -> dict[str, Classifier]:
    return {version: Classifier(Height(version), 10**6) for version in versions}


def silent(message: str) -> None: ...


# The figures


def test_the_interval_is_wilsons():
    # R. G. Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    assert wilson(29, 29) == pytest.approx((0.8830, 1), abs=5e-5)
    assert wilson(0, 0) == (0, 1)


def test_confidences_fall_into_their_bins_and_the_edges_belong_below():
    bins = reliability(np.array([0.0, 0.2, 0.21, 0.4, 1.0]), np.array([True, False, True, True, False]), bins=5)
    assert [one.answers for one in bins] == [2, 2, 0, 0, 1]
    assert bins[0].accuracy == 0.5
    assert bins[1].confidence == pytest.approx(0.305)


def test_a_model_that_is_as_often_right_as_it_says_has_no_calibration_error():
    sure = np.full(10, 0.8)
    assert calibration_error(reliability(sure, np.arange(10) < 8)) == pytest.approx(0)
    assert calibration_error(reliability(sure, np.arange(10) < 5)) == pytest.approx(0.3)
    assert calibration_error(reliability(np.empty(0), np.empty(0, bool))) == 0


def test_risk_rises_with_coverage_when_the_unsure_answers_are_the_wrong_ones():
    curve = risk_coverage(np.array([0.9, 0.5, 0.7, 0.3]), np.array([True, False, True, False]))
    assert curve == [(0.25, 0), (0.5, 0), (0.75, pytest.approx(1 / 3)), (1, 0.5)]
    assert area(curve) == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)


def test_answers_of_equal_confidence_are_taken_together():
    assert risk_coverage(np.full(4, 0.5), np.array([True, False, True, True])) == [(1, 0.25)]
    assert risk_coverage(np.empty(0), np.empty(0, bool)) == []
    long = risk_coverage(np.linspace(0, 1, 5000), np.full(5000, True))
    assert (len(long), long[-1]) == (200, (1, 0))


def test_what_cannot_be_decoded_is_an_error():
    report = Report([[9] + [0] * 9] + [[0] * 10] * 9, undecodable=1)
    assert (report.images, report.errors, report.accuracy) == (10, 1, 0.9)
    assert report.to_json()["interval"] == report.interval == wilson(9, 10)


# The pictures


def test_a_folder_is_read_by_its_index(tmp_path):
    pictures = from_folder(album(tmp_path / "album"))
    assert [(p.name, p.label, p.category) for p in pictures][1] == ("sub/b.png", 7, "<large>")
    assert pictures[0].content() == seven(28)


@pytest.mark.parametrize(
    ("index", "complaint"),
    [("path,label\na.png,1\n", "columns category, label, path"), ("path,label,category\na,ten,x\n", "line 2: .*'ten'")],
)
def test_an_index_that_is_wrong_says_where(tmp_path, index, complaint):
    (tmp_path / "index.csv").write_text(index)
    with pytest.raises(DataError, match=complaint):
        from_folder(tmp_path)


def test_a_missing_index_or_picture_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"index\.csv cannot be read"):
        from_folder(tmp_path)
    pictures = from_folder(album(tmp_path / "album"))
    (tmp_path / "album" / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png cannot be read"):
        pictures[0].content()


# The robustness


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_keeps_the_form_and_is_the_same_every_time(name):
    images, _ = bars()
    once, again = (changed(images[:12], CHANGES[name]) for _ in range(2))
    assert (once.shape, once.dtype) == ((12, 28, 28), np.uint8)
    assert np.array_equal(once, again)
    assert np.array_equal(once, images[:12]) == (name == "as it is")


def centre(image: np.ndarray) -> np.ndarray:
    return np.array([np.average(np.arange(28), weights=image.sum(axis=axis)) for axis in (1, 0)])


def test_the_changes_do_what_their_names_say():
    square = np.zeros((28, 28), np.uint8)
    square[10:18, 10:18] = 200
    rng = np.random.default_rng(0)
    ink = {name: change(square, rng).sum() / square.sum() for name, change in CHANGES.items()}
    assert np.abs(centre(CHANGES["shifted 4 px"](square, rng)) - centre(square)).sum() == pytest.approx(4)
    assert ink["scaled 0.7"] == pytest.approx(0.49, abs=0.08)
    assert ink["scaled 1.3"] == pytest.approx(1.69, abs=0.15)
    assert ink["thin"] < 0.9 < 1.3 < ink["thick"]
    assert np.ptp(CHANGES["low contrast"](square, rng)) < 40
    assert CHANGES["inverted"](square, rng)[0, 0] == 255
    tip = CHANGES["rotated +15°"](np.tri(28, 28, -14, np.uint8) * 200, rng)
    assert centre(tip)[1] > centre(np.tri(28, 28, -14, np.uint8))[1]  # the lower left turns to the right


def test_the_subset_is_fixed_and_no_larger_than_the_data():
    assert np.array_equal(subset(5, 100), subset(5, 100))
    assert len(set(subset(50, 100).tolist())) == 50
    assert subset(50, 3).tolist() == [0, 1, 2]


def test_without_the_preprocessing_pixels_go_in_as_they_are():
    images, labels = bars()
    assert np.array_equal(plain(images[3]), images[3] / np.float32(255))
    found = condition("bars", from_arrays(images, labels, "bars"), classifiers("fake-1"))
    assert found.images == 30
    assert list(found.right["fake-1"]) == list(WAYS)
    assert found.right["fake-1"]["plain"] == 30
    assert found.right["fake-1"]["mnist"] < 10  # put in the middle, all bars are alike


# The report


@pytest.fixture(scope="module")
def pictures_evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    folder = album(tmp_path_factory.mktemp("pictures") / "album")
    return evaluation.of_pictures(classifiers("one", "two <2>"), folder, silent)


def test_an_examination_counts_by_category_and_decision(pictures_evaluated):
    report = pictures_evaluated.to_json()["models"][0]
    assert (report["images"], report["undecodable"], list(report["undecodable_files"])) == (4, 1, ["d.png"])
    assert {name: part["images"] for name, part in report["categories"].items()} == {"<large>": 2, "small": 2}
    assert sum(part["images"] for part in report["decisions"].values()) == 3
    assert report["decisions"]["review"]["images"] == 3
    assert len(report["mistakes"]) == report["errors"] - 1
    assert json.loads(json.dumps(report)) is not None


def test_the_mistakes_come_the_surest_first():
    images, labels = bars()
    found = examine("one", from_arrays(images, (labels + 1) % 10, "bars"), classifiers("one")["one"])
    confidences = [outcome.confidence for _, outcome in found.mistakes]
    assert confidences == sorted(confidences, reverse=True)
    assert found.report.errors == len(found.mistakes)


def test_the_page_needs_nothing_else_and_escapes_what_it_quotes(pictures_evaluated):
    html = page(pictures_evaluated)
    assert not re.search(r"<script|<link|@import|url\(|https?://", html)
    assert {source[:5] for source in re.findall(r'src="([^"]*)', html)} == {"data:"}
    assert "two &lt;2&gt;" in html
    assert "&lt;large&gt;" in html
    assert "<2>" not in html
    assert "<large>" not in html
    for part in ("prefers-color-scheme: dark", "viewport", "Confusion", "Reliability", "Risk", "95 % interval"):
        assert part in html


def test_every_element_of_the_page_is_closed(pictures_evaluated):
    html = page(pictures_evaluated)
    for tag in ("table", "tr", "td", "th", "div", "section", "svg", "g", "figure", "details", "p", "ul", "main"):
        assert len(re.findall(rf"<{tag}[ >]", html)) == html.count(f"</{tag}>"), tag


def test_the_summary_names_every_model_and_category(pictures_evaluated):
    lines = text(pictures_evaluated)
    for part in ("one, served: 4 images", "two <2>, served", "small", "all", "ECE"):
        assert part in lines


def test_plots_of_nothing_are_plots():
    assert reliability_diagram([]).startswith("<svg")
    assert risk_coverage_plot({}).startswith("<svg")
    assert risk_coverage_plot({"one": [(0.5, 0), (1, 0)]}).count("NaN") == 0


# The command


def data_folder(folder: Path) -> Path:
    images, labels = bars()
    for attribute, name in FILES.items():
        (folder / name).write_bytes(encode(images if attribute.endswith("images") else labels))
    return folder


def test_the_command_writes_both_files_and_prints_the_json(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "classifiers", lambda paths, settings: classifiers(*map(str, paths)))
    monkeypatch.setattr(evaluation, "refusals", partial(refusals, n=2))
    options = ["--out", str(tmp_path / "out"), "--robustness", "4", "--model", "one", "--model", "two", "--json"]
    arguments = ["--data", str(data_folder(tmp_path)), *options]
    result = CliRunner().invoke(cli.evaluate, arguments, catch_exceptions=False)
    printed = json.loads(result.stdout)
    assert printed == json.loads((tmp_path / "out" / "report.json").read_text())
    assert [model["model"] for model in printed["models"]] == ["one", "two"]
    assert [one["name"] for one in printed["conditions"]] == list(CHANGES)
    assert {one["images"] for one in printed["conditions"]} == {4}
    assert printed["models"][0]["direct"]["accuracy"] == 1
    assert "report.html" in result.stderr
    assert [one["name"] for one in printed["refusals"]] == [*UNSEEN, "digits, photographed", "MNIST test digits"]
    assert (tmp_path / "out" / "report.html").read_text().count("<h2>") == 4


@pytest.mark.parametrize("arguments", [[], ["--data", "a", "--pictures", "b"]])
def test_the_command_wants_data_or_pictures(arguments):
    assert CliRunner().invoke(cli.evaluate, arguments).exit_code == 2


def test_models_of_one_version_are_told_apart(monkeypatch):
    def load(path: Path) -> Height:
        model = Height(path.parent.name)
        model.sha256 = path.name * 40
        return model

    monkeypatch.setattr(evaluation.Mlp, "load", load)
    paths = [Path("best/a"), Path("best/b"), Path("seed/c")]
    assert list(evaluation.classifiers(paths, Settings())) == ["best aaaaaaa", "best bbbbbbb", "seed"]


def test_the_preprocessing_earns_its_keep_on_real_pictures():
    folder = shared_folder("photos")
    models = evaluation.classifiers([Settings().model_path], Settings())
    *_, every = evaluation.of_pictures(models, folder, silent).conditions
    [right] = every.right.values()
    assert right["mnist"] / every.images > 0.9
    assert right["mnist"] > max(right["seed"], right["plain"])


def test_thumbnails_are_small_and_upright():
    from worker.training.evaluation.report import thumbnail

    images, labels = bars()
    large = np.asarray(Image.fromarray(images[0]).resize((900, 600)))
    [picture] = from_arrays(large[None], labels[:1], "bars")
    assert len(thumbnail(picture, 56, "")) < 6000
