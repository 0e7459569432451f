"""Stochastic coordinate descent: every search against brute force, snapshots, independence."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.models import sign_network
from medrobust.models.ensembles import build_ensemble
from medrobust.runtime.journal import Journal
from medrobust.training import scd
from medrobust.training.engine import scd_descent_kernels as descent
from medrobust.training.engine import scd_search_kernels as search
from medrobust.training.engine.work import Work

from tests import scd_reference as reference

CASES = st.tuples(
    st.integers(0, 10**6),  # seed
    st.sampled_from(["scd01", "scdce"]),
    st.booleans(),  # binary weights
    st.booleans(),  # balanced phase
    st.booleans(),  # coarse inputs: equal rows, so equal projections
)


def rules(kind: str, binary: bool = False, balanced: bool = True, **changes) -> descent.Rules:
    values = {
        "cross_entropy": kind == "scdce", "binary_weights": binary, "row_share": 1.0,
        "hidden_step": 0.17, "output_step": 0.2, "features": 4, "window": 3,
        "balanced_iterations": 1 if balanced else 0, "median_bias": False,
    }  # fmt: skip
    return descent.Rules(**(values | changes))


def network_of(problem: descent.Problem, w, b, v, c) -> descent.Network:
    network = descent.Network(
        w=w.copy(), b=b.copy(), v=v.copy(), c=np.array([c]),
        projections=np.empty((len(b), problem.columns.shape[1])),
        codes=np.zeros(problem.columns.shape[1], np.uint64),
        best_w=w.copy(), best_b=b.copy(), best_v=v.copy(), best_c=np.zeros(1),
        best=np.array([-1.0, 0, 0, -1]), latest=np.zeros(3),
    )  # fmt: skip
    descent.project(problem.columns, network.w, network.projections)
    for node in range(len(b)):
        descent._set_codes(network, node)
    return network


class Small:
    """A problem of 20 to 40 rows and a random network, for both implementations."""

    def __init__(self, seed: int, kind: str, binary: bool, balanced: bool, coarse: bool) -> None:
        self.kind, self.binary, self.coarse = kind, binary, coarse
        self.phase = "balanced" if balanced else "both"
        rng = np.random.default_rng(seed)
        n, d, self.hidden = int(rng.integers(20, 40)), 6, 5
        self.x = rng.integers(0, 3, (n, d)) / 2 if coarse else rng.random((n, d))
        self.x = self.x.astype(np.float32)
        self.y = np.sort(rng.permutation(n) < n // 3).astype(np.int64)
        columns = np.ascontiguousarray(self.x.T)
        low, high = (m.astype(float) for m in (columns.min(1), columns.max(1)))
        self.problem = descent.Problem(columns, low, high, int((self.y == 0).sum()), n)
        w, v = rng.normal(size=(self.hidden, d)), rng.normal(size=self.hidden)
        if binary:
            w, v = np.sign(w), np.sign(v)
        self.network = network_of(
            self.problem, w, rng.normal(size=self.hidden) * 0.3, v, float(rng.normal() * 0.1)
        )
        self.rules = rules(kind, binary, balanced)
        drawn = np.zeros(n, np.uint8)
        self.sample = descent._draw_rows(rng, self.problem, 1.0, balanced, drawn)

    def reference(self) -> reference.Network:
        n = self.network
        return reference.Network(n.w.T.copy(), n.b.copy(), n.v.copy(), float(n.c[0]))

    def objective(self, network: reference.Network) -> float:
        logits = reference.logits(network, self.x.astype(float))
        return reference.objective(logits, self.y, self.kind, self.phase)


@settings(max_examples=150, deadline=None)
@given(CASES)
def test_the_output_move_is_that_of_brute_force(case):
    small = Small(*case)
    before, binary = small.reference(), small.binary
    hidden_code = reference.hidden_code(small.x.astype(float), before.W, before.b)
    rng, twin = np.random.default_rng(7), np.random.default_rng(7)
    descent._update_output(small.rules, small.network, rng, small.sample)
    order = descent._draw(twin, small.hidden, small.hidden)

    scanned = reference.best_output_threshold(
        hidden_code, before.v, small.y, small.kind, small.phase
    )
    move = reference.best_output_move(
        hidden_code, before.v, scanned.rank, small.y, 0.2, 3, small.kind, small.phase,
        binary=binary, order=order,
    )  # fmt: skip
    taken = reference.better(move.objective, scanned.objective, small.kind)
    best = move.objective if taken else scanned.objective
    # SCDCE keeps a margin beside projections that it puts its bias on.
    assert small.objective(small.reference()) == pytest.approx(
        best, abs=1e-12 if small.kind == "scd01" else 1e-4
    )
    # The loss of two moves can be equal up to rounding; counts of correct rows are exact.
    if small.kind == "scd01":
        v = before.v
        if taken:
            v = reference.moved(v, move.coordinate, move.sign, 0.2, small.kind, binary)
            if not binary:
                v = reference.unit(v)
        np.testing.assert_allclose(small.network.v, v, atol=1e-12)


@settings(max_examples=150, deadline=None)
@given(CASES)
def test_the_hidden_move_is_that_of_brute_force(case):
    small = Small(*case)
    before, binary, x = small.reference(), small.binary, small.x.astype(float)
    rng, twin = np.random.default_rng(11), np.random.default_rng(11)
    descent._update_hidden(small.problem, small.rules, small.network, rng, small.sample)
    node = int(twin.random() * small.hidden)
    features = descent._draw(twin, 6, 4)

    scanned = reference.best_hidden_threshold(
        x, *before[:3], before.c, node, small.y, small.kind, small.phase
    )
    move = reference.best_hidden_move(
        x, *before[:3], before.c, node, features, 0.17, 3, small.y, small.kind, small.phase,
        binary=binary, rank=scanned.rank,
    )  # fmt: skip
    taken = reference.better(move.objective, scanned.objective, small.kind)
    best = move.objective if taken else scanned.objective
    assert small.objective(small.reference()) == pytest.approx(best, abs=1e-8)
    assert small.network.latest[0] == pytest.approx(best, abs=1e-8)
    if small.kind == "scd01" and not small.coarse:
        w = before.W[:, node]
        if taken:
            w = reference.moved(w, move.coordinate, move.sign, 0.17, small.kind, binary)
        np.testing.assert_allclose(small.network.w[node], w, atol=1e-12)


def beside_ties(ordered: np.ndarray, rank: int) -> float:
    """The reference's threshold, but never on a projection: equal ones are off together."""
    if rank > 0 and ordered[rank - 1] == ordered[rank]:
        larger = ordered[ordered > ordered[rank]]
        return -(ordered[rank] + larger[0]) / 2 if len(larger) else -ordered[rank] - 0.01
    return -ordered[0] + 0.01 if rank == 0 else -(ordered[rank - 1] + ordered[rank]) / 2


