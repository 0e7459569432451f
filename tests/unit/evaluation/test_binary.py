"""Metrics of two classes against scikit-learn, and intervals over points."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.evaluation import binary
from medrobust.evaluation.balanced import Cells
from medrobust.evaluation.binary import BinaryCounts
from medrobust.evaluation.folds import resampled_t_interval
from medrobust.evaluation.intervals import share_interval
from medrobust.evaluation.tally import make_tally, read_tally
from sklearn import metrics
from sklearn.calibration import calibration_curve

from tests.unit.attack_records import clean_table, level_records

SKLEARN = {
    "F1": lambda y, p: metrics.f1_score(y, p, zero_division=np.nan),
    "sensitivity": lambda y, p: metrics.recall_score(y, p, zero_division=np.nan),
    "specificity": lambda y, p: metrics.recall_score(y, p, pos_label=0, zero_division=np.nan),
    "precision": lambda y, p: metrics.precision_score(y, p, zero_division=np.nan),
}


def counts(y, predicted, positive: int = 1) -> BinaryCounts:
    ones = np.ones(len(y), dtype=np.int64)
    return binary.counts_of(Cells(np.asarray(y), np.asarray(predicted), 7 * ones, ones), positive)


labelled = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=20)


@given(labelled)
@settings(max_examples=150, deadline=None)
def test_rates_are_those_of_scikit_learn(pairs):
    y, predicted = np.array(pairs).T
    found = counts(y, predicted)
    assert found.points == len(y)
    for metric, expected in SKLEARN.items():
        value = expected(y, predicted)
        if np.isnan(value) or (metric == "F1" and not y.any()):  # there: 0 whatever is called so
            assert binary.rate(found, metric) is None and binary.undefined(found, metric)
        else:
            assert binary.rate(found, metric) == pytest.approx(value, abs=1e-12)
            assert binary.undefined(found, metric) == ""


def test_what_is_not_defined_has_a_reason():
    nobody_called = BinaryCounts(0, 5, 0, 5)
    assert binary.rate(nobody_called, "F1") == 0  # there are positives
    assert binary.rate(nobody_called, "precision") is None
    assert binary.undefined(nobody_called, "precision") == "no point is called positive"
    for called in (0, 2):
        assert binary.undefined(BinaryCounts(0, 0, called, 5), "F1") == "no point is positive"
    assert binary.undefined(BinaryCounts(0, 0, 2, 5), "sensitivity") == "no point is positive"
    assert binary.undefined(BinaryCounts(3, 0, 0, 0), "specificity") == "no point is negative"


def test_any_class_may_be_the_positive_one():
    y, predicted = np.array([0, 1, 2, 2, 1]), np.array([0, 2, 2, 1, 1])
    found = counts(y, predicted, positive=2)
    assert found == BinaryCounts(1, 1, 1, 2)


def test_a_tally_counts_each_point_once(tmp_path):
    """Whatever a balanced set would repeat; of several runs the worst, or their mean."""
    random = np.random.default_rng(0)
    y = (random.random(60) < 0.4).astype(int)
    clean = clean_table(y, np.where(random.random(60) < 0.8, y, 1 - y))
    found = [np.where(random.random(60) < 0.5, y, 1 - y) for _ in range(2)]
    records = [level_records(clean, {0.1: one}, restart=k) for k, one in enumerate(found)]
    make_tally(clean, pd.concat(records)).to_csv(tmp_path / "t.csv", index=False)
    tally = read_tally(tmp_path / "t.csv")
    right = clean["prediction"] == y
    worst = np.where(right & (found[0] == y) & (found[1] == y), y, 1 - y)
    for level, predicted in ((0.0, clean["prediction"]), (0.1, worst)):
        made = binary.counts_of(tally.cells(level))
        assert binary.rate(made, "F1") == pytest.approx(metrics.f1_score(y, predicted))
        assert made.points == 60
    mean = binary.counts_of(tally.cells(0.1, "each_run"))
    each = [np.where(right, one, clean["prediction"]) for one in found]
    assert mean.true_positive == np.mean([((one == 1) & (y == 1)).sum() for one in each])


@given(labelled, st.sampled_from(binary.RATES))
@settings(max_examples=80, deadline=None)
def test_intervals_over_points_hold_the_rate(pairs, metric):
    found = counts(*np.array(pairs).T)
    value, (low, high) = binary.rate(found, metric), binary.rate_interval(found, metric)
    if value is None:
        assert low is high is None
    else:
        assert 0 <= low <= value + 1e-12 and value - 1e-12 <= high <= 1


def test_intervals_over_points_are_those_of_shares():
    found = BinaryCounts(30, 10, 20, 60)
    assert binary.rate_interval(found, "sensitivity") == share_interval(30, 40)
    low, high = share_interval(30, 60)
    assert binary.rate_interval(found, "F1") == (2 * low / (1 + low), 2 * high / (1 + high))


@pytest.mark.parametrize("metric", binary.RATES)
def test_intervals_over_points_cover_the_truth(metric):
    random = np.random.default_rng(1)
    chances = np.array([0.22, 0.16, 0.10, 0.52])  # of the four cells
    truth = binary.rate(BinaryCounts(*chances * 1e6), metric)
    drawn = random.multinomial(240, chances, 2000)
    ends = [binary.rate_interval(BinaryCounts(*one), metric) for one in drawn]
    assert 0.935 <= np.mean([low <= truth <= high for low, high in ends]) <= 0.98


# --- estimates over folds ---


def fold_counts(*sensitive: int) -> dict[int, list[BinaryCounts]]:
    """Of 40 positive and 60 negative points of each fold so many positives found, 6 false calls."""
    return {k: [BinaryCounts(tp, 40 - tp, 6, 54)] for k, tp in enumerate(sensitive)}


def test_an_estimate_is_the_mean_over_folds():
    made = binary.rate_estimate(fold_counts(20, 24, 18, 30, 22), "sensitivity", test_per_train=0.25)
    values = np.array([20, 24, 18, 30, 22]) / 40
    assert made.value == pytest.approx(values.mean()) and made.sd == pytest.approx(
        values.std(ddof=1)
    )
    assert (made.ci_low, made.ci_high) == pytest.approx(resampled_t_interval(values, 0.25))
    assert (made.n, made.folds, made.replicates) == (500, 5, 1)


def test_folds_without_a_spread_have_the_interval_over_their_points():
    made = binary.rate_estimate(fold_counts(0, 0, 0, 0, 0), "F1", test_per_train=0.25)
    assert made.value == 0 and made.ci_low == 0
    _, high = share_interval(0, 5 * 46)
    assert made.ci_high == pytest.approx(2 * high / (1 + high)) and 0 < made.ci_high < 0.04


def test_one_undefined_fold_leaves_no_mean():
    folds = fold_counts(20, 24, 18)
    folds[1] = [BinaryCounts(0, 40, 0, 60)]
    made = binary.rate_estimate(folds, "precision", test_per_train=0.5)
    assert made.value is made.ci_low is None and made.folds == 3
    assert made.basis == "precision is not defined (fold 1: no point is called positive)"
    f1 = binary.rate_estimate(folds, "F1", test_per_train=0.5)
    assert f1.value == pytest.approx(np.mean([40 / 66, 0, 36 / 64]))
    alone = binary.rate_estimate({0: folds[1]}, "precision", test_per_train=0.5)
    assert alone.basis == "precision is not defined (no point is called positive)"


def test_trainings_of_one_fold():
    once = binary.rate_estimate({0: [BinaryCounts(20, 20, 6, 54)]}, "F1", test_per_train=0.25)
    assert once.basis == "one training, over points alone (Agresti-Coull)" and once.sd is None
    three = {0: [BinaryCounts(tp, 40 - tp, 6, 54) for tp in (20, 22, 27)]}
    made = binary.rate_estimate(three, "F1", test_per_train=0.25)
    assert made.replicates == 3 and made.further_low < made.ci_low < made.value
    assert "and trainings (t)" in made.basis
    several = {0: three[0], 1: three[0][::-1]}
    made = binary.rate_estimate(several, "F1", test_per_train=1.0)
    assert made.replicates == 3 and "mean of 3 trainings each" in made.basis and made.n == 200


# --- probabilities ---


def scored(seed: int, n: int = 200):
    random = np.random.default_rng(seed)
    probability = random.random(n)
    return random.random(n) < probability, probability


def test_auc_counts_pairs():
    positive, probability = scored(0, 60)
    probability = np.round(probability, 1)  # ties
    above = probability[positive][:, None] - probability[~positive]
    pairs = (above > 0).mean() + 0.5 * (above == 0).mean()
    assert binary.auc(positive, probability) == pytest.approx(pairs)
    assert binary.auc(positive, -probability) == pytest.approx(1 - pairs)
    assert binary.auc(np.ones(3, bool), np.ones(3)) is None


def test_brier_score_is_a_mean_of_squares():
    positive, probability = scored(1)
    expected = np.mean((probability - positive) ** 2)
    assert binary.brier_score(positive, probability) == pytest.approx(expected)
    assert binary.brier_score(np.ones(4, bool), np.ones(4)) == 0  # one class alone
    assert binary.brier_score(positive[:0], probability[:0]) is None


@pytest.mark.parametrize("bins", [5, 10, 15])
@pytest.mark.parametrize("seed", range(4))
def test_calibration_error_is_that_of_scikit_learns_curve(bins, seed):
    positive, probability = scored(seed)
    probability[:3] = [0.0, 1.0, 0.5]
    edges = np.linspace(0, 1, bins + 1)
    share, mean = calibration_curve(positive, probability, n_bins=bins, strategy="uniform")
    number = np.bincount(np.searchsorted(edges[1:-1], probability), minlength=bins)
    expected = (np.abs(share - mean) * number[number > 0]).sum() / len(positive)
    # A probability on an edge may go to either side.
    assert binary.expected_calibration_error(positive, probability, bins) == pytest.approx(
        expected, abs=2 / len(positive)
    )
    inside = np.abs(probability[:, None] * bins - np.arange(bins + 1)).min(axis=1) > 1e-9
    share, mean = calibration_curve(
        positive[inside], probability[inside], n_bins=bins, strategy="uniform"
    )
    number = np.bincount(np.searchsorted(edges[1:-1], probability[inside]), minlength=bins)
    expected = (np.abs(share - mean) * number[number > 0]).sum() / inside.sum()
    found = binary.expected_calibration_error(positive[inside], probability[inside], bins)
    assert found == pytest.approx(expected, abs=1e-12)


def test_calibration_error_worked_by_hand():
    positive = np.array([True, False, True, True])
    probability = np.array([0.11, 0.19, 0.95, 1.0])
    # Bin [.1, .2): one of two, mean .15; bin [.9, 1]: both, mean .975.
    expected = 0.5 * abs(0.5 - 0.15) + 0.5 * abs(1 - 0.975)
    assert binary.expected_calibration_error(positive, probability) == pytest.approx(expected)
    assert binary.expected_calibration_error(positive[:0], probability[:0]) is None


def test_scores_over_folds():
    folds = {k: [scored(k)] for k in range(5)}
    for metric, of in binary.SCORES.items():
        values = [of(*folds[k][0]) for k in range(5)]
        made = binary.score_estimate(folds, metric, test_per_train=0.25)
        assert made.value == pytest.approx(np.mean(values)) and made.n == 1000
        assert (made.ci_low, made.ci_high) == pytest.approx(resampled_t_interval(values, 0.25))
    folds[2] = [(np.ones(4, bool), np.full(4, 0.5))]
    made = binary.score_estimate(folds, "AUC", test_per_train=0.25)
    assert (
        made.value is None
        and made.basis == "AUC is not defined (fold 2: points of one class alone)"
    )
    one = binary.score_estimate({0: [scored(0)]}, "AUC", test_per_train=0.25)
    assert one.ci_low is None and one.basis == "one fold: no interval over folds"
    with pytest.raises(InputError, match=r"not in \[0, 1\]"):
        binary.score_estimate({0: [(np.ones(2, bool), np.array([0.5, np.nan]))]}, "AUC",
                              test_per_train=0.25)  # fmt: skip
