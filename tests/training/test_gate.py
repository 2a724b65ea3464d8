"""The gate in front of a model that has learnt: the test of significance, and each bound."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from shared.errors import ModelError
from shared.prediction import Outcome
from shared.settings import SHIPPED_MODEL
from worker.inference import golden
from worker.inference.classify import Classifier
from worker.inference.mlp import Mlp, Reading
from worker.training.data.pictures import from_arrays
from worker.training.evaluation.examine import Examination, Refusals
from worker.training.learning import gate, suspicion
from worker.training.learning.corrections import Correction
from worker.training.learning.gate import NotProven, Row, check, mcnemar, of_calibration, of_corrections, of_digits
from worker.training.learning.suspicion import SuspiciousCorrections, probabilities
from worker.training.pages.crop_truth import NONDIGIT


def flags(text: str) -> np.ndarray:
    return np.array([letter == "x" for letter in text])


def examined(wrong: int, n: int = 10_000, confidence: float = 0.999) -> Examination:
    """The examination of a model that reads the first `wrong` of n zeros as ones."""
    rows = tuple([confidence] + [0.0] * 9)
    results = [Outcome(int(at < wrong), confidence, rows, "accept", (), b"") for at in range(n)]
    return Examination("x", from_arrays(np.zeros((n, 28, 28), np.uint8), np.zeros(n, np.uint8), "MNIST"), results)


# McNemar's test


@pytest.mark.parametrize(
    ("fixed", "broken", "p"),
    [
        (0, 0, 1.0),
        (5, 0, 1 / 32),
        (0, 5, 1.0),
        (1, 1, 0.75),
        (8, 2, 56 / 1024),  # 1 + 10 + 45
        (9, 1, 11 / 1024),
        (15, 5, 0.0207),  # of tables of the binomial distribution
    ],
)
def test_mcnemar_is_the_exact_binomial_test(fixed, broken, p):
    assert mcnemar(fixed, broken) == pytest.approx(p, abs=5e-5)


def test_corrections_have_to_become_better_than_chance_explains():
    row = of_corrections(flags("xxxxxooo"), flags("oooooooo"))
    assert (row.of, row.old, row.new, row.passed) == (8, 5, 0, True)
    assert row.rule == "5 fixed, 0 broken: p = 0.031, at most 0.05"
    assert not of_corrections(flags("xxxxoooo"), flags("oooooooo")).passed  # p = 0.06
    assert not of_corrections(flags("xxxxxooo"), flags("ooooooxo")).passed  # one broken: p = 0.11
    assert not of_corrections(flags("ooooo"), flags("xxxxx")).passed
    assert not of_corrections(flags("xxxxx"), flags("xxxxx")).passed


# The other rows


def test_digits_may_be_read_worse_by_three_hundredths_of_a_point():
    rows = [of_digits(examined(40), examined(wrong), "held-out digits", gate.MORE_ERRORS) for wrong in (20, 43, 44)]
    assert [row.passed for row in rows] == [True, True, False]
    assert [row.rule for row in rows] == ["at most 43"] * 3


def test_a_tenth_of_a_point_more_digits_may_be_refused():
    images, labels = np.zeros((1_000, 28, 28), np.uint8), np.zeros(1_000, np.uint8)

    def refusing(count: int) -> Examination:
        decisions = ["reject"] * count + ["review"] * 500 + ["accept"] * (500 - count)
        results = [Outcome(0, 0.9, None, decision, (), b"") for decision in decisions]
        return Examination("x", from_arrays(images, labels, "MNIST"), results)

    rows = [gate.of_rejected(refusing(20), refusing(count)) for count in (20, 21, 22)]
    assert [row[1:4] for row in rows] == [(1_000, 20, 20), (1_000, 20, 21), (1_000, 20, 22)]
    assert [row.passed for row in rows] == [True, True, False]


def test_golden_digits_are_read_as_before_unless_they_were_refused():
    def read(*digits: int | None) -> Examination:
        decisions = [(digit or 0, "accept" if digit is not None else "reject") for digit in digits]
        results = [Outcome(digit, 0.9, None, decision, (), b"") for digit, decision in decisions]
        return Examination("x", from_arrays(np.zeros((3, 28, 28), np.uint8), np.zeros(3, np.uint8), "golden"), results)

    old = read(4, 7, None)
    assert gate.of_golden(old, read(4, 7, 3))[1:4] == (2, 0, 0)
    assert gate.of_golden(old, read(4, 7, None)).passed
    assert gate.of_golden(old, read(4, 1, None))[3:] == (1, "at most 0", False)
    assert not gate.of_golden(old, read(4, None, None)).passed


def test_the_calibration_error_is_at_most_half_a_point_or_what_it_was():
    good, fair, poor = examined(10), examined(60), examined(110)  # off by 0, 0.5 and 1 point
    pairs = [(good, examined(59)), (good, examined(61)), (poor, fair), (poor, poor), (poor, examined(112))]
    rows = [of_calibration(*pair) for pair in pairs]
    assert [row.passed for row in rows] == [True, False, True, True, False]


def refused(none: tuple[int, int], digits: tuple[int, int]) -> list[Row]:
    sample = np.zeros((28, 28), np.uint8)
    rows = [
        Refusals("letters", sample, 200, False, {"old": none[0], "new": 90}),
        Refusals("scenes", sample, 200, False, {"old": 0, "new": none[1] - 90}),
        Refusals("digits", sample, 200, True, {"old": digits[0], "new": digits[1]}),
    ]
    return gate.of_refusals(rows, "old", "new")


def test_as_many_non_digits_are_refused_as_before_and_hardly_more_digits():
    assert [(row.of, row.old, row.new, row.passed) for row in refused((190, 190), (3, 5))] == [
        (400, 190, 190, True),
        (200, 3, 5, True),
    ]
    assert [row.passed for row in refused((190, 189), (3, 5))] == [False, True]
    assert [row.passed for row in refused((190, 191), (3, 6))] == [True, False]


class Reader:
    """Reads every picture as given; as `Classifier`."""

    def __init__(self, digits: Sequence[int], decision: str = "accept") -> None:
        self.digits, self.decision, self.at = digits, decision, 0

    def __call__(self, images):
        outcomes = []
        for _ in images:
            digit = self.digits[self.at % len(self.digits)]
            self.at += 1
            outcomes.append(Outcome(digit, 0.999, None, self.decision, (), b""))
        return type("Classified", (), {"results": outcomes})


def test_the_side_effects_are_those_on_digits_golden_digits_drawn_pictures_and_calibration(monkeypatch):
    monkeypatch.setattr(gate, "DRAWN", 1)
    model = Classifier(Mlp.to_serve(SHIPPED_MODEL, "cpu"), 10**6)
    with np.load(SHIPPED_MODEL / golden.FILE) as recorded:
        images, labels = recorded["images"], recorded["probabilities"].argmax(axis=1).astype(np.uint8)
    rows = gate.side_effects(model, model, SHIPPED_MODEL, images, labels)
    assert [(row.name, row.old == row.new, row.passed) for row in rows] == [
        ("held-out digits, wrong", True, True),
        ("held-out digits, refused", True, True),
        ("golden digits, read otherwise", True, True),
        ("drawn non-digits, refused", True, True),
        ("drawn digits, refused", True, True),
        ("calibration error (ECE)", True, True),
    ]
    assert [row.of for row in rows[:3]] == [100, 100, 98]  # it refuses two of its golden digits
    worse = gate.side_effects(model, Reader([3]), SHIPPED_MODEL, images, labels)  # type: ignore[arg-type]
    assert [row.passed for row in worse] == [False, True, False, False, True, False]


def test_golden_digits_are_needed(tmp_path):
    place = Path(shutil.copytree(SHIPPED_MODEL, tmp_path / "model"))
    (place / golden.FILE).write_bytes(b"?")
    with pytest.raises(ModelError, match="cannot be read"):
        gate.side_effects(Reader([0]), Reader([0]), place, np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.uint8))  # type: ignore[arg-type]


# The verdict


def test_a_model_passes_if_every_row_does_and_the_rows_that_fail_are_named():
    good = Row("held-out corrections, wrong", 12, 9, 2, "7 fixed, 0 broken: p = 0.0078, at most 0.05", True)
    bad = Row("held-out digits, wrong", 5000, 21, 25, "at most 22", False)
    check([good, good])
    with pytest.raises(
        NotProven, match=r"^held-out digits, wrong: at most 22; held-out digits, wrong: at most 22$"
    ) as no:
        check([good, bad, bad])
    assert no.value.code == "not_proven"


def test_the_table_has_a_line_for_each_row_with_what_is_allowed():
    rows = [
        Row("held-out digits, wrong", 5000, 21, 25, "at most 22", False),
        Row("calibration error (ECE)", 0, 0.0021, 0.0034, "at most 0.50 %", True),
    ]
    models, heads, digits, ece = gate.table(rows, "pages-2", "pages-2-learn-1").splitlines()
    assert models == "old: pages-2, new: pages-2-learn-1"
    assert heads.split() == ["of", "old", "new", "allowed"]
    assert digits.split() == ["held-out", "digits,", "wrong", "5000", "21", "25", "at", "most", "22", "<-", "fails"]
    assert ece.split() == ["calibration", "error", "(ECE)", "0.21", "%", "0.34", "%", "at", "most", "0.50", "%"]


# Labels that are probably wrong


def reading(*rows: tuple[int, float, float]) -> Reading:
    """For each: the digit, its probability, and the digitness."""
    found = np.zeros((len(rows), 10), np.float32)
    for at, (digit, sure, _) in enumerate(rows):
        found[at] = (1 - sure) / 9
        found[at, digit] = sure
    return Reading(found, np.array([one[2] for one in rows], np.float32))


def test_a_label_has_a_probability_also_that_there_is_no_digit():
    found = probabilities(reading((3, 0.8, 0.5), (3, 0.8, 0.25)), np.array([3, NONDIGIT], np.uint8))
    assert found == pytest.approx([0.4, 0.75])


def rows(*labels: int) -> list[Correction]:
    return [Correction(f"{at}.png", label, (at, 2, 3, 4)) for at, label in enumerate(labels)]


def test_a_label_is_suspicious_if_both_models_rule_it_out_and_is_listed(tmp_path):
    sure, open_to = (3, 0.9995, 0.9999), (3, 0.8, 0.9999)
    old, new = reading(sure, sure, open_to, sure), reading(sure, open_to, sure, sure)
    found = suspicion.check(rows(7, 7, 7, 3), old, new, tmp_path)
    assert found.tolist() == [True, False, False, False]
    [line] = csv.DictReader((tmp_path / suspicion.FILE).read_text("utf-8-sig").splitlines())
    assert [line[name] for name in ("path", "left", "label", "old_reads", "new_reads")] == ["0.png", "0", "7", "3", "3"]
    assert float(line["new_allows"]) < suspicion.IMPOSSIBLE


def test_a_label_is_not_suspicious_where_the_models_see_no_digit_or_different_ones(tmp_path):
    three, five, nothing = (3, 0.9995, 0.9999), (5, 0.9995, 0.9999), (3, 0.9995, 0.0001)
    old, new = reading(three, nothing, nothing, three), reading(three, nothing, three, five)
    assert suspicion.check(rows(7, 7, 7, 7), old, new, tmp_path).tolist() == [True, False, False, False]


def test_none_is_not_suspicious_and_counts_for_no_label(tmp_path):
    sure = reading(*[(3, 0.999, 0.9999)] * 20)
    assert not suspicion.check(rows(*[NONDIGIT] * 20), sure, sure, tmp_path).any()
    with pytest.raises(SuspiciousCorrections, match=r"^3 of 3 labels seem wrong"):
        suspicion.check(rows(*[7] * 3, *[NONDIGIT] * 17), sure, sure, tmp_path)


@pytest.mark.parametrize(
    ("of", "allowed"), [(1, 1), (6, 2), (20, 2), (28, 2), (40, 3), (100, 7), (1_000, 48), (20_000, 836)]
)
def test_as_many_labels_may_be_suspicious_as_chance_gives_honest_people(of, allowed):
    assert not suspicion.too_many(allowed, of)
    assert suspicion.too_many(allowed + 1, of) == (of > 1)


def test_with_too_many_suspicious_labels_nothing_is_learnt(tmp_path):
    sure = reading(*[(3, 0.9995, 0.9999)] * 20)
    suspicion.check(rows(*[7] * 2, *[3] * 18), sure, sure, tmp_path)
    with pytest.raises(SuspiciousCorrections, match=r"^3 of 20 labels seem wrong.*suspicious\.csv") as refused:
        suspicion.check(rows(*[7] * 3, *[3] * 17), sure, sure, tmp_path)
    assert refused.value.code == "suspicious_corrections"
    assert len((tmp_path / suspicion.FILE).read_text().splitlines()) == 4