def clearly_less(one: float, other: float, kind: str) -> bool:
    assume(abs(one - other) > 1e-4)
    return one < other


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["scd01", "scdce"]), st.booleans())
@example(138914, "scdce", False)
def test_first_biases_are_those_of_the_authors_code(seed, kind, balanced):
    small = Small(seed, kind, False, balanced, False)
    rng, twin = np.random.default_rng(5), np.random.default_rng(5)
    before = small.reference()._replace(b=np.zeros(small.hidden), c=0.0)
    descent._first_biases(small.rules, small.network, rng, small.sample)
    order = descent._draw(twin, small.hidden, small.hidden)

    class InOrder:
        def permutation(self, n):
            return order

    with pytest.MonkeyPatch.context() as patch:
        if kind == "scd01":
            every = lambda p: np.array([beside_ties(p, r) for r in range(len(p))])  # noqa: E731
            patch.setattr(reference, "threshold", beside_ties)
            patch.setattr(reference, "thresholds", every)
        else:
            # The compiled search keeps a margin of a millionth at the output, whose threshold is
            # the first to be set; what is decided by less is left out.
            plain, output = reference.threshold, iter([True])

            def with_margin(ordered: np.ndarray, rank: int) -> float:
                bias = plain(ordered, rank)
                margin = descent.ROUNDING * (1 + abs(bias) + np.abs(before.v).sum())
                return bias - margin if next(output, False) else bias

            patch.setattr(reference, "threshold", with_margin)
            patch.setattr(reference, "better", clearly_less)
        expected = reference.initial_biases(
            before, small.x.astype(float), small.y, small.phase,
            reference.Settings(kind, hidden_units=small.hidden), InOrder(),
        )  # fmt: skip
    np.testing.assert_allclose(small.network.b, expected.b, atol=1e-12)
    np.testing.assert_allclose(small.network.c, expected.c, atol=1e-12)


