"""Statistics against statsmodels, scipy, enumeration and hand-worked cases."""

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.evaluation import intervals, statistics


def rng(seed=0):
    return np.random.default_rng(seed)


# --- accuracies ---


def test_below_three_trainings_an_accuracy_has_the_interval_over_points():
    two = statistics.accuracy_estimate([90, 94], 100)
    assert (two.ci_low, two.ci_high) == intervals.share_interval(92, 100)
    assert two.value == pytest.approx(0.92)
    assert two.basis == "2 trainings, over points alone (Agresti-Coull)"
    assert two.sd == pytest.approx(np.std([0.9, 0.94], ddof=1))
    assert two.further_low is two.further_high is None
    one = statistics.accuracy_estimate([90], 100)
    assert one.basis == "one training, over points alone (Agresti-Coull)" and one.sd is None


def test_from_three_trainings_on_an_accuracy_covers_trainings_too():
    three = statistics.accuracy_estimate([80, 92, 97], 100)
    assert three.basis == "3 trainings, over points (Agresti-Coull) and trainings (t)"
    low, _ = intervals.share_interval(269 / 3, 100)
    half = scipy.stats.t(2).ppf(0.975) * np.std([0.8, 0.92, 0.97], ddof=1) / np.sqrt(3)
    assert three.ci_low == pytest.approx(three.value - np.hypot(three.value - low, half))
    assert three.ci_high == 1.0  # not beyond what an accuracy can be
    assert three.further_low < three.ci_low and three.further_high == 1.0


# --- distances ---


def test_mean_without_censoring():
    values = rng(4).lognormal(size=12)
    estimate = statistics.mean_estimate([values], generator=rng(1))
    assert estimate.value == pytest.approx(values.mean())
    assert (estimate.n, estimate.replicates, estimate.censored) == (12, 1, 0)
    assert estimate.lower_bound is None
    assert estimate.basis == "one training, over points alone (bootstrap t)"
    assert (estimate.ci_low, estimate.ci_high) == intervals.mean_interval(values, generator=rng(1))


def test_a_censored_mean_is_undefined_and_bounded_from_below():
    estimate = statistics.mean_estimate([np.array([1.0, 3.0, np.inf, 0.0])], generator=rng())
    assert (estimate.value, estimate.ci_low, estimate.ci_high) == (None, None, None)
    assert (estimate.censored, estimate.lower_bound) == (1, 1.0)
    bounded = statistics.mean_estimate(
        [np.array([1.0, 3.0, np.inf, 0.0])], generator=rng(), censored_at=4.0
    )
    assert bounded.lower_bound == 2.0


def test_a_median_outlives_censoring_up_to_one_half():
    values = np.array([1.0, 2.0, 2.5, 3.0, 4.0, np.inf, np.inf])
    below = statistics.median_estimate([values], generator=rng())
    assert below.value == 3.0
    assert (below.ci_low, below.ci_high) == (1.0, np.inf)
    beyond = statistics.median_estimate([np.array([1.0, np.inf, np.inf])], generator=rng())
    assert beyond.value is None
    assert beyond.lower_bound == 1.0


def test_three_trainings_on_the_same_points_join_points_and_trainings():
    point = rng(4).exponential(size=20)
    replicates = [point, 1.2 * point, 0.7 * point]
    found = statistics.mean_estimate(replicates, generator=rng())
    means = [each.mean() for each in replicates]
    assert found.value == pytest.approx(np.mean(means))
    assert found.basis == "3 trainings, over points (bootstrap t) and trainings (t)"
    low, high = intervals.mean_interval(np.mean(replicates, axis=0), generator=rng())
    half = scipy.stats.t(2).ppf(0.975) * np.std(means, ddof=1) / np.sqrt(3)
    assert found.ci_high == pytest.approx(found.value + np.hypot(high - found.value, half))
    assert found.ci_low == max(0.0, found.value - np.hypot(found.value - low, half))
    assert found.sd == pytest.approx(np.std(means, ddof=1))


def test_trainings_with_points_of_their_own_are_independent():
    replicates = [rng(k).exponential(size=8 + k) for k in range(3)]
    found = statistics.mean_estimate(replicates, generator=rng())
    ends = [intervals.mean_interval(each, generator=random) for random in [rng()]
            for each in replicates]  # fmt: skip
    above = [(high - each.mean()) / 3 for each, (_, high) in zip(replicates, ends, strict=True)]
    half = scipy.stats.t(2).ppf(0.975) * found.sd / np.sqrt(3)
    wanted = found.value + np.sqrt(sum(part**2 for part in above) + half**2)
    assert found.ci_high == pytest.approx(wanted)
    single = statistics.mean_estimate([*replicates[:2], np.array([3.0])], generator=rng())
    assert single.value is not None and single.ci_low is None


