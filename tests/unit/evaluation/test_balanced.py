"""Metrics on the balanced test set, held against the set that is really built."""

import warnings

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.evaluation import balanced, intervals
from medrobust.evaluation.balanced import Cells

CLASSES = 5


def tiled_positions(labels):
    """Builds the authors' balanced set: each class's list repeated to the largest, interleaved."""
    lists = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    longest = max(len(one) for one in lists)
    tiled = [[one[j % len(one)] for j in range(longest)] for one in lists]
    return np.array(tiled).T.ravel()


def cells_of(labels, predictions, weights):
    keys = np.stack([labels, predictions, weights])
    distinct, counts = np.unique(keys, axis=1, return_counts=True)
    return Cells(*distinct.astype(np.int64), count=counts.astype(np.int64))


outcomes = st.lists(
    st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=60
)


@settings(max_examples=200, deadline=None)
@given(outcomes)
def test_weights_give_the_metrics_of_the_tiled_set(pairs):
    sklearn = pytest.importorskip("sklearn.metrics")
    labels, predictions = np.array(pairs).T
    cells = cells_of(labels, predictions, balanced.tile_counts(labels))
    positions = tiled_positions(labels)
    truth, said = labels[positions], predictions[positions]
    matrix = balanced.confusion(cells, CLASSES)
    every = list(range(CLASSES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(matrix, sklearn.confusion_matrix(truth, said, labels=every))
        there = {"labels": np.unique(truth), "average": "macro", "zero_division": 0}
        wanted = sklearn.precision_score(truth, said, **there)
        recall = sklearn.recall_score(truth, said, **there)
    assert float(balanced.accuracy(matrix)) == pytest.approx(np.mean(truth == said))
    assert float(balanced.precision(matrix)) == pytest.approx(wanted)
    assert float(balanced.recall(matrix)) == pytest.approx(recall)


@pytest.mark.parametrize("absent", [(), (3,), (0, 4), (0, 1, 2, 3)])
def test_a_class_without_test_points_is_in_no_mean(absent):
    """A perfect model is perfect, whatever classes the test set lacks."""
    labels = np.repeat([c for c in range(CLASSES) if c not in absent], 7)
    cells = cells_of(labels, labels, balanced.tile_counts(labels))
    matrix = balanced.confusion(cells, CLASSES)
    for of in (*balanced.METRICS.values(), balanced.recall):
        assert float(of(matrix)) == 1.0
    for name in balanced.METRICS:
        found = balanced.metric_estimate([cells], name, CLASSES, np.random.default_rng(0))
        assert (found.value, found.ci_high) == (1.0, 1.0)
        # 7 points of a class, all correct, do not show that it always is.
        alone = len(set(labels)) == 1 and name == "PREC"
        assert 0.5 < found.ci_low < 0.97 or alone
    # A class that does occur and is never predicted still counts as 0.
    if len(set(labels)) > 1:
        wrong = np.where(labels == labels[-1], labels[0], labels)
        matrix = balanced.confusion(cells_of(labels, wrong, np.ones_like(labels)), CLASSES)
        k = len(set(labels))
        assert float(balanced.precision(matrix)) == pytest.approx((k - 2 + 1 / 2) / k)


def test_of_no_points_nothing_is_defined():
    matrices = np.zeros((2, CLASSES, CLASSES))
    for of in (*balanced.METRICS.values(), balanced.recall):
        assert np.isnan(of(matrices)).all()


def test_with_all_classes_the_mean_has_the_same_bits_as_the_plain_one():
    matrices = np.random.default_rng(0).integers(1, 2000, (500, CLASSES, CLASSES)).astype(float)
    shares = np.diagonal(matrices, axis1=1, axis2=2) / matrices.sum(axis=1)
    assert balanced.precision(matrices).tobytes() == shares.mean(axis=1).tobytes()


def test_tile_counts_are_those_of_the_tiled_set():
    random = np.random.default_rng(0)
    labels = random.permutation(np.repeat(np.arange(5), [181, 6, 14, 1, 16]))
    positions = tiled_positions(labels)
    assert np.array_equal(balanced.tile_counts(labels), np.bincount(positions))
    # 181 = 12 * 14 + 13: all but the last point of class 2 occur 13 times.
    assert list(balanced.tile_counts(labels)[labels == 2]) == [13] * 13 + [12]


def test_ranks_count_the_points_of_a_class_in_order():
    assert list(balanced.rank_in_class(np.array([2, 0, 2, 2, 0, 1]))) == [0, 0, 1, 2, 1, 0]


def test_a_class_never_predicted_has_precision_0():
    matrix = np.array([[3.0, 0, 0], [1, 4, 0], [0, 5, 0]])
    assert float(balanced.precision(matrix)) == pytest.approx((3 / 4 + 4 / 9 + 0) / 3)


def test_metrics_of_many_matrices_are_those_of_each():
    matrices = np.random.default_rng(1).integers(0, 4, (7, 3, 3)).astype(float)
    matrices[:, 0, 0] += 1
    for metric in balanced.METRICS.values():
        assert np.array_equal(metric(matrices), [metric(one) for one in matrices])


def made(seed=3, sizes=(400, 60, 130, 25, 90)):
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(5), sizes)
    share = np.array([0.9, 0.5, 0.7, 0.3, 0.97])[labels]
    wrong = random.random(labels.size) > share
    predictions = np.where(wrong, random.integers(0, 5, labels.size), labels)
    return labels, predictions


def test_the_interval_agrees_with_the_stratified_normal_interval():
    labels, predictions = made()
    weights = balanced.tile_counts(labels)
    cells = cells_of(labels, predictions, weights)
    draws = balanced.metric_draws([cells], CLASSES, np.random.default_rng(0))["ACC"]
    right = (labels == predictions).astype(float)
    variance = 0.0
    for label in range(5):
        mine = labels == label
        w, r = weights[mine], right[mine]
        mean = (w * r).sum() / w.sum()
        variance += (1 / 5) ** 2 * (w**2 * (r - mean) ** 2).sum() / w.sum() ** 2
    estimate = balanced.metric_estimate([cells], "ACC", CLASSES, np.random.default_rng(0))
    assert estimate.value == pytest.approx((weights * right).sum() / weights.sum())
    assert draws.mean() == pytest.approx(estimate.value, abs=0.004)
    assert draws.std() == pytest.approx(np.sqrt(variance), rel=0.04)
    half = 1.96 * np.sqrt(variance)
    assert estimate.ci_low == pytest.approx(estimate.value - half, abs=0.1 * half)
    assert estimate.ci_high == pytest.approx(estimate.value + half, abs=0.1 * half)
    assert (estimate.n, estimate.replicates) == (705, 1)


def test_draws_of_precision_agree_with_a_bootstrap_of_points():
    labels, predictions = made(4)
    weights = balanced.tile_counts(labels)
    cells = cells_of(labels, predictions, weights)
    draws = balanced.metric_draws([cells], CLASSES, np.random.default_rng(0), 4000)["PREC"]
    random = np.random.default_rng(9)
    slow = []
    for _ in range(1500):
        picks = np.concatenate(
            [random.choice(own := np.flatnonzero(labels == c), own.size) for c in range(5)]
        )
        matrix = np.zeros((5, 5))
        np.add.at(matrix, (labels[picks], predictions[picks]), weights[picks])
        slow.append(float(balanced.precision(matrix)))
    assert draws.mean() == pytest.approx(np.mean(slow), abs=0.004)
    assert draws.std() == pytest.approx(np.std(slow), rel=0.08)


def test_equal_generators_give_equal_draws_and_the_order_of_cells_matters_not():
    labels, predictions = made()
    cells = cells_of(labels, predictions, balanced.tile_counts(labels))
    first, second = (
        balanced.metric_draws([cells], CLASSES, np.random.default_rng(5))["ACC"] for _ in range(2)
    )
    assert np.array_equal(first, second)


def test_several_runs_of_a_point_make_no_more_points():
    one = Cells(*(np.array(v) for v in ([0, 0], [0, 1], [1, 1], [60, 40])))
    runs = Cells(*(np.array(v) for v in ([0, 0], [0, 1], [1, 1], [300, 200])), runs=5)
    assert runs.points == one.points == 100
    assert np.array_equal(balanced.confusion(runs, 2), balanced.confusion(one, 2))
    spread = [
        balanced.metric_draws([cells], 2, np.random.default_rng(0))["ACC"].std()
        for cells in (one, runs)
    ]
    assert spread[1] == pytest.approx(spread[0], rel=0.05)
    assert spread[0] == pytest.approx(np.sqrt(0.6 * 0.4 / 100), rel=0.05)


def test_from_three_trainings_on_their_spread_is_joined():
    shares = [30, 50, 80]
    cells = [Cells(*(np.array(v) for v in ([0, 0], [0, 1], [1, 1], [s, 100 - s]))) for s in shares]
    points = balanced.metric_draws(cells, 2, np.random.default_rng(0))
    values = [share / 100 for share in shares]
    error = np.std(values, ddof=1) / np.sqrt(3)
    for metric in balanced.METRICS:
        found = balanced.metric_estimate(cells, metric, 2, np.random.default_rng(0))
        assert found.replicates == 3 and found.sd is not None
        assert found.basis.startswith("3 trainings, over points (")
        assert found.basis.endswith(") and trainings (t)")
    accuracy = balanced.metric_estimate(cells, "ACC", 2, np.random.default_rng(0))
    assert accuracy.value == pytest.approx(160 / 300)
    low, high = intervals.share_interval(160 / 3, 100)
    wanted = intervals.over_trainings(160 / 300, (low, high), values, limits=(0.0, 1.0))
    assert (accuracy.ci_low, accuracy.ci_high) == pytest.approx(wanted)
    draws = balanced.with_trainings(points["ACC"], cells, "ACC", 2, np.random.default_rng(1))
    half = scipy.stats.t(2).ppf(0.75) * error  # the tails are cut at 0 and 1
    assert np.quantile(draws, 0.75) == pytest.approx(160 / 300 + half, abs=0.02)
    assert draws.min() >= 0 and draws.max() <= 1
    two = balanced.with_trainings(points["ACC"], cells[:2], "ACC", 2, np.random.default_rng(1))
    assert two is points["ACC"]


@pytest.mark.parametrize(
    "right", [(0.98, 0.6, 0.9, 0.99, 1.0), (0.02, 0.0, 0.01, 0.0, 0.05), (0.5,) * 5]
)
def test_both_metrics_are_covered_with_few_points_of_each_class(right):
    """The first 12 test points of each class, as SPSA takes them; nearly none or all correct."""
    sizes, share = np.full(5, 12), np.array(right)
    expected = np.zeros((5, 5))
    for label in range(5):
        expected[label] = (1 - share[label]) / 4
        expected[label, label] = share[label]
    truth = {name: float(of(expected)) for name, of in balanced.METRICS.items()}
    hits = {name: [] for name in balanced.METRICS}
    for trial in range(600):
        random = np.random.default_rng(trial)
        counts = np.stack([random.multinomial(n, p) for n, p in zip(sizes, expected, strict=True)])
        label, prediction = np.nonzero(counts)
        cells = Cells(label, prediction, np.ones_like(label), counts[label, prediction])
        for name, inside in hits.items():
            found = balanced.metric_estimate([cells], name, 5, random, 800)
            inside.append(found.ci_low <= truth[name] <= found.ci_high)
    for name, inside in hits.items():
        assert np.mean(inside) >= 0.93 - 2.5 * np.sqrt(0.93 * 0.07 / 600), name


def test_two_trainings_share_their_points():
    shares = [30, 50]
    cells = [Cells(*(np.array(v) for v in ([0, 0], [0, 1], [1, 1], [s, 100 - s]))) for s in shares]
    # Two share their points: the interval is as wide as if they moved together.
    two = balanced.metric_draws(cells[:2], 2, np.random.default_rng(0))["ACC"]
    alone = [
        balanced.metric_draws([one], 2, np.random.default_rng(i))["ACC"].std()
        for i, one in enumerate(cells[:2])
    ]
    assert two.std() == pytest.approx(np.mean(alone), rel=0.03)
    assert abs(np.corrcoef(two[:-1], two[1:])[0, 1]) < 0.05


def test_classes_out_of_range_are_refused():
    cells = Cells(*(np.array(v) for v in ([0, 5], [0, 0], [1, 1], [3, 4])))
    with pytest.raises(InputError, match="outside the 5 classes"):
        balanced.confusion(cells, 5)
    with pytest.raises(InputError, match="outside the 5 classes"):
        balanced.drawn_confusions(cells, 5, np.random.default_rng(0))


def test_the_resamples_are_the_projects():
    cells = Cells(*(np.array(v) for v in ([0], [0], [1], [3])))
    draws = balanced.metric_draws([cells], 2, np.random.default_rng(0))["ACC"]
    assert draws.shape == (intervals.RESAMPLES,)
    # Jeffreys' posterior of 3 of 3, of which one is taken off.
    wanted = scipy.stats.beta(2.5, 0.5).ppf(0.025)
    assert np.quantile(draws, 0.025) == pytest.approx(wanted, rel=0.05)
