"""Intervals: against other libraries and exact sums, and how often they cover the truth.

``benchmarks/bench_coverage.py`` simulates more cases, and the numbers of docs/results.md.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.evaluation import intervals, statistics
from scipy.stats import binom, t

#: The least coverage of an interval that a table prints.
LEAST = 0.93


def rng(seed=0):
    return np.random.default_rng(seed)


# --- shares ---


@given(st.integers(1, 30000), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
@settings(max_examples=80, deadline=None)
def test_shares_equal_statsmodels(n, share, level):
    from statsmodels.stats.proportion import proportion_confint

    successes = round(share * n)
    low, high = proportion_confint(successes, n, alpha=1 - level, method="agresti_coull")
    found = intervals.share_interval(successes, n, level)
    ends = (0.0 if successes == 0 else low, 1.0 if successes == n else high)
    assert found == pytest.approx(np.clip(ends, 0, 1), abs=1e-12)
    assert 0 <= found[0] <= successes / n <= found[1] <= 1


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (3, 2), (-1, 5)])
def test_impossible_counts_are_refused(successes, n):
    with pytest.raises(InputError, match="impossible"):
        intervals.share_interval(successes, n)


@pytest.mark.parametrize("n", [20, 60, 200, 2000])
def test_shares_are_covered_whatever_they_are(n):
    """Exact: the chance of each count times whether its interval holds the share."""
    ends = np.array([intervals.share_interval(x, n) for x in range(n + 1)])
    shares = np.concatenate([np.geomspace(1e-2 / n, 0.5, 300), np.linspace(0.001, 0.5, 300)])
    inside = (ends[:, :1] <= shares) & (shares <= ends[:, 1:])
    covered = (inside * binom.pmf(np.arange(n + 1)[:, None], n, shares)).sum(axis=0)
    assert covered.min() >= 0.928


# --- means and ratios ---


def test_means_of_equal_or_single_points_have_no_interval():
    for values in ([2.0], [2.0] * 5, [0.1 + 0.2, 0.3]):
        assert intervals.mean_interval(np.array(values), generator=rng()) == (None, None)
    with pytest.raises(InputError, match="finite"):
        intervals.mean_interval(np.array([1.0, np.inf]), generator=rng())


def test_a_mean_is_never_narrower_than_students_interval_and_skewed_where_values_are():
    values = rng(3).lognormal(size=25)
    low, high = intervals.mean_interval(values, generator=rng())
    half = t(24).ppf(0.975) * values.std(ddof=1) / 5
    assert low <= values.mean() - half and high > values.mean() + 1.2 * half
    # Two points: nothing but their distance is known.
    low, high = intervals.mean_interval(np.array([1.0, 3.0]), generator=rng())
    assert (low, high) == pytest.approx((2 - 12.706, 2 + 12.706), abs=1e-3)


def test_a_mean_is_studentised_as_by_a_plain_loop():
    values = rng(5).exponential(size=12)
    low, high = intervals.mean_interval(values, generator=rng(1), resamples=4000)
    random, drawn = rng(2), []
    for _ in range(4000):
        some = random.choice(values, 12)
        drawn.append((some.mean() - values.mean()) / (some.std(ddof=1) / np.sqrt(12)))
    error, wide = values.std(ddof=1) / np.sqrt(12), t(11).ppf(0.975)
    ends = np.quantile(drawn, (0.975, 0.025))
    assert low == pytest.approx(values.mean() - error * max(ends[0], wide), abs=0.1 * error)
    assert high == pytest.approx(values.mean() + error * max(-ends[1], wide), rel=0.1)


def test_blocks_draw_what_one_call_draws(monkeypatch):
    values = rng(1).lognormal(size=30)
    whole = intervals.mean_interval(values, generator=rng(5), resamples=500)
    monkeypatch.setattr(intervals, "_BLOCK", 30 * 7)
    assert intervals.mean_interval(values, generator=rng(5), resamples=500) == whole


def test_a_ratio_knows_nothing_of_units_and_of_what_both_have_in_common():
    under = rng(1).lognormal(size=30)
    over = under * rng(2).uniform(0.7, 1.0, 30)
    one = intervals.ratio_interval(over, under, generator=rng())
    assert intervals.ratio_interval(8 * over, 8 * under, generator=rng()) == pytest.approx(one)
    ratio = over.mean() / under.mean()
    assert one[0] < ratio < one[1] < ratio + 0.1
    part = over - ratio * under
    error = part.std(ddof=1) / np.sqrt(30) / under.mean()
    assert one[1] - one[0] == pytest.approx(2 * t(29).ppf(0.975) * error, rel=0.25)
    assert intervals.ratio_interval(0.8 * under, under, generator=rng()) == (None, None)
    with pytest.raises(InputError, match="positive"):
        intervals.ratio_interval(over, 0 * under, generator=rng())


POPULATIONS = {
    "normal": (lambda r, size: 3 + r.standard_normal(size), 3.0),
    "exponential": (lambda r, size: r.exponential(size=size), 1.0),
    "a fifth at distance 0": (
        lambda r, size: r.exponential(size=size) * (r.random(size) > 0.2),
        0.8,
    ),
    "log-normal": (lambda r, size: np.exp(0.5 * r.standard_normal(size)), np.exp(0.125)),
}


def covered(hits: list[bool]) -> float:
    """Returns the share of hits, and what chance may have taken off it."""
    share = float(np.mean(hits))
    return share + 2.5 * np.sqrt(LEAST * (1 - LEAST) / len(hits))


@pytest.mark.parametrize("name", POPULATIONS)
def test_means_of_few_points_are_covered(name):
    draw, truth = POPULATIONS[name]
    hits = []
    for trial in range(600):
        values = draw(rng([trial, 1]), 21)
        low, high = intervals.mean_interval(values, generator=rng(trial), resamples=600)
        hits.append(low <= truth <= high)
    assert covered(hits) >= LEAST


# --- medians ---


@given(st.integers(6, 400))
@settings(max_examples=60, deadline=None)
def test_medians_lie_between_order_statistics_with_at_least_their_chance(n):
    low, high = intervals.median_interval(np.arange(n, dtype=float))
    below = int(low)  # values below the low end
    assert low + high == n - 1
    # The median is outside if at most `below` points are under it; one step further is too much.
    assert 2 * binom.cdf(below, n, 0.5) <= 0.05 + 1e-12
    assert 2 * binom.cdf(below + 1, n, 0.5) > 0.05


def test_a_median_may_be_unbounded_and_needs_six_points():
    assert intervals.median_interval(np.arange(5.0)) == (None, None)
    values = np.array([1.0, 2, 3, 4, 5, 6, np.inf, np.inf])
    assert intervals.median_interval(values) == (1.0, np.inf)
    with pytest.raises(InputError, match="numbers"):
        intervals.median_interval(np.array([1.0, np.nan]))


# --- trainings ---


def test_the_parts_of_an_interval_add_in_squares():
    assert intervals.joined(0.5, [(0.2, 0.6), (0.1, 0.5)]) == pytest.approx((0.0, 0.6))


def test_over_trainings_is_students_interval_where_points_say_nothing():
    values = [0.4, 0.5, 0.7, 0.6]
    mean = float(np.mean(values))
    low, high = intervals.over_trainings(mean, (mean, mean), values)
    wanted = t.interval(0.95, 3, loc=mean, scale=np.std(values, ddof=1) / 2)
    assert (low, high) == pytest.approx(wanted)
    low, high = intervals.over_trainings(mean, (mean, mean), values, further=True)
    half = t(3).ppf(0.975) * np.std(values, ddof=1) * np.sqrt(1.25)
    assert (low, high) == pytest.approx((mean - half, mean + half))
    ends = intervals.over_trainings(mean, (mean, mean), values, further=True, limits=(0.3, 0.9))
    assert ends == (0.3, 0.9)
    assert intervals.over_trainings(mean, (None, None), values) == (None, None)


def test_equal_trainings_keep_the_interval_over_points():
    """Three times 10 of 10 is not certainty."""
    found = statistics.accuracy_estimate([10, 10, 10], 10)
    assert (found.ci_low, found.ci_high) == intervals.share_interval(10, 10)
    assert found.ci_low < 0.75 and found.sd == 0


def test_draws_spread_as_the_interval_does():
    values = [0.4, 0.5, 0.7, 0.6]
    draws = intervals.training_draws(np.full(200_000, 0.55), values, rng())
    wanted = t.interval(0.95, 3, loc=0.55, scale=np.std(values, ddof=1) / 2)
    assert intervals.quantiles(draws) == pytest.approx(wanted, abs=0.005)


def trained(random, replicates, n, points_sd, training_sd, mean=0.7):
    """Correct points of trainings on shared test points: hard points, and better trainings."""
    hard = random.normal(0, points_sd, n)
    better = random.normal(0, training_sd, (replicates, 1))
    return random.random((replicates, n)) < np.clip(mean + hard + better, 0, 1)


@pytest.mark.parametrize("replicates", [3, 4, 5])
@pytest.mark.parametrize(("points_sd", "training_sd"), [(0.1, 0.0), (0.1, 0.06), (0.0, 0.06)])
def test_shares_of_few_trainings_are_covered(replicates, points_sd, training_sd):
    hits, further = [], []
    for trial in range(1200):
        random = rng([trial, replicates])
        right = trained(random, replicates, 400, points_sd, training_sd)
        found = statistics.accuracy_estimate(right.sum(axis=1), 400)
        hits.append(found.ci_low <= 0.7 <= found.ci_high)
        other = trained(random, 1, 400, points_sd, training_sd).mean()
        further.append(found.further_low <= other <= found.further_high)
    assert covered(hits) >= LEAST and covered(further) >= LEAST
    assert np.mean(hits) < 0.999 or training_sd == 0


@pytest.mark.parametrize("replicates", [3, 5])
def test_mean_distances_of_few_trainings_are_covered(replicates):
    hits = []
    for trial in range(400):
        random = rng([trial, replicates])
        point = random.exponential(size=37)
        training = np.exp(random.normal(0, 0.2, (replicates, 1)))
        found = statistics.mean_estimate(
            list(point * training), generator=rng(trial), resamples=400
        )
        hits.append(found.ci_low <= np.exp(0.02) <= found.ci_high)
    assert covered(hits) >= LEAST
