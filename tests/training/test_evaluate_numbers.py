"""The evaluation on pages of numbers: its scores against values worked out by hand, and its command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from shared.numbers import FoundGrid, PageReading
from tests.invoked import invoked
from tests.pages import PAGE, number, page
from tests.pictures import png, seven
from worker.inference.numbers_classifier import Stages
from worker.training.evaluation.evaluate_numbers import PagesRead
from worker.training.evaluation.page_scores import Score, Truth, f1, matches, score

TRUTH = Truth("a.png", "rows", ("73542612", "90"))


@pytest.mark.parametrize(
    ("true", "found", "right"),
    [
        ("123", "123", "+++"),
        ("123", "173", "+-+"),
        ("123", "13", "++"),
        ("123", "1923", "+-++"),
        ("", "12", "--"),
        ("12", "", ""),
        ("1212", "21", "++"),
    ],
)
def test_digits_are_matched_by_the_shortest_edit(true: str, found: str, right: str) -> None:
    assert ["+" if one else "-" for one in matches(true, found)] == list(right)


def test_a_page_is_right_if_each_row_is_wherever_its_numbers_end() -> None:
    assert score(TRUTH, PAGE).right
    assert not score(replace(TRUTH, lines=("735426", "1290")), PAGE).right
    assert not score(TRUTH, None).right


def test_accepted_digits_are_counted_apart() -> None:
    found = score(replace(TRUTH, lines=("73542617", "90")), PAGE)
    assert (found.found, found.matched, found.accepted, found.accepted_right) == (10, 9, 8, 8)


def test_digits_without_an_order_are_compared_as_a_bag() -> None:
    loose = Truth("a.png", "mixed", ("3", "1", "1"), unordered=True)
    found = score(loose, PageReading((number("1335", 0, 0),)))
    assert (found.matched, found.right) == (2, False)
    assert score(loose, PageReading((number("131", 0, 0),))).right


def sudoku(*rows: str) -> PageReading:
    boxes = tuple(tuple((0, 0, 1, 1) for _ in row) for row in rows)
    return PageReading((), FoundGrid(tuple(tuple(one.replace(".", "") for one in row) for row in rows), boxes))


def test_cells_are_counted_in_tables_of_the_right_size_alone() -> None:
    truth = Truth("a.png", "grid", ("1........",) * 9)
    assert score(truth, sudoku(*["1........"] * 9)).cells == 1
    assert score(truth, sudoku("2........", *["1........"] * 8)).cells == 80 / 81
    assert not score(truth, sudoku("2........", *["1........"] * 8)).right
    assert score(truth, sudoku(*["1........"] * 8)).cells is None
    assert score(truth, PAGE).cells is None


def test_f1_is_over_the_digits_of_all_pages() -> None:
    pages = [score(TRUTH, PAGE), score(replace(TRUTH, lines=("12",)), PageReading())]
    assert f1(pages) == pytest.approx(2 * 10 / (10 + 12))


def test_figures_are_those_of_their_kind_of_page() -> None:
    def counted(category: str, found: int, matched: int, lines: tuple[str, ...], ink: str = "photo") -> Score:
        return Score(Truth("", category, lines, ink), matched == found, found, matched, found, matched, None)

    read = PagesRead(
        [
            counted("line", 2, 2, ("12",)),
            counted("line", 2, 1, ("13",)),
            counted("line", 2, 0, ("13",), "printed"),
            counted("negative", 3, 0, ()),
            counted("negative", 0, 0, ()),
        ],
        [Stages(1, 2, 3, 4)] * 5,
    )
    figures = read.figures()
    assert figures["one number in a row, wholly right"] == 0.5
    assert figures["really handwritten, F1"] == 0.75
    assert figures["false digits in a picture that has none"] == 1.5
    assert figures["accepted digits that are right"] == pytest.approx(3 / 9)
    assert figures["several rows, wholly right"] is None
    assert read.to_json()["ms"]["model"] == [4, 4]


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    for name, data in {"two.png": page(), "one.png": seven(56), "none.png": png(), "bad.png": b"no picture"}.items():
        (tmp_path / name).write_bytes(data)
    rows = [
        ("two.png", "line", ["74"]),
        ("one.png", "line", ["7"]),
        ("none.png", "negative", []),
        ("bad.png", "mixed", ["1"]),
    ]
    manifest = [json.dumps({"path": path, "category": kind, "lines": lines}) for path, kind, lines in rows]
    (tmp_path / "manifest.jsonl").write_text("\n".join(manifest))
    return tmp_path


def test_the_command_prints_the_table(pages: Path) -> None:
    done = invoked("evaluate", "--numbers", str(pages))
    assert done.returncode == 0, done.stderr
    assert "one number in a row, wholly right           100.0%" in done.stdout
    assert "false digits in a picture that has none       0.00" in done.stdout
    assert "bad.png" in done.stderr
    found = json.loads(invoked("evaluate", "--numbers", str(pages), "--json").stdout)
    [figures] = found.values()
    assert (figures["pictures"], figures["not_right"]) == (4, ["bad.png"])


@pytest.mark.parametrize("line", ["", "{", '{"path": "a.png"}'])
def test_a_manifest_that_is_none_is_refused_with_what_is_expected(tmp_path: Path, line: str) -> None:
    if line:
        (tmp_path / "manifest.jsonl").write_text(line)
    done = invoked("evaluate", "--numbers", str(tmp_path))
    assert done.returncode == 1 and '"lines": ["735426"]' in done.stderr


def test_one_kind_of_pictures_is_evaluated_at_a_time(tmp_path: Path) -> None:
    assert invoked("evaluate", "--numbers", str(tmp_path), "--pictures", str(tmp_path)).returncode == 2
