"""Corrections: the zip that the page exports, as it is and as it may be broken, and what the model sees of them."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from shared.settings import SHIPPED_MODEL
from tests.corrected import COLUMNS, exported, row, table
from tests.drawings import black_on_white, drawn, encoded
from tests.pages import page
from tests.pictures import png, seven
from worker.inference.classify import Classifier
from worker.inference.mlp import Mlp
from worker.training.learning import corrections as reading
from worker.training.learning.corrections import BadCorrections, Correction, Corrections
from worker.training.learning.inputs import read, see
from worker.training.pages.crop_truth import NONDIGIT

LIMIT = 100_000
#: About where `tests.pages.page` has its 7 and its 4.
SEVEN, FOUR = (30, 46, 82, 90), (180, 46, 76, 90)


def added(*paths: Path, limit: int = LIMIT) -> Corrections:
    found = Corrections(limit)
    for path in paths:
        found.add(path)
    return found


def short(rows: list[Correction]) -> list[Correction]:
    return [one._replace(picture=one.picture.rpartition(":")[2]) for one in rows]


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A digit, a picture of none, and a page with a corrected digit and a box that has none."""
    pictures = {"a.png": seven(), "b.png": page(), "c.png": png()}
    boxes = [row("b.png", "4", FOUR), row("b.png", "none", SEVEN)]
    return exported(tmp_path / "corrections.zip", pictures, [row("a.png", "7")], [row("c.png", "")], boxes)


def test_an_export_has_digits_none_and_digits_of_pages(export):
    found = added(export)
    assert short(found.rows) == [
        Correction("pictures/a.png", 7),
        Correction("pictures/c.png", NONDIGIT),
        Correction("pictures/b.png", 4, FOUR),
        Correction("pictures/b.png", NONDIGIT, SEVEN),
    ]
    assert found.content(found.rows[0].picture) == seven()


def test_an_unpacked_export_is_the_same_and_a_row_given_twice_counts_once(export, tmp_path):
    with ZipFile(export) as file:
        file.extractall(tmp_path / "unpacked")
    folder = tmp_path / "unpacked"
    assert short(added(folder).rows) == short(added(export).rows)
    assert len(added(export, export).rows) == 4


def test_a_folder_with_an_index_of_path_and_label_is_enough(tmp_path):
    (tmp_path / "index.csv").write_text("path,label\na.png,7\n")
    (tmp_path / "a.png").write_bytes(seven())
    assert short(added(tmp_path).rows) == [Correction("a.png", 7)]


BAD = {
    "no digit": ({"digits": [row("a.png", "12")]}, r"index.csv, line 2: expected a label from 0 to 9, found '12'"),
    "none where a digit is": ({"digits": [row("a.png", "none")]}, "expected a label from 0 to 9, found 'none'"),
    "no label": ({"boxes": [row("a.png", "", FOUR)]}, "expected a label from 0 to 9 or none, found ''"),
    "no picture": ({"digits": [row("a.png", "7"), row("x.png", "7")]}, "no picture 'pictures/x.png'"),
    "no path": ({"digits": [["", "7"]]}, "lacks the path"),
    "no box": ({"boxes": [row("a.png", "7")]}, "expected a box of whole pixels"),
    "half a pixel": ({"boxes": [row("a.png", "7", (0, 0, 0.5, 9))]}, "whole pixels"),
    "beside": ({"boxes": [row("a.png", "7", (-3, 0, 5, 9))]}, "whole pixels"),
    "flat": ({"boxes": [row("a.png", "7", (3, 0, 5, 0))]}, "whole pixels"),
    "huge": ({"boxes": [row("a.png", "7", (3, 0, 5, 10**9))]}, "whole pixels"),
    "both": ({"digits": [row("a.png", "7"), row("a.png", "1")]}, "line 3: another row has another label"),
}


@pytest.mark.parametrize(("tables", "message"), BAD.values(), ids=BAD)
def test_a_bad_row_is_named(tables, message, tmp_path):
    with pytest.raises(BadCorrections, match=message) as refused:
        added(exported(tmp_path / "a.zip", {"a.png": seven()}, **tables))
    assert refused.value.code == "bad_corrections"