def test_medians_of_one_training_and_of_several():
    values = rng(8).lognormal(size=21)
    one = statistics.median_estimate([values], generator=rng())
    assert (one.ci_low, one.ci_high) == intervals.median_interval(values)
    assert one.basis == "one training, over points alone (order statistics)"
    replicates = [values, 1.5 * values, 1.1 * values]
    found = statistics.median_estimate(replicates, generator=rng())
    points = intervals.mean_of_medians_interval(replicates, generator=rng())
    medians = [float(np.median(each)) for each in replicates]
    wanted = intervals.over_trainings(found.value, points, medians, limits=(0.0, np.inf))
    assert (found.ci_low, found.ci_high) == wanted
    assert found.value == pytest.approx(np.mean(medians))
    cut = [np.where(each > 4, np.inf, each) for each in replicates]
    unbounded = statistics.median_estimate(cut, generator=rng())
    assert unbounded.censored > 0 and unbounded.value == found.value
    beyond = statistics.median_estimate([*cut[:2], np.full(21, np.inf)], generator=rng())
    assert (beyond.value, beyond.ci_low, beyond.sd) == (None, None, None)


def test_two_replicates_cover_points_only_and_must_match():
    a, b = rng(1).lognormal(size=8), rng(2).lognormal(size=8)
    estimate = statistics.mean_estimate([a, b], generator=rng(3))
    low, high = intervals.mean_interval((a + b) / 2, generator=rng(3))
    assert (estimate.ci_low, estimate.ci_high) == (max(0.0, low), high)
    assert estimate.basis == "2 trainings, over points alone (bootstrap t)"
    with pytest.raises(InputError, match="different numbers"):
        statistics.mean_estimate([a, b[:5]], generator=rng())


@pytest.mark.parametrize("bad", [[], [np.array([])], [np.array([-1.0])], [np.array([np.nan])]])
def test_impossible_distances_are_refused(bad):
    with pytest.raises(InputError):
        statistics.mean_estimate(bad, generator=rng())


def test_mean_of_means_weighs_groups_equally():
    small, large = np.array([1.0, 3.0]), np.full(100, 10.0) + rng(1).normal(size=100)
    estimate = statistics.mean_of_means_estimate([[small], [large]], generator=rng())
    assert estimate.value == pytest.approx((2.0 + large.mean()) / 2)
    assert estimate.n == 102
    # Half of each group's own interval, added in squares; of two points that is very wide.
    parts = [statistics.mean_estimate([each], generator=rng()) for each in (small, large)]
    above = np.hypot(*[(part.ci_high - part.value) / 2 for part in parts])
    assert estimate.ci_high == pytest.approx(estimate.value + above, abs=0.01)
    below = np.hypot(*[(part.value - part.ci_low) / 2 for part in parts])
    assert estimate.ci_low == pytest.approx(estimate.value - below, abs=0.01)
    censored = statistics.mean_of_means_estimate(
        [[small], [np.array([4.0, np.inf])]], generator=rng()
    )
    assert censored.value is None
    assert censored.lower_bound == pytest.approx((2.0 + 2.0) / 2)


# --- records ---


def record(point, restart, l2, *, final=None, label=0, clean=0, predicted=1, **more):
    """A valid record; ``l2`` None: the restart failed, ``clean`` != ``label``: misclassified."""
    if clean != label:
        l2, final, predicted = 0.0, 0.0, clean
    found = l2 is not None
    return {
        "point_id": point,
        "epsilon": np.nan,
        "loss": None,
        "restart": restart,
        "label": label,
        "clean_prediction": clean,
        "adversarial_prediction": predicted if found else None,
        "success": found,
        "l1": 2 * l2 if found else None,
        "l2": l2,
        "linf": l2 / 2 if found else None,
        "l2_final_iterate": final if final is not None else (1.1 * l2 if found else None),
        "queries": 10,
        "gradient_evaluations": 0,
        "iterations": 5,
        "seed": 1,
        "init_ok": found,
        "box_violation": False,
    } | more


def written(tmp_path, rows, name="chunk0.parquet"):
    path = tmp_path / name
    io.write_table(path, pd.DataFrame(rows))
    return path


