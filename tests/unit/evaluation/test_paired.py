"""Paired comparisons against SciPy, closed forms and a plain bootstrap."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.evaluation import intervals, paired, statistics


def rng(*names):
    return np.random.default_rng(names or 0)


def seeded(*names):
    """Returns a generator that depends on the names, not on their order."""
    return np.random.default_rng(sum(map(ord, "".join(sorted(names)))))


def series(values, points=None):
    points = range(len(values)) if points is None else points
    return pd.Series(values, index=points, dtype=float)


# --- values by point ---


def test_a_point_counts_with_its_mean_over_replicates():
    mean = paired.mean_over_replicates(
        [series([1.0, np.inf, 3.0], [7, 2, 5]), series([4.0, 1.0, 2.0], [5, 2, 7])]
    )
    assert mean.to_dict() == {2: np.inf, 5: 3.5, 7: 1.5}
    assert list(mean.index) == [2, 5, 7]


@pytest.mark.parametrize(
    "replicates, message",
    [
        ([], "one value for every point"),
        ([series([])], "one value for every point"),
        ([series([1.0, 2.0], [3, 3])], "one value for every point"),
        ([series([1.0, 2.0]), series([1.0, 2.0], [1, 2])], "different points"),
        ([series([1.0, 2.0]), series([1.0])], "different points"),
    ],
)
def test_replicates_must_hold_the_same_points(replicates, message):
    with pytest.raises(InputError, match=message):
        paired.mean_over_replicates(replicates)


def test_models_on_other_points_are_left_out():
    values = {
        "a": series([1.0, 2.0], [1, 2]),
        "b": series([1.0, 2.0], [1, 3]),
        "c": series([3.0, 4.0], [1, 2]),
        "d": series([5.0], [1]),
    }
    together, apart = paired.common_points(values)
    assert list(together.columns) == ["a", "c"] and apart == ["b", "d"]
    assert together["c"].to_dict() == {1: 3.0, 2: 4.0}
    # A tie goes to the first.
    assert paired.common_points({"b": values["b"], "a": values["a"]})[1] == ["a"]
    assert paired.common_points({})[0].empty


# --- bootstrap ---


@given(
    st.lists(st.sampled_from([0.0, 0.25, 1.0, 7.0]), min_size=2, max_size=40),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=30, deadline=None)
def test_resampled_means_have_the_bootstraps_moments(values, seed):
    values = np.array(values)
    draws = paired.resampled_means(values[:, None], np.random.default_rng(seed))[:, 0]
    assert draws.shape == (statistics.RESAMPLES,)
    # Exact: the mean of draws is the sample's, their variance that of the sample over n.
    error = values.std() / np.sqrt(values.size) / np.sqrt(draws.size)
    assert abs(draws.mean() - values.mean()) <= 5 * error + 1e-12
    assert draws.var() == pytest.approx(values.var() / values.size, rel=0.15, abs=1e-12)


def test_resampled_means_equal_a_plain_bootstrap_in_distribution():
    values = np.concatenate([rng(1).lognormal(size=12), [0.3] * 9, [5.0]])
    draws = paired.resampled_means(values[:, None], np.random.default_rng(0))[:, 0]
    index = np.random.default_rng(1).integers(0, values.size, (20_000, values.size))
    plain = values[index].mean(axis=1)
    tails = (0.025, 0.1, 0.5, 0.9, 0.975)
    assert np.quantile(draws, tails) == pytest.approx(np.quantile(plain, tails), rel=0.03)


def test_whole_points_are_drawn_and_blocks_are_joined(monkeypatch):
    first = rng(2).random(30)
    monkeypatch.setattr(paired, "_BLOCK", 7 * 30)
    draws = paired.resampled_means(np.column_stack([first, 3 * first + 1]), rng(), 100)
    assert draws.shape == (100, 2)
    assert draws[:, 1] == pytest.approx(3 * draws[:, 0] + 1)
    assert len(np.unique(draws[:, 0])) > 90


def test_a_large_test_set_is_drawn_from_its_counts():
    # 21,892 points: a plain bootstrap would draw two hundred million of them.
    gaps = np.repeat([1.0, 0.0, -1.0], [700, 20_892, 300])
    draws = paired.resampled_means(gaps[:, None], rng())[:, 0]
    assert draws.std() == pytest.approx(gaps.std() / np.sqrt(gaps.size), rel=0.05)


@pytest.mark.parametrize("bad", [[], [[np.nan]], [[1.0], [np.inf]], [1.0, 2.0]])
def test_only_finite_values_of_points_are_resampled(bad):
    with pytest.raises(InputError, match="finite values"):
        paired.resampled_means(np.array(bad), rng())


def test_a_ratio_over_nothing_is_infinite():
    draws = paired.ratio_draws(np.array([1.0, 0.0]), np.array([0.0, 0.0]), rng())
    assert set(draws) == {np.inf, 1.0}


# --- pairs ---


@pytest.fixture
def values():
    base = rng(5).lognormal(size=21)
    return pd.DataFrame(
        {"a": base, "b": base * 1.5 + rng(6).normal(0, 0.2, 21).clip(-0.4), "c": base + 0.1}
    )


def test_pairs_have_the_test_and_the_sizes(values):
    pairs = [("b", "a"), ("c", "a")]
    result = paired.compare_pairs(values, pairs, seeded).set_index(["first", "second"])
    assert list(result.index) == pairs
    row = result.loc[("b", "a")]
    difference = (values["b"] - values["a"]).to_numpy()
    p, used = statistics.signed_rank_p(difference)
    assert (row["p"], row["pairs"], row["n"]) == (p, used, 21)
    constant = statistics.smallest_p(21)
    assert result["p_holm"].tolist() == pytest.approx(
        statistics.holm([p, result.loc[("c", "a"), "p"]])
    )
    # c is above a everywhere by the same amount: no spread to tell an interval from.
    other = result.loc[("c", "a")]
    assert other["p"] == pytest.approx(constant)
    assert other["mean_difference"] == pytest.approx(0.1)
    assert np.isnan(other[["mean_difference_low", "mean_difference_high"]].astype(float)).all()
    assert row["mean_difference"] == pytest.approx(difference.mean())
    assert row["median_difference"] == pytest.approx(np.median(difference))
    assert row["ratio"] == pytest.approx(values["b"].mean() / values["a"].mean())
    ends = intervals.mean_interval(difference, generator=seeded("b", "a", "mean difference"))
    assert (row["mean_difference_low"], row["mean_difference_high"]) == ends
    ends = intervals.ratio_interval(
        values["b"].to_numpy(), values["a"].to_numpy(), generator=seeded("b", "a", "ratio")
    )
    assert (row["ratio_low"], row["ratio_high"]) == ends
    assert row["median_difference_low"] <= row["median_difference"] <= row["median_difference_high"]
    assert row["censored"] == 0


def test_the_other_order_is_the_mirror_image(values):
    one = paired.compare_pairs(values, [("b", "a")], seeded).iloc[0]
    two = paired.compare_pairs(values, [("a", "b")], seeded).iloc[0]
    for name in ("mean_difference", "median_difference"):
        assert one[name] == pytest.approx(-two[name])
        assert one[f"{name}_low"] == pytest.approx(-two[f"{name}_high"])
    assert one["ratio"] == pytest.approx(1 / two["ratio"])
    assert one["p"] == two["p"] and one["first_larger"] == two["second_larger"]


def test_censored_points_leave_the_mean_undefined():
    values = pd.DataFrame(
        {
            "a": [np.inf, np.inf, 1.0, 2.0, 3.0, 4.0],
            "b": [1.0, 1.0, 0.5, 0.5, 0.5, 0.5],
            "c": [np.inf, 1.0, 1.0, 1.0, 1.0, 1.0],
            "d": [1.0, 1.0, np.inf, np.inf, np.inf, 1.0],
        }
    )
    pairs = [("a", "b"), ("a", "c"), ("a", "d"), ("b", "c")]
    result = paired.compare_pairs(values, pairs, seeded).set_index(["first", "second"])
    assert result["censored"].tolist() == [2, 2, 5, 1]
    for name in ("mean_difference", "mean_difference_low", "ratio", "ratio_high"):
        assert result[name].isna().all()
    # Differences inf, inf, .5, 1.5, 2.5, 3.5: the median is finite.
    assert result.loc[("a", "b"), "median_difference"] == pytest.approx(3.0)
    assert result.loc[("a", "b"), "median_difference_high"] == np.inf
    # Both censored at a point, or each at another: no median either.
    assert result.loc[[("a", "c"), ("a", "d")], "median_difference"].isna().all()
    assert result.loc[("b", "c"), "median_difference"] == -0.5
    assert result.loc[("a", "b"), "first_larger"] == 6


def test_a_mean_of_zero_has_no_ratio_and_unknown_models_are_refused(values):
    zero = pd.DataFrame({"a": [1.0, 2.0], "b": [0.0, 0.0]})
    row = paired.compare_pairs(zero, [("a", "b")], seeded).iloc[0]
    assert np.isnan(row["ratio"]) and row["mean_difference"] == 1.5
    with pytest.raises(InputError, match="no distances"):
        paired.compare_pairs(values, [("a", "z")], seeded)
