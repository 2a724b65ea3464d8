"""The thresholds: chosen as the card says they are."""

from __future__ import annotations

import numpy as np
import pytest

from worker.training.artefact.decision import NEVER, accept_from, digit_from, refusing, reject_below, thresholds
from worker.training.evaluation.measures import at_coverages, operating_points, risk_coverage


def answers(*pairs: tuple[float, bool]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([sure for sure, _ in pairs]), np.array([right for _, right in pairs], np.bool_)


def test_every_point_of_the_curve_names_the_confidence_that_it_is_taken_from():
    confidences, right = np.array([0.9, 0.5, 0.7, 0.5]), np.array([True, False, True, True])
    assert operating_points(confidences, right) == [(0.25, 0, 0.9), (0.5, 0, 0.7), (1, 0.25, 0.5)]


def test_a_short_curve_has_the_first_points_of_the_long_one_that_reach_what_is_asked_for():
    rng = np.random.default_rng(0)
    confidences, right = rng.random(1000), rng.random(1000) < 0.9
    long = operating_points(confidences, right)
    short = at_coverages(long, (0.0001, 0.0005, 0.5, 0.9995, 1))
    assert [point.coverage for point in short] == [0.001, 0.5, 1]
    assert set(short) < set(long)
    assert len(long) == 1000
    assert risk_coverage(confidences, right)[-1] == short[-1][:2]
    assert at_coverages(operating_points(confidences[:0], right[:0]), (0.5, 1)) == []


def test_an_answer_is_accepted_from_the_lowest_confidence_that_leaves_one_in_a_thousand_wrong():
    confidences = np.linspace(1, 0, 3000)
    right = np.ones(3000, bool)
    right[[1500, 2500, 2600]] = False
    # On the way the third error is one too many; of all 3,000 answers three may be wrong.
    assert accept_from(confidences, right) == 0
    right[2999] = False
    threshold = accept_from(confidences, right)
    assert threshold == confidences[2599]
    taken = confidences >= threshold
    assert (~right[taken]).mean() <= 0.001 < (~right).mean()


def test_nothing_is_accepted_where_the_surest_answer_is_wrong():
    assert accept_from(*answers((0.9, False), (0.8, True))) == NEVER
    assert accept_from(*answers()) == NEVER


def test_an_answer_is_rejected_below_the_highest_confidence_that_leaves_half_of_them_wrong():
    confidences, right = answers((0.2, False), (0.3, True), (0.4, False), (0.5, True), (0.6, True), (0.9, True))
    threshold = reject_below(confidences, right)
    assert np.flatnonzero(confidences < threshold).tolist() == [0, 1, 2, 3]
    assert threshold < 0.5001


def test_nothing_is_rejected_where_even_the_least_sure_answers_are_right():
    assert reject_below(*answers((0.2, True), (0.3, True), (0.9, False))) == 0
    assert reject_below(*answers()) == 0


def test_no_answer_that_is_more_likely_right_than_wrong_is_rejected():
    confidences, right = answers((0.4, False), (0.7, False), (0.8, True), (0.9, True))
    assert reject_below(confidences, right) > 0.8
    assert thresholds(confidences, right, np.ones(4))["reject"] == 0.5


@pytest.mark.parametrize("n", [40, 79, 1000])
def test_one_picture_of_a_digit_in_forty_may_be_refused_and_no_more(n):
    digitness = np.random.default_rng(n).random(n) / 2  # all below a half, so that the quantile decides
    threshold = digit_from(digitness)
    assert (digitness < threshold).sum() == n // 40
    assert threshold in digitness


def test_without_what_is_no_digit_nothing_is_refused_that_is_likely_one():
    assert digit_from(np.full(100, 0.99)) == 0.5
    assert digit_from(np.empty(0)) == 0


def test_the_threshold_keeps_away_from_both_sides():
    digits, others = np.full(100, 0.9), np.array([0.05, 0.1, 0.95])
    assert digit_from(digits, others) == pytest.approx((0.9 + 0.1) / 2)
    assert digit_from(digits, np.array([0.95])) == pytest.approx(0.45)
    assert digit_from(digits, others[:0]) == 0.5


def test_a_threshold_lets_at_most_as_many_non_digits_pass_as_it_is_told():
    others = np.array([0.9, 0.1, 0.5, 0.5, 0.2])
    assert [int((others >= refusing(others, passed)).sum()) for passed in range(6)] == [0, 1, 1, 3, 4, 5]
    assert refusing(others, 5) == 0


def test_what_is_accepted_is_never_rejected_whatever_the_answers():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        confidences = rng.random(30)
        chosen = thresholds(confidences, rng.random(30) < rng.random(), rng.random(30))
        assert 0 <= chosen["reject"] <= chosen["accept"] <= NEVER
        assert 0 <= chosen["digit"] <= 1
