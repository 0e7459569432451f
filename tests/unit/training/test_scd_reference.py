"""The reference of SCD01 and SCDCE: worked cases, brute force, and that it learns."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import scd_reference as scd

KINDS = ("scd01", "scdce")
PHASES = ("balanced", "both")
CODES = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1]])


# --- the network and its objective ---


def test_a_network_worked_by_hand():
    W, b = np.array([[1.0, -1], [2, 0]]), np.array([-3.0, 0.5])
    network = scd.Network(W, b, np.array([2.0, -5]), 1.0)
    X = np.array([[1.0, 1], [1, 2], [0.5, 0], [-1, 2.5]])
    # sums: 3, 5, 0.5, 4 and -1, -1, -0.5, 1; the first and the third row meet a bias exactly
    assert scd.hidden_code(X, W, b).tolist() == [[0, 0], [1, 0], [0, 0], [1, 1]]
    assert scd.logits(network, X).tolist() == [1, 3, 1, -2]
    assert scd.predict(network, X).tolist() == [1, 1, 1, 0]
    on_the_boundary = network._replace(c=3.0)
    assert scd.predict(on_the_boundary, X).tolist() == [1, 1, 1, 0]


def test_sums_do_not_depend_on_the_position_of_a_row():
    rng = np.random.default_rng(0)
    X, w = rng.normal(size=(1, 37)), rng.normal(size=(37, 5))
    assert len(np.unique(scd.project(np.repeat(X, 101, axis=0), w), axis=0)) == 1
    assert np.allclose(scd.project(X, w), X @ w)
    assert np.array_equal(scd.project(X, w)[:, 3], scd.project(X, w[:, 3]))


def test_objectives_worked_by_hand():
    y = np.array([1, 1, 1, 0, 0])
    logit = np.array([2.0, 0.1, -1, -3, 4])  # 2 of 3 and 1 of 2 are right
    assert scd.objective(logit, y, "scd01", "balanced") == pytest.approx(7 / 12)
    assert scd.objective(logit, y, "scd01", "both") == pytest.approx(7 / 12 + 3 / 5)
    assert scd.objective(np.array([0.0]), np.array([0]), "scdce", "both") == math.log(2)
    assert scd.accuracy_score(np.zeros(5), y, "balanced") == 0.5  # 0 is class 0


@given(st.integers(0, 10**6), st.integers(2, 40), st.floats(0.1, 30))
@settings(max_examples=60, deadline=None)
def test_objectives_equal_scikit_learn(seed, n, spread):
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss

    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % 3 == 0).astype(np.int64)
    logit = rng.normal(0, spread, n)
    balanced = balanced_accuracy_score(y, logit > 0)
    both = balanced + accuracy_score(y, logit > 0)
    assert scd.objective(logit, y, "scd01", "balanced") == pytest.approx(balanced)
    assert scd.objective(logit, y, "scd01", "both") == pytest.approx(both)
    if spread < 5:  # scikit-learn clips probabilities
        expected = log_loss(y, 1 / (1 + np.exp(-logit)))
        assert scd.objective(logit, y, "scdce", "both") == pytest.approx(expected)
    assert np.allclose(scd.cross_entropy(logit, y), np.logaddexp(0, (1 - 2 * y) * logit))


def test_equal_scores_are_equal_floats():
    # i/7 + (18 - 3i)/21 is the same number for every i, but not as a sum of floats
    assert len({i / 7 + (18 - 3 * i) / 21 for i in range(7)}) > 1
    scores = {scd.accuracy_from_counts(i, 18 - 3 * i, 7, 21, "balanced") for i in range(7)}
    assert scores == {6 / 14}


# --- thresholds and windows ---


def test_thresholds_lie_between_the_projections():
    ordered = np.array([1.0, 2, 4, 7])
    biases = [scd.threshold(ordered, rank) for rank in range(4)]
    assert biases == pytest.approx([-0.99, -1.5, -3, -5.5])
    for rank, bias in enumerate(biases):
        assert (ordered + bias > 0).tolist() == [i >= rank for i in range(4)]


@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=30))
def test_all_thresholds_at_once_and_the_rows_that_they_turn_off(values):
    ordered = np.sort(np.array(values))
    biases = scd.thresholds(ordered)
    assert biases.tolist() == [scd.threshold(ordered, rank) for rank in range(len(ordered))]
    off = [int(np.sum(~(ordered + bias > 0))) for bias in biases]
    assert scd.first_on(ordered, biases).tolist() == off


def test_a_window_is_half_open_and_ends_with_the_rows():
    assert list(scd.window_ranks(50, 20, 100)) == list(range(30, 70))
    assert list(scd.window_ranks(3, 5, 100)) == list(range(8))
    assert list(scd.window_ranks(9, 5, 10)) == list(range(4, 10))


# --- searches worked by hand ---


@pytest.fixture(params=["best", "search"])
def find(request):
    """The functions by brute force and by sorting, under one name each."""
    names = ("output_threshold", "output_move", "hidden_threshold", "hidden_move")
    return {name: getattr(scd, f"{request.param}_{name}") for name in names}


def test_the_output_threshold_of_four_codes(find):
    v, y = np.array([1.0, 2]), np.array([0, 0, 1, 1])  # sums 0, 1, 2, 3
    assert find["output_threshold"](CODES, v, y, "scd01", "balanced") == (2, 1.0)
    assert find["output_threshold"](CODES, v, y, "scd01", "both") == (2, 2.0)
    rank, value = find["output_threshold"](CODES, v, y, "scdce", "both")
    expected = 2 * math.log1p(math.exp(-0.5)) + 2 * math.log1p(math.exp(-1.5))
    assert (rank, value) == (2, pytest.approx(expected / 4))


def test_phases_can_disagree(find):
    v, y = np.array([1.0, 2]), np.array([1, 0, 1, 1])
    # balanced accuracy and accuracy: all on 1/2 and 3/4, the last two on 5/6 and 3/4
    assert find["output_threshold"](CODES, v, y, "scd01", "balanced") == (2, pytest.approx(5 / 6))
    many = np.repeat(np.arange(4), [9, 4, 1, 1])
    H, y = CODES[many], np.repeat([1, 0, 1, 1], [9, 4, 1, 1])
    assert find["output_threshold"](H, v, y, "scd01", "balanced").objective == pytest.approx(
        13 / 22
    )
    both = find["output_threshold"](H, v, y, "scd01", "both")
    assert both == (0, pytest.approx(1 / 2 + 11 / 15))


def test_tied_rows_are_off_together_and_the_first_of_equal_ranks_wins(find):
    H, v = CODES[[0, 0, 3, 3]], np.array([0.5, 0.5])  # sums 0, 0, 1, 1
    found = find["output_threshold"](H, v, np.array([0, 1, 1, 1]), "scd01", "balanced")
    assert found == (1, pytest.approx(5 / 6))  # rank 2 turns the same rows on
    # at rank 3 nothing is on: the best where ones come first
    assert find["output_threshold"](H, v, np.array([0, 0, 0, 1]), "scd01", "both").rank == 1
    nothing_on = find["output_threshold"](H, v, np.array([1, 0, 0, 0]), "scd01", "both")
    assert nothing_on == (3, 0.5 + 0.75)


def test_the_output_move_of_four_codes(find):
    v, y = np.array([1.0, 0]), np.array([0, 0, 1, 1])  # adding 2 to the second: 0, 1, 2, 3
    for kind in KINDS:
        move = find["output_move"](CODES, v, 1, y, 2.0, 2, kind, "both")
        assert move[:3] == (1, 1, 2)
    scaled = scd.moved(v, 1, 1, 2.0, "scd01", False)
    assert scaled == pytest.approx(np.array([1, 2]) / math.sqrt(5))
    assert scd.moved(v, 1, 1, 2.0, "scdce", False).tolist() == [1, 2]
    assert v.tolist() == [1, 0]
    flipped = find["output_move"](
        CODES, np.array([1.0, -1]), 3, y, 0.0, 4, "scd01", "balanced", binary=True
    )
    assert flipped == (1, 1, 1, 0.75)  # sums 0, 1, 1, 2: all but the first are on


def test_the_order_of_coordinates_decides_between_equals(find):
    H, y = np.ones((4, 3)), np.array([0, 0, 1, 1])  # nothing separates these
    arguments = (H, np.ones(3), 0, y, 0.5, 1, "scd01", "balanced")
    assert find["output_move"](*arguments) == (0, 1, 0, 0.5)
    assert find["output_move"](*arguments, order=[2, 0, 1]) == (2, 1, 0, 0.5)


@dataclass(frozen=True)
class Quadrant:
    """One node that sees the first of two features; the second decides the class."""

    X = np.array([[0.0, 0], [1, 0], [0, 2], [1, 2]])
    y = np.array([0, 0, 1, 1])
    b, v, c = np.zeros(1), np.ones(1), -0.5


def test_the_hidden_node_of_four_points(find):
    q = Quadrant()
    W = np.array([[1.0], [0]])
    start = find["hidden_threshold"](q.X, W, q.b, q.v, q.c, 0, q.y, "scd01", "balanced")
    assert start == (0, 0.5)
    arguments = (q.X, W, q.b, q.v, q.c, 0, [0, 1], 2.0)
    move = find["hidden_move"](*arguments, 3, q.y, "scd01", "both")
    assert move == (1, 1, 2, 2.0)  # projections 0, 1, 4, 5 over the square root of 5
    narrow = find["hidden_move"](*arguments, 2, q.y, "scd01", "both")
    assert narrow.rank < 2 and narrow.objective < 2
    shifted = find["hidden_move"](*arguments, 1, q.y, "scd01", "both", rank=3)
    assert shifted == (1, 1, 2, 2.0)
    other_feature = find["hidden_move"](*arguments[:6], [0], 2.0, 4, q.y, "scd01", "both")
    assert other_feature.objective < 2
    entropy = find["hidden_move"](*arguments, 3, q.y, "scdce", "both")
    assert entropy == (1, 1, 2, pytest.approx(math.log1p(math.exp(-0.5))))


def test_a_binary_weight_is_flipped(find):
    q = Quadrant()
    W = np.array([[1.0], [-1]])  # projections 0, 1, -2, -1; flipping the second: 0, 1, 2, 3
    move = find["hidden_move"](
        q.X, W, q.b, q.v, q.c, 0, [0, 1], 0.0, 4, q.y, "scd01", "balanced", binary=True
    )
    assert move == (1, 1, 2, 1.0)
    assert scd.moves(W[:, 0], [0, 1], True) == [(0, -1), (1, 1)]
    assert scd.moves(W[:, 0], [1, 0], False) == [(1, 1), (0, 1), (1, -1), (0, -1)]


# --- sorting finds what brute force finds ---


@dataclass(frozen=True)
class Problem:
    X: np.ndarray
    y: np.ndarray
    network: scd.Network
    kind: str
    phase: str
    binary: bool


@st.composite
def problems(draw) -> Problem:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d, k = draw(st.integers(3, 11)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    # Few values make equal rows and equal projections.
    X = rng.integers(0, 3, (n, d)) / 2.0 if draw(st.booleans()) else rng.random((n, d))
    y = rng.permutation(np.r_[0, 1, rng.integers(0, 2, n - 2)])
    binary = draw(st.booleans())
    W, v = rng.normal(size=(d, k)), rng.normal(size=k)
    W, v = (np.sign(W), np.sign(v)) if binary else (scd.unit(W), scd.unit(v))
    b = -scd.project(X, W)[rng.integers(n)] + rng.choice([0.0, 0.1])
    c = -scd.project(scd.hidden_code(X, W, b), v)[rng.integers(n)]
    kind, phase = draw(st.sampled_from(KINDS)), draw(st.sampled_from(PHASES))
    return Problem(X, y, scd.Network(W, b, v, float(c)), kind, phase, binary)


def agree(searched, brute, kind, value_at) -> None:
    """The same choice; where rounding may decide, a choice that brute force rates as high."""
    if kind == "scd01":
        assert searched == brute
    else:
        assert searched.objective == pytest.approx(brute.objective, abs=1e-12)
        assert value_at(searched) == pytest.approx(brute.objective, abs=1e-12)


@given(problems())
@settings(max_examples=150, deadline=None)
def test_output_threshold_by_sorting(p):
    W, b, v, _ = p.network
    H = scd.hidden_code(p.X, W, b)

    def value_at(found):
        sums = scd.project(H, v)
        logit = sums + scd.threshold(np.sort(sums), found.rank)
        return scd.objective(logit, p.y, p.kind, p.phase)

    arguments = (H, v, p.y, p.kind, p.phase)
    agree(
        scd.search_output_threshold(*arguments),
        scd.best_output_threshold(*arguments),
        p.kind,
        value_at,
    )


@given(problems(), st.integers(0, 2), st.integers(1, 5), st.floats(0.05, 0.9))
@settings(max_examples=150, deadline=None)
def test_output_move_by_sorting(p, rank, window, inc):
    W, b, v, _ = p.network
    H = scd.hidden_code(p.X, W, b)
    order = np.random.default_rng(rank).permutation(len(v))

    def value_at(found):
        sums = scd.project(H, scd.moved(v, *found[:2], inc, p.kind, p.binary))
        logit = sums + scd.threshold(np.sort(sums), found.rank)
        return scd.objective(logit, p.y, p.kind, p.phase)

    arguments = (H, v, rank, p.y, inc, window, p.kind, p.phase)
    options = {"binary": p.binary, "order": order}
    agree(
        scd.search_output_move(*arguments, **options),
        scd.best_output_move(*arguments, **options),
        p.kind,
        value_at,
    )


def changed_network(p: Problem, j: int, w: np.ndarray, rank: int) -> scd.Network:
    W, b = p.network.W.copy(), p.network.b.copy()
    W[:, j], b[j] = w, scd.threshold(np.sort(scd.project(p.X, w)), rank)
    return p.network._replace(W=W, b=b)


@given(problems(), st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_hidden_threshold_by_sorting(p, j):
    j %= len(p.network.v)

    def value_at(found):
        network = changed_network(p, j, p.network.W[:, j], found.rank)
        return scd.objective(scd.logits(network, p.X), p.y, p.kind, p.phase)

    arguments = (p.X, *p.network, j, p.y, p.kind, p.phase)
    agree(
        scd.search_hidden_threshold(*arguments),
        scd.best_hidden_threshold(*arguments),
        p.kind,
        value_at,
    )


@given(problems(), st.integers(0, 3), st.integers(0, 2), st.integers(1, 5), st.floats(0.05, 0.9))
@settings(max_examples=150, deadline=None)
def test_hidden_move_by_sorting(p, j, rank, window, inc):
    j %= len(p.network.v)
    features = np.random.default_rng(rank).permutation(p.X.shape[1])[:2]

    def value_at(found):
        w = scd.moved(p.network.W[:, j], *found[:2], inc, p.kind, p.binary)
        network = changed_network(p, j, w, found.rank)
        return scd.objective(scd.logits(network, p.X), p.y, p.kind, p.phase)

    arguments = (p.X, *p.network, j, features, inc, window, p.y, p.kind, p.phase)
    options = {"binary": p.binary, "rank": rank}
    agree(
        scd.search_hidden_move(*arguments, **options),
        scd.best_hidden_move(*arguments, **options),
        p.kind,
        value_at,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_window_lies_around_the_best_threshold_if_no_rank_is_given(kind):
    X, y = scd.linear_boundary(12, 3, seed=5)
    network = scd.initial_weights(3, scd.Settings(kind, hidden_units=2), np.random.default_rng(0))
    arguments = (X, *network._replace(c=0.1), 1)
    rank = scd.best_hidden_threshold(*arguments, y, kind, "both").rank
    rest = ([0, 2], 0.5, 2, y, kind, "both")
    for function in (scd.best_hidden_move, scd.search_hidden_move):
        assert function(*arguments, *rest) == function(*arguments, *rest, rank=rank)


# --- steps of the training ---


def test_rows_are_drawn_by_class_without_replacement():
    y = np.repeat([0, 1, 0], [29, 11, 12])
    for seed in range(20):
        rows = scd.sample_rows(y, 0.25, np.random.default_rng(seed))
        assert len(set(rows.tolist())) == len(rows) == 10 + 2  # floor(10.25), floor(2.75)
        assert np.bincount(y[rows]).tolist() == [10, 2]
    two_each = scd.sample_rows(np.repeat([0, 1], [100, 3]), 0.02, np.random.default_rng(0))
    assert len(two_each) == 4
    with pytest.raises(ValueError, match="class 1 has 1 rows"):
        scd.sample_rows(np.array([0, 0, 0, 1]), 0.5, np.random.default_rng(0))


def test_initial_weights_are_unit_columns_or_signs():
    W, _, v, _ = scd.initial_weights(7, scd.Settings("scd01"), np.random.default_rng(0))
    assert W.shape == (7, 20) and np.sqrt((W**2).sum(axis=0)) == pytest.approx(1)
    assert np.sqrt((v**2).sum()) == pytest.approx(1)
    assert W.min() < 0 < W.max()
    binary = scd.Settings("scdce", binary=True)
    W, _, v, _ = scd.initial_weights(7, binary, np.random.default_rng(0))
    assert set(W.ravel()) == {-1, 1} and set(v) == {-1, 1}


@pytest.mark.parametrize("kind", KINDS)
def test_initial_biases_are_searched_and_a_node_that_does_not_help_gets_0(kind):
    X, y = scd.linear_boundary(40, 2, seed=3)
    X = X - 0.5
    towards_ones = X[y == 1].mean(axis=0) - X[y == 0].mean(axis=0)
    W = scd.unit(np.stack([towards_ones, [1, 2]], axis=1))
    start = scd.Network(W, np.zeros(2), np.array([1.0, 0]), 0.0)
    s = scd.Settings(kind, hidden_units=2)
    network = scd.initial_biases(start, X, y, "balanced", s, np.random.default_rng(0))
    if kind == "scd01":  # cross-entropies that should be equal differ by rounding
        assert network.b[1] == 0  # its output weight is 0
    found = scd.best_hidden_threshold(X, *network, 0, y, kind, "balanced")
    assert network.b[0] != 0
    assert network.b[0] == scd.threshold(np.sort(scd.project(X, W[:, 0])), found.rank)


@pytest.mark.parametrize("kind", KINDS)
def test_the_output_bias_is_scanned_first_with_mean_projections_as_hidden_biases(kind):
    X, y = scd.linear_boundary(40, 4, seed=3)
    s = scd.Settings(kind, hidden_units=6)
    start = scd.initial_weights(4, s, np.random.default_rng(2))
    found = scd.initial_biases(start, X, y, "balanced", s, np.random.default_rng(0)).c

    def scan(sign):
        H = scd.hidden_code(X, start.W, sign * scd.project(X, start.W).mean(axis=0))
        rank = scd.best_output_threshold(H, start.v, y, kind, "balanced").rank
        return scd.threshold(np.sort(scd.project(H, start.v)), rank)

    assert found == scan(1) != scan(-1)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("node", ["output", "hidden"])
def test_a_step_takes_the_best_threshold_and_the_best_strictly_better_move(node, kind, binary):
    s = scd.Settings(kind, hidden_units=5, features_per_iteration=3, window=8, binary=binary)
    step = scd.improve_output if node == "output" else scd.improve_hidden
    accepted = []
    for seed in range(12):
        X, y = scd.linear_boundary(30, 3, seed)
        rng = np.random.default_rng(seed)
        start = scd.initial_weights(3, s, rng)
        start = scd.initial_biases(start, X, y, "balanced", s, rng)
        before = [array.copy() for array in start[:3]]
        changed, (scanned, reached) = step(start, X, y, "both", s, rng)
        assert [array.tolist() for array in start[:3]] == [array.tolist() for array in before]
        value = scd.objective(scd.logits(changed, X), y, kind, "both")
        assert value == pytest.approx(reached, abs=1e-12)
        if node == "output":
            H = scd.hidden_code(X, start.W, start.b)
            best = scd.best_output_threshold(H, start.v, y, kind, "both")
            move = scd.best_output_move(
                H, start.v, best.rank, y, s.step_output, 8, kind, "both", binary=binary
            )
            assert np.array_equal(changed.W, start.W) and np.array_equal(changed.b, start.b)
            moved = not np.array_equal(changed.v, start.v)
        else:
            assert np.array_equal(changed.v, start.v) and changed.c == start.c
            moved = not np.array_equal(changed.W, start.W)
            nodes = np.flatnonzero((changed.W != start.W).any(axis=0) | (changed.b != start.b))
            if len(nodes) == 0:
                continue  # the node drawn keeps its threshold: nothing tells which one it was
            (j,) = nodes
            best = scd.best_hidden_threshold(X, *start, j, y, kind, "both")
            move = scd.best_hidden_move(
                *(X, *start, j, range(3), s.step_hidden, 8, y, kind, "both"), binary=binary
            )
        assert scanned == pytest.approx(best.objective, abs=1e-12)
        better = scd.better(move.objective, best.objective, kind)
        expected = move.objective if better else best.objective
        assert reached == pytest.approx(expected, abs=1e-12)
        assert moved == scd.better(reached, scanned, kind)
        accepted.append(moved)
    assert any(accepted) and (kind == "scdce" or not all(accepted))


# --- training ---

SMALL = {"hidden_units": 5, "iterations": 30, "features_per_iteration": 4, "window": 10}


@pytest.mark.parametrize("kind", KINDS)
def test_the_snapshot_is_the_best_of_its_phase_and_never_gets_worse(kind):
    X, y = scd.linear_boundary(80, 6, seed=1)
    vote = scd.train(X, y, kind, 3, balanced_share=0.35, **SMALL)
    phases = [step.phase for step in vote.history]
    assert phases == ["balanced"] * 10 + ["both"] * 20  # floor(10.5)
    kept = [step.score for step in vote.history if step.kept]
    assert all(a < b for a, b in itertools.pairwise(kept)) and len(kept) > 3
    late = [step for step in vote.history if step.phase == "both"]
    # Scores up to 2 stand against a best of at most 1: the first of the second phase is kept.
    assert late[0].kept and late[0].score > 1
    assert scd.accuracy_score(scd.logits(vote.network, X), y, "both") == kept[-1]
    assert kept[-1] == max(step.score for step in late)
    running = -np.inf
    for step in vote.history:
        assert step.kept == (step.score > running)
        running = max(running, step.score)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_keep_their_form(kind, binary):
    X, y = scd.linear_boundary(60, 6, seed=2)
    W, _, v, _ = scd.train(X, y, kind, 0, binary=binary, **SMALL).network
    lengths = np.sqrt(np.r_[(W**2).sum(axis=0), (v**2).sum()])
    if binary:
        assert set(W.ravel()) == {-1, 1} and set(v) == {-1, 1}
    elif kind == "scd01":
        assert lengths == pytest.approx(1)
    else:
        assert np.abs(lengths - 1).max() > 0.05


def test_the_seed_decides_everything():
    X, y = scd.linear_boundary(50, 5, seed=0)
    same, again, other = (scd.train(X, y, "scd01", seed, **SMALL) for seed in (1, 1, 2))
    assert same.history == again.history and same.history != other.history
    assert np.array_equal(same.network.W, again.network.W)
    alone = scd.train(X, y, "scd01", [7, 1], **SMALL).network
    assert np.array_equal(scd.train_votes(X, y, "scd01", 2, 7, **SMALL)[1].W, alone.W)


def test_more_features_than_there_are_is_an_error():
    X, y = scd.linear_boundary(50, 5, seed=0)
    with pytest.raises(ValueError, match="larger sample"):
        scd.train(X, y, "scd01", 0, features_per_iteration=6)


def test_the_majority_decides_and_a_tie_is_class_0():
    X = np.array([[0.0], [1.0], [2.0]])
    one = np.ones((1, 1))
    votes = [scd.Network(one, np.array([b]), np.ones(1), -0.5) for b in (0.5, -0.5, -1.5)]
    assert [scd.predict(vote, X).sum() for vote in votes] == [3, 2, 1]
    assert scd.predict_votes(votes, X).tolist() == [0, 1, 1]
    assert scd.predict_votes(votes[:2], X).tolist() == [0, 1, 1]
    assert scd.predict_votes([votes[0], votes[2]], X).tolist() == [0, 0, 1]


# --- learning ---


def test_the_synthetic_set():
    from sklearn.linear_model import LogisticRegression

    X, y = scd.linear_boundary(1001, 20, seed=4)
    assert X.shape == (1001, 20) and X.dtype == np.float64 and y.dtype == np.int64
    assert y.sum() == 400 and X.min() >= 0 and X.max() < 1
    assert np.array_equal(X, X.astype(np.float32))
    assert not np.array_equal(X, scd.linear_boundary(1001, 20, seed=5)[0])
    score = LogisticRegression(C=100).fit(X[:600], y[:600]).score(X[600:], y[600:])
    assert 0.85 < score < 0.96  # linear, with noise


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_votes_learn_and_the_ensemble_is_better_than_its_members(kind, binary):
    X, y = scd.linear_boundary(900, 20, seed=0)
    train, test = slice(0, 300), slice(300, None)
    networks = scd.train_votes(
        *(X[train], y[train], kind, 15, 1),
        iterations=40,
        features_per_iteration=10,
        binary=binary,
    )
    single = np.mean([np.mean(scd.predict(network, X[test]) == y[test]) for network in networks])
    ensemble = np.mean(scd.predict_votes(networks, X[test]) == y[test])
    majority = np.mean(y[test] == 0)
    assert majority < 0.62 and single > majority + 0.02
    assert ensemble > max(majority + 0.1, single + 0.04)
