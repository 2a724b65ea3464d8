"""Decides whether a model that has learnt from corrections may replace the one in service, by a table of both.

The corrections have to be read better than chance explains. Everything else may not become worse: each row has its
bound, and a row that exceeds it is named.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shared.errors import DigitqError, ModelError
from shared.prediction import Outcome
from worker.inference import golden
from worker.inference.classify import Classifier
from worker.training.data.idx import Images, Labels
from worker.training.data.pictures import from_arrays
from worker.training.evaluation.examine import Examination, Refusals, examine
from worker.training.evaluation.measures import Bools, calibration_error, reliability
from worker.training.evaluation.refusals import refusals

#: The largest probability that chance alone reads the corrections this much better.
CHANCE = 0.05
#: By how much, as a share, the errors on held-out digits may rise: one or two of 5,000, less than another seed makes.
MORE_ERRORS = 0.0003
#: The same for drawn pictures of digits that are refused: two of 200.
MORE_REFUSED = 0.01
#: The same for held-out digits: five of 5,000.
MORE_REJECTED = 0.001
#: Largest expected calibration error, unless the model in service has a larger one.
ECE = 0.005
#: Pictures drawn of each kind of non-digits, and of digits.
DRAWN = 200


class NotProven(DigitqError):
    """The new model does not read the corrections significantly better, or reads something else worse."""

    code, title = "not_proven", "The new model is not proven better"


class Row(NamedTuple):
    """The results of two models on the same pictures, and whether they allow the new one."""

    name: str
    #: Pictures.
    of: int
    #: Counts, or shares where `of` is 0.
    old: float
    new: float
    #: What is allowed, for people.
    rule: str
    passed: bool

    def text(self) -> str:
        """Return the line of the table."""
        old, new = (f"{value:.0f}" if self.of else f"{100 * value:.2f} %" for value in (self.old, self.new))
        verdict = "" if self.passed else "  <- fails"
        return f"{self.name:32}{self.of or '':>7}{old:>10}{new:>10}  {self.rule}{verdict}"


def mcnemar(fixed: int, broken: int) -> float:
    """Return the probability that at least `fixed` of all changed answers are for the better by chance alone.

    The exact one-sided test of Q. McNemar, "Note on the sampling error of the difference between correlated proportions
    or percentages", Psychometrika 12 (1947) 153-157, with the binomial distribution: its normal approximation needs 25
    changed answers. The test assumes independent answers; those for digits of one page are so only in part.
    """
    changed = fixed + broken
    return float(sum(math.comb(changed, k) for k in range(fixed, changed + 1)) / 2**changed)


def more(share: float, n: int) -> int:
    """Return how many of n pictures are the share at most; 0.0003 of 10,000 are 3 although the product is less."""
    return math.floor(share * n + 1e-9)


def of_corrections(old_wrong: Bools, new_wrong: Bools) -> Row:
    """Compare the readings [n] of corrections that the new models did not learn from."""
    fixed, broken = int((old_wrong & ~new_wrong).sum()), int((~old_wrong & new_wrong).sum())
    p = mcnemar(fixed, broken)
    rule = f"{fixed} fixed, {broken} broken: p = {p:.2g}, at most {CHANCE}"
    passed = fixed > broken and p <= CHANCE
    return Row("held-out corrections, wrong", len(old_wrong), old_wrong.sum(), new_wrong.sum(), rule, passed)


def of_digits(old: Examination, new: Examination, name: str, share: float) -> Row:
    """Compare the errors on the same digits; they may rise by this share."""
    errors, found = old.report.errors, new.report.errors
    most = errors + more(share, old.report.images)
    return Row(name, old.report.images, errors, found, f"at most {most}", found <= most)


def of_rejected(old: Examination, new: Examination) -> Row:
    """Compare how many of the same digits are refused."""
    before, after = (one.decisions()["reject"]["images"] for one in (old, new))
    most = before + more(MORE_REJECTED, old.report.images)
    return Row("held-out digits, refused", old.report.images, before, after, f"at most {most}", after <= most)


def of_golden(old: Examination, new: Examination) -> Row:
    """Compare the recorded digits: those that the old model shows have to be shown by the new one, and read alike."""
    pairs = [(_shown(one), _shown(other)) for one, other in zip(old.results, new.results, strict=True)]
    shown = [pair for pair in pairs if pair[0] is not None]
    changed = sum(one != other for one, other in shown)
    return Row("golden digits, read otherwise", len(shown), 0, changed, "at most 0", not changed)


def _shown(result: Outcome | Exception) -> int | None:
    return result.digit if isinstance(result, Outcome) and result.decision != "reject" else None


def of_calibration(old: Examination, new: Examination) -> Row:
    """Compare the expected calibration errors on the same digits."""
    before, after = (calibration_error(reliability(*one.calibration)) for one in (old, new))
    most = max(before, ECE)
    return Row("calibration error (ECE)", 0, before, after, f"at most {100 * most:.2f} %", after <= most)


def of_refusals(found: Iterable[Refusals], old: str, new: str) -> list[Row]:
    """Compare how many drawn non-digits and digits are refused by the models of these names."""
    rows = list(found)
    none, digits = ([one for one in rows if one.digits == kind] for kind in (False, True))
    (count, before, after), (drawn, refused, again) = (
        (sum(one.images for one in part), *(sum(one.refused[model] for one in part) for model in (old, new)))
        for part in (none, digits)
    )
    most = refused + more(MORE_REFUSED, drawn)
    return [
        Row("drawn non-digits, refused", count, before, after, f"at least {before}", after >= before),
        Row("drawn digits, refused", drawn, refused, again, f"at most {most}", again <= most),
    ]


def side_effects(old: Classifier, new: Classifier, place: Path, images: Images, labels: Labels) -> list[Row]:
    """Compare everything but the corrections: both models read the same pictures as uploads.

    `images` uint8 [n, 28, 28] and `labels` [n] are digits that neither was trained on; `place` is the directory of the
    old model, with its golden digits. Raises `ModelError` if it has none.
    """
    digits, recorded = from_arrays(images, labels, "MNIST"), from_arrays(*_golden(place), "golden")
    before, after = (examine(name, digits, one) for name, one in (("old", old), ("new", new)))
    known = [examine(name, recorded, one) for name, one in (("old", old), ("new", new))]
    return [
        of_digits(before, after, "held-out digits, wrong", MORE_ERRORS),
        of_rejected(before, after),
        of_golden(*known),
        *of_refusals(refusals({"old": old, "new": new}, images, DRAWN), "old", "new"),
        of_calibration(before, after),
    ]


def _golden(place: Path) -> tuple[Images, Labels]:
    """Return the recorded digits of a model, and what it reads in them."""
    try:
        with np.load(place / golden.FILE) as recorded:
            return recorded["images"], recorded["probabilities"].argmax(axis=1).astype(np.uint8)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"{place / golden.FILE} cannot be read ({error}): train the model again") from error


def table(rows: Sequence[Row], old: str, new: str) -> str:
    """Return the table as text; `old` and `new` are the versions of the models."""
    head = f"{'':32}{'of':>7}{'old':>10}{'new':>10}  allowed"
    return "\n".join([f"old: {old}, new: {new}", head, *(row.text() for row in rows)])


def check(rows: Sequence[Row]) -> None:
    """Raise `NotProven`, naming the rows, unless all allow the new model."""
    if failed := [row for row in rows if not row.passed]:
        raise NotProven("; ".join(f"{row.name}: {row.rule}" for row in failed))