def test_distances_of_points(tmp_path):
    chunks = [
        written(
            tmp_path,
            [
                record(7, 0, 3.0, final=3.1, iterations=9),
                record(7, 1, 2.0, final=3.6, predicted=4, box_violation=True),
                record(7, 2, None),
                record(5, 0, None),
                record(5, 1, None),
            ],
        ),
        written(tmp_path, [record(6, 0, 0.0, clean=2)], "chunk1.parquet"),
    ]
    points = statistics.point_distances(chunks)
    assert points["point_id"].tolist() == [5, 6, 7]
    points = points.set_index("point_id")
    assert points.loc[7, "l2"] == 2.0
    assert points.loc[7, "l2_final_iterate"] == 3.1  # of another restart
    assert points.loc[7, ["best_restart", "adversarial_prediction"]].tolist() == [1, 4]
    assert points.loc[7, ["restarts", "failed_restarts", "queries"]].tolist() == [3, 1, 30]
    assert points["iterations"].to_dict() == {5: 5, 6: 5, 7: 9}
    assert points["box_violation"].to_dict() == {5: False, 6: False, 7: True}
    assert points.loc[5, ["l2", "l2_final_iterate"]].tolist() == [np.inf, np.inf]
    assert points.loc[5, ["best_restart", "adversarial_prediction"]].isna().all()
    assert points.loc[6, ["l2", "l2_final_iterate"]].tolist() == [0.0, 0.0]
    assert points.loc[6, "adversarial_prediction"] == 2


def test_censored_distances_are_infinite_and_misclassified_points_at_zero(tmp_path):
    rows = [
        record(1, 0, 2.0, l2_final_iterate=None),  # its last iterate is not adversarial
        record(2, 0, 0.0, clean=3, l2_final_iterate=None),
        record(3, 0, None),
    ]
    points = statistics.point_distances([written(tmp_path, rows)])
    assert points["l2"].tolist() == [2.0, 0.0, np.inf]
    assert points["l2_final_iterate"].tolist() == [np.inf, 0.0, np.inf]


found = st.one_of(st.none(), st.floats(0.001, 10))


def test_found_distances_are_said_to_be_upper_bounds():
    assert statistics.upper_bound_text([]) == ""
    one, three, mixed = (statistics.upper_bound_text(n) for n in ([1, 1], [3, 3], [10, 3]))
    assert one.startswith("Distances are upper bounds: the smallest that 1 restart of the attack")
    assert three == one.replace("1 restart of", "3 restarts of")
    assert mixed == one.replace("1 restart of", "3 to 10 restarts of")
    assert one.endswith("so the fewer restarts, the looser the bound.")


@settings(deadline=None, max_examples=25)
@given(st.lists(st.lists(found, min_size=1, max_size=3), min_size=1, max_size=4), st.randoms())
def test_distances_of_points_against_a_plain_loop(tmp_path_factory, points, random):
    rows = [record(i, r, d) for i, restarts in enumerate(points) for r, d in enumerate(restarts)]
    random.shuffle(rows)
    path = written(tmp_path_factory.mktemp("records"), rows)
    expected = [min((d for d in each if d is not None), default=np.inf) for each in points]
    assert statistics.point_distances([path])["l2"].tolist() == expected


def test_order_of_chunks_and_rows_does_not_matter(tmp_path):
    rows = [record(p, r, 1.0 + p + r) for p in range(4) for r in range(3)]
    one = written(tmp_path, rows)
    first = written(tmp_path, rows[::-2], "a.parquet")
    second = written(tmp_path, rows[-2::-2], "b.parquet")
    pd.testing.assert_frame_equal(
        statistics.point_distances([one]), statistics.point_distances([second, first])
    )


def test_distances_come_from_valid_records_of_one_budget(tmp_path):
    contradiction = written(tmp_path, [record(1, 0, 2.0) | {"success": False}])
    with pytest.raises(InputError, match="contradict"):
        statistics.point_distances([contradiction])
    two = written(tmp_path, [record(1, 0, 2.0, epsilon=0.1), record(1, 0, 1.0, epsilon=0.2)])
    with pytest.raises(InputError, match="several epsilons"):
        statistics.point_distances([two])


# --- curves ---


@given(st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0, np.inf]), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_survival_curve_equals_kaplan_meier(values):
    from statsmodels.duration.survfunc import SurvfuncRight

    distances = np.array(values)
    curve = statistics.survival_curve(distances)
    observed = np.isfinite(distances)
    assert curve["distance"].iloc[0] == 0.0
    if observed.any():
        # statsmodels wants positive times; a censored one is "after everything".
        oracle = SurvfuncRight(np.where(observed, distances + 1, 99.0), observed.astype(int))
        expected = dict(zip(np.round(oracle.surv_times - 1, 9), oracle.surv_prob, strict=True))
        for row in curve.itertuples():
            if round(row.distance, 9) in expected:
                assert row.robust_accuracy == pytest.approx(expected[round(row.distance, 9)])
    assert (curve["robust_accuracy"].diff().dropna() <= 0).all()
    assert curve["robust_accuracy"].iloc[-1] == pytest.approx(1 - observed.mean())
    assert (curve["ci_low"] <= curve["robust_accuracy"]).all()