@pytest.mark.parametrize("cross_entropy", [False, True])
@pytest.mark.parametrize("coarse", [False, True])
def test_the_search_without_sorting_finds_what_sorting_all_finds(cross_entropy, coarse):
    """Many rows, so that the histogram has many bins and most rows are left aside."""
    rng = np.random.default_rng(3)
    n, d = 3000, 12
    columns = rng.random((d, n)).astype(np.float32)
    if coarse:
        columns = np.round(columns * 4) / 4
    low, high = columns.min(1).astype(float), columns.max(1).astype(float)
    for _ in range(20):
        rows = rng.permutation(n)
        p = rng.normal(size=d) @ columns[:, rows].astype(float)
        rows, p = rows[np.argsort(p)], np.sort(p)
        weights = rng.integers(-(2**30), 2**30, n) if cross_entropy else rng.integers(-1, 2, n)
        rank = int(rng.integers(0, n))
        features = rng.permutation(d)
        steps = np.tile([0.17, -0.17], (d, 1))
        found = search.best_coordinate(
            p, rows, weights, n, rank, 20, features, steps, columns, low, high
        )
        best = (-math.inf, -1, -1, -1)
        for s in range(2):
            for f, feature in enumerate(features):
                moved = p + steps[f, s] * columns[feature, rows].astype(float)
                order = np.argsort(moved, kind="stable")
                values, total = moved[order], weights.sum()
                below = np.concatenate([[0], np.cumsum(weights[order])])
                for k in range(max(0, rank - 20), min(n, rank + 20)):
                    off = (
                        k
                        if k == 0 or values[k - 1] < values[k]
                        else int((values <= values[k]).sum())
                    )
                    if total - below[off] > best[0]:
                        best = (total - below[off], f, s, off)
        assert found == best


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200),
    st.lists(st.sampled_from([0.0, 1e-300, 1.0, -1e12, 7.5]), max_size=200),
)
def test_argsort_is_numpys(values, more):
    array = np.array(values + more)
    assert (search.argsort(array) == np.argsort(array, kind="stable")).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_the_shortcut_for_the_output_bias_is_the_full_scan(seed, window):
    """The loss is convex in the bias, so a search by its slope finds the least of all."""
    rng = np.random.default_rng(seed)
    groups = int(rng.integers(1, 40))
    values = np.sort(np.round(rng.normal(size=groups) * 4) / 2)
    counts = rng.integers(1, 5, groups)
    ones = rng.integers(0, counts + 1)
    n = int(counts.sum())
    lowest, highest = (0, n - 1) if not window else search.window_ranks(n // 2, 3, n)
    candidates = np.empty(highest - lowest + 1)
    search.thresholds(values, counts, groups, lowest, highest, candidates)

    rows = np.repeat(values, counts)
    y = np.concatenate([np.arange(c) < o for c, o in zip(counts, ones, strict=True)]).astype(int)
    scan = []
    for rank in range(lowest, highest + 1):
        bias = reference.threshold(rows, rank)
        assert -candidates[rank - lowest] == bias
        scan.append(float(reference.cross_entropy(rows + bias, y).sum()))
    loss, place = search.best_logistic_threshold(
        values, counts, ones, groups, candidates, len(candidates), math.inf
    )
    assert loss == pytest.approx(min(scan), abs=1e-9)
    assert scan[place] == pytest.approx(min(scan), abs=1e-9)
    below, nothing = search.best_logistic_threshold(
        values, counts, ones, groups, candidates, len(candidates), min(scan) - 1e-6
    )
    assert below == math.inf and nothing == -1


def test_rows_are_drawn_from_each_class_without_repetition():
    problem = descent.Problem(np.zeros((1, 100), np.float32), np.zeros(1), np.zeros(1), 30, 41)
    drawn, rng = np.zeros(100, np.uint8), np.random.default_rng(0)
    for share, ones, zeros in [(0.25, 2, 22), (0.75, 8, 66), (0.01, 2, 2), (1.0, 11, 89)]:
        hits = np.zeros(100)
        for _ in range(300):
            sample = descent._draw_rows(rng, problem, share, True, drawn)
            assert len(set(sample.rows.tolist())) == len(sample.rows) == ones + zeros
            assert sample.labels.tolist() == [30 <= r < 41 for r in sample.rows]
            assert sample.labels.sum() == ones and not drawn.any()
            # Balanced accuracy: both classes count the same in all.
            assert sample.one * ones == sample.zero * zeros
            hits[sample.rows] += 1
        for part, taken in ((slice(30, 41), ones), (np.r_[0:30, 41:100], zeros)):
            share_of_each = hits[part] / 300
            assert share_of_each.mean() == pytest.approx(taken / len(share_of_each))
            assert np.abs(share_of_each - share_of_each.mean()).max() < 0.15


def test_a_snapshot_is_never_worse_than_the_one_before():
    small = Small(4, "scd01", False, True, False)
    network, rng = small.network, np.random.default_rng(0)
    settings_ = rules("scd01", row_share=0.5, balanced_iterations=30)
    scores = []
    for iteration in range(120):
        descent.descend(small.problem, settings_, network, rng, iteration, iteration + 1)
        scores.append(network.best[0])
        kept = reference.Network(
            network.best_w.T, network.best_b, network.best_v, float(network.best_c[0])
        )
        last = int(network.best[3])
        phase = "balanced" if last < 30 else "both"
        logits = reference.logits(kept, small.x.astype(float))
        assert reference.accuracy_score(logits, small.y, phase) == pytest.approx(scores[-1])
    assert (np.diff(scores) >= 0).all()
    # Balanced accuracy is at most 1: the later score replaces it at once.
    assert max(scores[:30]) <= 1 < scores[31]


def spec(loss: str = "zero_one", **changes) -> scd.Spec:
    values = {"iterations": 40, "row_share": 0.5, "features_per_iteration": 8}
    return scd.Spec(loss=loss, **(values | changes))


def work(n_classes: int, members: list[int], **more) -> Work:
    rng = np.random.default_rng(1)
    y = rng.integers(0, n_classes, 300)
    x = rng.random((300, 10)) * 0.5 + 0.5 * rng.random((n_classes, 10))[y]
    x = x.astype(np.float32)
    return Work(x, y, n_classes, members, [100 + m for m in members], **more)


def train(loss: str, w: Work, **changes):
    return scd.train(spec(loss, **changes), "sign_network", sign_network.Spec(hidden_units=6), w)


def same(one, other, places=slice(None)) -> bool:
    return all(
        one.parameters[name][places].tobytes() == other.parameters[name].tobytes()
        for name in one.parameters
    )


@pytest.mark.parametrize("loss", ["zero_one", "cross_entropy"])
def test_a_member_depends_on_its_seed_alone(loss, tmp_path):
    whole = train(loss, work(3, [0, 1, 2]))
    assert whole.parameters["hidden_weights"].shape == (3, 3, 6, 10)
    assert same(whole, train(loss, work(3, [1, 2])), slice(1, 3))
    assert same(whole, train(loss, work(3, [0, 1, 2], threads=3)))
    with Journal(tmp_path / "a", "key") as journal:
        assert same(whole, train(loss, work(3, [0, 1, 2], journal=journal)))
    with Journal(tmp_path / "a", "key") as journal:
        assert len(journal.finished()) == 9
        assert same(whole, train(loss, work(3, [0, 1, 2], journal=journal)))


def test_the_length_of_calls_changes_nothing(monkeypatch):
    whole = train("cross_entropy", work(2, [0]))
    monkeypatch.setattr(scd, "_ITERATIONS_PER_CALL", 7)
    assert same(whole, train("cross_entropy", work(2, [0])))


def test_a_failed_network_ends_the_job_and_finished_ones_are_kept(tmp_path, monkeypatch):
    trained = scd._train_network

    def fail_at(spec, hidden, problem, task, report):
        if task.name == "member2-class1":
            raise RuntimeError("broken")
        return trained(spec, hidden, problem, task, report)

    monkeypatch.setattr(scd, "_train_network", fail_at)
    with Journal(tmp_path / "a", "key") as journal, pytest.raises(RuntimeError, match="broken"):
        train("zero_one", work(2, [0, 1, 2], journal=journal))
    monkeypatch.setattr(scd, "_train_network", trained)
    with Journal(tmp_path / "a", "key") as journal:
        assert set(journal.finished()) == {"member0-class1", "member1-class1"}
        resumed = train("zero_one", work(2, [0, 1, 2], journal=journal))
    assert same(train("zero_one", work(2, [0, 1, 2])), resumed)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("loss", ["zero_one", "cross_entropy"])
def test_stored_networks_say_what_training_counted(loss, binary):
    w = work(3, [0, 1])
    trained = train(loss, w, binary_weights=binary)
    if binary:
        assert set(np.unique(trained.parameters["hidden_weights"])) == {-1, 1}
        assert set(np.unique(trained.parameters["output_weights"])) == {-1, 1}
    elif loss == "zero_one":
        lengths = np.linalg.norm(trained.parameters["hidden_weights"], axis=3)
        np.testing.assert_allclose(lengths, 1, atol=1e-6)
    scores = sign_network.member_scores(
        sign_network.Spec(hidden_units=6), trained.parameters, (10,), 3, "cpu"
    )(w.x)
    right = (scores == (w.y[:, None] == np.arange(3))).mean(axis=1)
    counted = [h["training_accuracy"] for h in trained.history]
    np.testing.assert_allclose(right, counted, atol=1 / 300)


def test_an_unknown_class_and_too_many_features_are_refused():
    empty = work(3, [0])
    empty.y[empty.y == 2] = 1
    with pytest.raises(InputError, match="Class 2 has 0 training points"):
        train("zero_one", empty)
    with pytest.raises(InputError, match=r"11 weights .* only 10 features"):
        train("zero_one", work(2, [0]), features_per_iteration=11)


def test_the_log_tells_iteration_objective_accuracy_and_time_left(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("medrobust"), "propagate", True)
    with caplog.at_level(logging.INFO, logger="medrobust"):
        train("cross_entropy", work(2, [5]))
    line = caplog.messages[-1]
    assert "SCDCE, 1 networks: 40/40 iterations" in line and "left; member 5, iteration 40" in line
    assert "loss 0." in line and "accuracy 0." in line


@pytest.mark.parametrize(("loss", "kind"), [("zero_one", "scd01"), ("cross_entropy", "scdce")])
def test_a_hundred_votes_are_as_good_as_the_plain_reference(loss, kind):
    x, y = reference.linear_boundary(800, 12, seed=1)
    amounts = {"row_share": 0.5, "iterations": 30, "window": 10}
    networks = reference.train_votes(
        x[:300], y[:300], kind, 100, 0, features_per_iteration=6, hidden_units=20, **amounts
    )
    plain = (reference.predict_votes(networks, x[300:]) == y[300:]).mean()
    w = Work(x[:300].astype(np.float32), y[:300], 2, list(range(100)), list(range(100)))
    trained = scd.train(
        scd.Spec(loss=loss, features_per_iteration=6, **amounts),
        "sign_network",
        sign_network.Spec(),
        w,
    )
    ensemble = build_ensemble(
        "sign_network", sign_network.Spec(), [trained.parameters], vote="majority",
        input_shape=(12,), n_classes=2, input_range=(0.0, 1.0),
    )  # fmt: skip
    accuracy = (ensemble.predict(x[300:].astype(np.float32)) == y[300:]).mean()
    members = ensemble.member_predictions(x[300:].astype(np.float32)) == y[300:]
    assert accuracy > members.mean() + 0.02
    # Two draws of 100 votes: at most the spread that five seeds of the reference show.
    assert accuracy >= plain - 0.015