def test_a_zip_or_folder_that_is_no_export_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK not")
    with pytest.raises(BadCorrections, match="is not a zip"):
        added(tmp_path / "a.zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadCorrections, match=r"has no index\.csv"):
        added(tmp_path / "empty")
    (tmp_path / "index.csv").write_text("path,digit\na.png,7\n")
    with pytest.raises(BadCorrections, match="lacks the column label"):
        added(tmp_path)
    (tmp_path / "index.csv").write_bytes(b"path,label\n\xff,7\n")
    with pytest.raises(BadCorrections, match="cannot be read"):
        added(tmp_path)


def test_a_path_leads_nowhere_out_of_the_folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.png").write_bytes(seven())
    (tmp_path / "in" / "index.csv").write_text("path,label\n../secret.png,7\n")
    with pytest.raises(BadCorrections, match="outside the folder"):
        added(tmp_path / "in")


def test_a_picture_larger_than_uploads_may_be_is_refused_even_if_the_zip_lies_about_its_size(tmp_path):
    path = exported(tmp_path / "a.zip", {"a.png": bytes(LIMIT + 1)}, [row("a.png", "7")])
    with pytest.raises(BadCorrections, match=r"pictures/a\.png' has more than 100"):
        added(path)
    assert added(path, limit=LIMIT + 1).rows
    out = BytesIO(path.read_bytes())
    sizes, lie = struct.pack("<II", LIMIT + 1, LIMIT + 1), struct.pack("<II", 10, 10)
    path.write_bytes(out.getvalue().replace(sizes, lie))
    with pytest.raises(BadCorrections, match="is damaged"):
        added(path)


def test_there_are_bounds_on_rows_files_and_the_bytes_of_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MOST", 2)
    pictures = {"a.png": seven(), "b.png": seven()}
    assert len(added(exported(tmp_path / "a.zip", pictures, [row("a.png", "7"), row("b.png", "7")])).rows) == 2
    boxes = [row("a.png", "7", (at, 0, 5, 5)) for at in range(3)]
    with pytest.raises(BadCorrections, match="at most 2 corrections"):
        added(exported(tmp_path / "b.zip", {"a.png": seven()}, boxes=boxes))
    with pytest.raises(BadCorrections, match="at most 4 files"):
        added(exported(tmp_path / "c.zip", {f"{n}.png": seven() for n in range(4)}, [row("0.png", "7")]))
    monkeypatch.setattr(reading, "TABLE_BYTES", 20)
    with pytest.raises(BadCorrections, match=r"index\.csv' has more than 20"):
        added(tmp_path / "a.zip")


def test_two_files_of_one_name_are_refused(tmp_path):
    with ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("index.csv", table(COLUMNS, [row("a.png", "7")]))
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("index.csv", table(COLUMNS, [row("a.png", "1")]))
    with pytest.raises(BadCorrections, match="different names"):
        added(tmp_path / "a.zip")


# What the model sees


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(Mlp.to_serve(SHIPPED_MODEL, "cpu"), 10**6)


def test_corrections_are_read_as_uploads_are(export, classifier):
    dealt: list[int] = []
    corrections = added(export)
    seen = see(corrections, classifier, dealt.append)
    assert [one.correction for one in seen] == corrections.rows
    assert [one.read for one in seen] == [7, NONDIGIT, 4, 7] == read(corrections, classifier, dealt.append)
    assert dealt == [1, 1, 2] * 2


def test_the_inputs_are_those_of_serving_and_what_is_rejected_unseen_has_none(export, classifier):
    digit, blank, four, other = see(added(export), classifier, lambda _: None)
    [outcome] = classifier([seven()]).results
    assert digit.pixels.tobytes() == outcome.input
    assert blank.pixels is None
    found = classifier.model.read(np.stack([four.pixels, other.pixels]) / np.float32(255))
    assert found.probabilities.argmax(axis=1).tolist() == [4, 7]
    assert found.digitness.min() > 0.9


def test_a_box_that_the_reader_does_not_find_is_cut_out(tmp_path, classifier):
    half = (30, 46, 82, 30)
    path = exported(tmp_path / "a.zip", {"b.png": page()}, boxes=[row("b.png", "none", half)])
    [one] = see(added(path), classifier, lambda _: None)
    assert one.read == NONDIGIT
    assert one.pixels[4:24].any()


def test_a_box_outside_its_picture_and_a_picture_that_cannot_be_decoded_are_named(tmp_path, classifier):
    path = exported(tmp_path / "a.zip", {"b.png": page()}, boxes=[row("b.png", "7", (250, 10, 51, 20))])
    with pytest.raises(BadCorrections, match=r"b\.png: the box \(250, 10, 51, 20\) lies outside"):
        see(added(path), classifier, lambda _: None)
    path = exported(tmp_path / "c.zip", {"c.png": b"GIF89a"}, [row("c.png", "7")])
    with pytest.raises(BadCorrections, match=r"c\.png"):
        see(added(path), classifier, lambda _: None)


def test_a_box_is_in_pixels_of_the_upload_however_large_the_page_is_read(tmp_path, classifier):
    large = encoded(
        black_on_white(np.maximum(drawn(7, 3000, 2000, 800, (300, 500)), drawn(4, 3000, 2000, 800, (1800, 500))))
    )
    box = tuple(10 * edge for edge in FOUR)
    path = exported(tmp_path / "a.zip", {"b.png": large}, boxes=[row("b.png", "4", box)])
    corrections = Corrections(10**7)
    corrections.add(path)
    [one] = see(corrections, Classifier(classifier.model, 10**7), lambda _: None)
    assert one.read == 4
    assert classifier.model.read(one.pixels[None] / np.float32(255)).probabilities.argmax() == 4