def test_robust_accuracy_at_zero_is_clean_accuracy():
    distances = np.array([0.0, 0.0, 0.5, np.inf])
    found = statistics.robust_accuracy(distances, np.array([0.0, 0.4, 0.5, 1e9]))
    assert found.tolist() == [0.5, 0.5, 0.25, 0.25]


def test_worst_case_is_over_all_smaller_epsilons():
    correct = np.array([[1, 0, 1], [1, 1, 1], [1, 1, 0], [1, 0, 1]], dtype=bool)
    curve = statistics.worst_case_curve(correct[:, [2, 0, 1]], [0.3, 0.1, 0.2])
    assert curve["epsilon"].tolist() == [0.1, 0.2, 0.3]
    assert curve["accuracy"].tolist() == [1.0, 0.5, 0.75]
    assert curve["worst_case_accuracy"].tolist() == [1.0, 0.5, 0.25]
    assert curve["rises"].tolist() == [False, False, True]


def test_rises_looks_back_further_than_one_step():
    assert statistics.rises([0, 1, 2, 3], [0.9, 0.4, 0.4, 0.5]).tolist() == [0, 0, 0, 1]
    assert statistics.rises([3, 0, 2, 1], [0.5, 0.9, 0.6, 0.4]).tolist() == [1, 0, 1, 0]


# --- tests ---


@given(
    st.lists(st.integers(-6, 6), min_size=1, max_size=9),
)
@settings(max_examples=60, deadline=None)
def test_signed_rank_equals_enumeration_with_ties(values):
    from scipy.stats import rankdata

    differences = np.array(values, float)
    kept = differences[differences != 0]
    p, used = statistics.signed_rank_p(differences)
    assert used == kept.size
    if kept.size == 0:
        assert p == 1.0
        return
    ranks = rankdata(np.abs(kept))
    observed = ranks[kept > 0].sum()
    sums = np.array([ranks @ signs for signs in itertools.product([0, 1], repeat=kept.size)])
    tail = min((sums <= observed).mean(), (sums >= observed).mean())
    assert p == pytest.approx(min(1.0, 2 * tail), abs=1e-12)
    assert p >= statistics.smallest_p(kept.size) - 1e-15


@pytest.mark.parametrize("n", [4, 21, 48])
def test_signed_rank_equals_scipy_without_ties(n):
    from scipy.stats import wilcoxon

    differences = rng(n).normal(0.3, size=n)
    p, _ = statistics.signed_rank_p(differences)
    assert p == pytest.approx(wilcoxon(differences, method="exact").pvalue, rel=1e-10)


def test_many_pairs_take_the_normal_approximation():
    from scipy.stats import wilcoxon

    differences = rng(5).normal(0.1, size=400)
    p, used = statistics.signed_rank_p(differences)
    assert used == 400
    assert p == pytest.approx(wilcoxon(differences, method="asymptotic").pvalue)


def test_five_pairs_are_never_significant():
    p, used = statistics.signed_rank_p(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert (p, used) == (0.0625, 5)
    assert statistics.smallest_p(5) == 0.0625


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_holm_equals_statsmodels(p_values):
    from statsmodels.stats.multitest import multipletests

    expected = multipletests(p_values, method="holm")[1]
    assert statistics.holm(p_values) == pytest.approx(expected, abs=1e-12)


def test_paired_comparisons():
    base = np.arange(1.0, 9.0)
    distances = pd.DataFrame({"a": base, "b": base + 0.5, "c": base + rng(0).normal(size=8)})
    result = statistics.paired_comparisons(distances).set_index(["first", "second"])
    assert list(result.index) == [("a", "b"), ("a", "c"), ("b", "c")]
    row = result.loc[("a", "b")]
    assert row["p"] == statistics.smallest_p(8) == 2 / 256
    assert row["p_holm"] == pytest.approx(3 * 2 / 256)
    assert (row["first_larger"], row["second_larger"], row["pairs"]) == (0, 8, 8)
    assert row["significant"]
    assert row["smallest_p_holm"] == pytest.approx(3 * 2 / 256)
    few = statistics.paired_comparisons(distances.iloc[:5], reference="b")
    assert list(few["second"]) == ["a", "c"]
    assert not few["can_be_significant"].any()
    assert not few["significant"].any()


def test_paired_comparison_ranks_a_censored_distance_highest():
    distances = pd.DataFrame({"a": [np.inf, 1.0, 2.0, np.inf], "b": [1.0, 1.5, 2.1, np.inf]})
    row = statistics.paired_comparisons(distances).iloc[0]
    # Differences inf, -.5, -.1 and a tie of two censored ones: ranks 3, 2, 1.
    assert row["pairs"] == 3
    assert row["p"] == pytest.approx(1.0)
    with pytest.raises(InputError, match="every point"):
        statistics.paired_comparisons(pd.DataFrame({"a": [1.0], "b": [np.nan]}))
