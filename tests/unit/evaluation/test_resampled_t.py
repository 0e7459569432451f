"""The corrected resampled t over folds: its formula, and how often it holds the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.evaluation.folds import (
    paired_estimate,
    resampled_estimate,
    resampled_t_interval,
)
from medrobust.evaluation.intervals import share_interval
from statsmodels.stats.weightstats import DescrStatsW

FIVE = [0.512, 0.548, 0.471, 0.530, 0.499]


def test_five_folds_worked_by_hand():
    # Mean 0.512, s^2 0.00347 / 4, s^2 (1/5 + 1/4) = 0.000390375, t of 4 degrees 2.776445.
    low, high = resampled_t_interval(FIVE, 1 / 4)
    assert (low, high) == pytest.approx((0.457143, 0.566857), abs=1e-6)
    naive = resampled_t_interval(FIVE, 0.0)
    assert (high - low) / (naive[1] - naive[0]) == pytest.approx(1.5)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=10), st.sampled_from([0.8, 0.95]))
@example([0.0, 1.3077983310018505e-199], 0.8)
@settings(max_examples=60, deadline=None)
def test_without_shared_points_it_is_students(values, level):
    found = resampled_t_interval(values, 0.0, level)
    if len(set(values)) == 1:
        assert found == (None, None)
        return
    assert found == pytest.approx(DescrStatsW(values).tconfint_mean(alpha=1 - level), abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=3, max_size=8), st.floats(0, 2), st.floats(0, 2))
@settings(max_examples=60, deadline=None)
def test_more_shared_points_make_it_wider(values, one, other):
    narrow, wide = (resampled_t_interval(values, share) for share in sorted((one, other)))
    if narrow[0] is not None:
        assert wide[0] <= narrow[0] + 1e-12 and narrow[1] <= wide[1] + 1e-12


def test_an_estimate_says_what_it_covers():
    made = resampled_estimate(FIVE, test_per_train=0.25, n=1190, limits=(0.0, 1.0))
    assert made.value == pytest.approx(0.512) and (made.n, made.folds) == (1190, 5)
    assert (made.ci_low, made.ci_high) == resampled_t_interval(FIVE, 0.25)
    assert made.sd == pytest.approx(np.std(FIVE, ddof=1))
    assert made.basis == "corrected resampled t over 5 folds"
    points = share_interval(0, 464)
    none = resampled_estimate([0.0] * 5, test_per_train=0.25, n=464, points=points, replicates=3)
    assert (none.ci_low, none.ci_high) == points and none.sd == 0
    assert none.basis == (
        "corrected resampled t over 5 folds, mean of 3 trainings each, at least as wide as over "
        "points"
    )
    assert resampled_estimate([0.3] * 5, test_per_train=0.25, n=9).ci_low is None
    cut = resampled_estimate([0.9, 1.0, 1.0], test_per_train=0.5, n=9, limits=(0.0, 1.0))
    assert cut.ci_high == 1.0
    one = resampled_estimate([0.3], test_per_train=0.25, n=9)
    assert (one.value, one.ci_low, one.basis) == (0.3, None, "one fold: no interval over folds")


def test_pairs_lose_what_folds_have_in_common():
    hard = np.array([0.2, 0.1, 0.0, -0.1, -0.2])
    first, second = 0.6 + hard, 0.55 + hard + [0.01, -0.01, 0, 0.01, -0.01]
    made = paired_estimate(first, second, test_per_train=0.25, n=100)
    assert made.value == pytest.approx(0.05)
    assert (made.ci_low, made.ci_high) == pytest.approx(resampled_t_interval(first - second, 0.25))
    assert made.ci_low > 0 and made.ci_high - made.ci_low < 0.06
    apart = resampled_t_interval(first, 0.25)
    assert apart[1] - apart[0] > 0.5
    with pytest.raises(InputError, match="5 and 4 folds"):
        paired_estimate(first, second[:4], test_per_train=0.25, n=100)


def test_what_cannot_be_told():
    assert (
        resampled_t_interval([0.1] * 5, 0.25) == resampled_t_interval([0.1], 0.25) == (None, None)
    )
    for values in ([], [0.5, np.nan], [[0.5, 0.6]]):
        with pytest.raises(InputError, match="finite number of each fold"):
            resampled_t_interval(values, 0.25)
    for share in (-0.1, np.nan, np.inf):
        with pytest.raises(InputError, match="impossible"):
            resampled_t_interval(FIVE, share)


# How often it holds the truth.

FOLDS = 5


def nearest_means(x, y, train, test) -> np.ndarray:
    """Which test points are nearer to the mean of class 1, ``[trials, n_test]``."""
    means = [x[:, train & (y == label)].mean(axis=1) for label in (0, 1)]
    direction = means[1] - means[0]
    middle = (means[0] + means[1]) / 2
    return ((x[:, test] - middle[:, None]) * direction[:, None]).sum(axis=2) > 0


def cross_validations(trials: int, n: int, d: int, columns=slice(None)) -> np.ndarray:
    """Accuracies of two classes that differ in their first value, ``[trials, FOLDS]``."""
    random, y = np.random.default_rng(3), np.arange(n) % 2
    fold, found = np.arange(n) // 2 % FOLDS, []
    for _ in range(0, trials, 200):
        x = random.standard_normal((200, n, d)).astype(np.float32)
        x[:, :, 0] += 0.6 * (2 * y - 1)
        found.append(
            [
                (nearest_means(x[:, :, columns], y, fold != f, fold == f) == y[fold == f]).mean(1)
                for f in range(FOLDS)
            ]
        )
    return np.concatenate([np.stack(one, axis=1) for one in found])


def coverage(values: np.ndarray, test_per_train: float) -> float:
    truth = values.mean()
    ends = [resampled_t_interval(one, test_per_train) for one in values]
    return float(np.mean([low is None or low <= truth <= high for low, high in ends]))


@pytest.mark.parametrize(
    ("n", "d", "naive", "corrected"), [(300, 8, (0.92, 0.97), 0.97), (100, 40, (0.86, 0.93), 0.95)]
)
def test_it_holds_where_students_interval_does_not(n, d, naive, corrected):
    values = cross_validations(2000, n, d)
    # Three standard errors of 2,000 trials are .015.
    assert naive[0] <= coverage(values, 0.0) <= naive[1]
    assert coverage(values, 1 / (FOLDS - 1)) >= corrected


def test_differences_on_the_same_folds_are_covered_too():
    whole, part = (cross_validations(2000, 100, 40, columns) for columns in (slice(40), slice(20)))
    differences = part - whole
    assert differences.mean() > 0.01
    assert coverage(differences, 0.25) >= 0.95
