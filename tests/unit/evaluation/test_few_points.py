"""Means of small samples, against all samples that there are."""

import itertools

import numpy as np
import pytest
from medrobust.evaluation.few_points import means_of_few, middle_range


def test_means_of_few_are_those_of_all_combinations():
    values = np.array([[1.0, 10], [2, 0], [4, 0], [8, 5]])
    means = means_of_few(values, 2, np.random.default_rng(0), draws=60_000)
    of_pairs = [values[list(pair)].mean(axis=0) for pair in itertools.combinations(range(4), 2)]
    found, counts = np.unique(means, axis=0, return_counts=True)
    assert sorted(map(tuple, found)) == sorted(map(tuple, of_pairs))
    # Each of the six pairs is as likely as another, and no point stands twice in a sample.
    assert counts / len(means) == pytest.approx(np.full(6, 1 / 6), abs=0.01)


def test_spread_is_that_of_sampling_without_replacement():
    values = np.random.default_rng(1).normal(size=(50, 1))
    means = means_of_few(values, 5, np.random.default_rng(2))
    assert means.mean() == pytest.approx(values.mean(), abs=0.02)
    assert means.var() == pytest.approx(values.var(ddof=1) / 5 * (1 - 5 / 50), rel=0.05)


def test_fewer_points_than_asked_for_and_censored_ones():
    values = np.array([[1.0], [3.0], [np.inf]])
    assert (means_of_few(values[:2], 5, np.random.default_rng(0), draws=4) == 2.0).all()
    means = means_of_few(values, 1, np.random.default_rng(0))[:, 0]
    assert middle_range(means) == (1.0, np.inf)
    assert middle_range(np.arange(101.0)) == pytest.approx((2.5, 97.5))
