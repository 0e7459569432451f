"""The interval over folds, against statsmodels and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.evaluation.intervals import share_interval
from medrobust.evaluation.statistics import fold_estimate
from statsmodels.stats.weightstats import DescrStatsW


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=10), st.sampled_from([0.8, 0.95, 0.99]))
@example([0.0, 1.3077983310018505e-199], 0.8)  # its variance underflows to 0
@example([0.1, 0.1, 0.1], 0.95)  # its mean is rounded, and so no value equals it
@settings(max_examples=60, deadline=None)
def test_it_is_students_interval_of_the_mean(values, level):
    made = fold_estimate(values, n=7, level=level)
    assert made.value == pytest.approx(np.mean(values))
    expected = DescrStatsW(values).tconfint_mean(alpha=1 - level)
    if len(set(values)) == 1:  # no spread to tell anything from
        assert (made.ci_low, made.ci_high) == (None, None)
        return
    assert (made.ci_low, made.ci_high) == pytest.approx(expected, abs=1e-9)


def test_it_is_never_narrower_than_over_points():
    """Three folds of 10 of 10 each are no certainty."""
    points = share_interval(30, 30)
    made = fold_estimate([1.0] * 3, n=30, points=points, limits=(0.0, 1.0))
    assert (made.ci_low, made.ci_high) == points and made.ci_low < 0.9
    assert made.basis == "t over 3 folds, at least as wide as over points"
    wider = fold_estimate([0.6, 0.7, 0.8], n=3000, points=share_interval(2100, 3000))
    alone = fold_estimate([0.6, 0.7, 0.8], n=3000)
    assert (wider.ci_low, wider.ci_high) == (alone.ci_low, alone.ci_high)


def test_it_says_what_it_covers():
    made = fold_estimate([0.6, 0.7, 0.8], n=90, limits=(0.0, 1.0))
    assert (made.basis, made.folds, made.n, made.replicates) == ("t over 3 folds", 3, 90, 1)
    # 0.7 +- 4.303 * 0.1 / sqrt(3), worked by hand.
    assert (made.ci_low, made.ci_high) == pytest.approx((0.4516, 0.9484), abs=1e-4)
    several = fold_estimate([0.6, 0.7, 0.8], n=90, replicates=4)
    assert several.basis == "t over 3 folds, mean of 4 trainings each" and several.replicates == 4


def test_ends_do_not_leave_the_limits():
    made = fold_estimate([0.97, 1.0, 1.0], n=30, limits=(0.0, 1.0))
    assert made.ci_high == 1.0 and 0.9 < made.ci_low < 0.97
    assert fold_estimate([0.0, 0.1], n=30, limits=(0.0, np.inf)).ci_low == 0.0


def test_one_fold_has_no_interval_over_folds():
    made = fold_estimate([0.9], n=30)
    assert (made.value, made.ci_low, made.ci_high, made.folds) == (0.9, None, None, 1)
    assert made.basis == "one fold: no interval over folds"


@pytest.mark.parametrize("values", [[], [0.5, np.nan], [0.5, np.inf], [[0.5, 0.6]]])
def test_it_refuses_what_is_no_number_of_each_fold(values):
    with pytest.raises(InputError, match="finite number of each fold"):
        fold_estimate(values, n=3)


@pytest.mark.parametrize("folds", [3, 5, 10])
def test_it_covers_the_truth_where_folds_are_independent(folds):
    random = np.random.default_rng(folds)
    # Accuracy on 100 points by models that differ from fold to fold.
    skill = random.normal(0.8, 0.03, (4000, folds))
    shares = random.binomial(100, skill) / 100
    made = [
        fold_estimate(
            one,
            n=100 * folds,
            points=share_interval(one.sum() * 100, 100 * folds),
            limits=(0.0, 1.0),
        )
        for one in shares
    ]
    covered = np.mean([one.ci_low <= 0.8 <= one.ci_high for one in made])
    # Three standard errors of the simulation; the interval over points adds what it may.
    assert 0.94 <= covered <= 0.98


def test_folds_that_depend_on_each_other_are_covered_less_often():
    """What the text warns of: a part that all folds share is not in their spread."""
    random = np.random.default_rng(0)
    common = random.normal(0, 0.03, (2000, 1))
    values = 0.8 + common + random.normal(0, 0.03, (2000, 5))
    made = [fold_estimate(one, n=500) for one in values]
    assert np.mean([one.ci_low <= 0.8 <= one.ci_high for one in made]) < 0.85
