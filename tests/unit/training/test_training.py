"""Training: against scikit-learn, and independence of how members are grouped."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from medrobust.models import forest, mlp
from medrobust.runtime.journal import Checkpoint, Journal
from medrobust.training import bagged_trees, sgd_cross_entropy
from medrobust.training.engine import loop
from medrobust.training.engine.work import Work
from sklearn.ensemble import RandomForestClassifier
from sklearn.neural_network import MLPClassifier


def problem(classes: int, n: int = 300, d: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    y = rng.integers(0, classes, n)
    centres = rng.normal(size=(classes, d))
    x = centres[y] + rng.normal(scale=0.8, size=(n, d))
    return x.astype(np.float32), y.astype(np.int64)


def mlp_spec(**changes) -> sgd_cross_entropy.Spec:
    values = {"learning_rate": 0.05, "l2_penalty": 1e-2, "batch_size": 64, "max_epochs": 5}
    return sgd_cross_entropy.Spec(**(values | changes))


def train_mlp(seeds: list[int], classes: int = 3, checkpoint=None, **changes):
    x, y = problem(classes)
    work = Work(x, y, classes, list(range(len(seeds))), seeds, checkpoint=checkpoint)
    return sgd_cross_entropy.train(mlp_spec(**changes), "mlp", mlp.Spec(hidden_units=7), work)


@pytest.mark.parametrize("classes", [2, 3])
def test_epochs_equal_scikit_learns_from_the_same_start_and_order(classes, monkeypatch):
    """Five epochs of steps: same initial values, batches, penalty, momentum, loss."""
    x, y = problem(classes)
    spec = mlp_spec()
    reference = MLPClassifier(
        (7,), activation="logistic", solver="sgd", alpha=spec.l2_penalty, batch_size=64,
        learning_rate_init=0.05, max_iter=1, shuffle=False, momentum=0.9, warm_start=True,
        random_state=0,
    )  # fmt: skip
    initial = mlp.initial_parameters(mlp.Spec(hidden_units=7), (12,), classes, [11])

    def start(self, y, layer_units, dtype):
        MLPClassifier._init_before(self, y, layer_units, dtype)
        self.coefs_ = [initial["w1"][0].T.copy(), initial["w2"][0].T.copy()]
        self.intercepts_ = [initial["b1"][0].copy(), initial["b2"][0].copy()]

    monkeypatch.setattr(MLPClassifier, "_init_before", MLPClassifier._initialize, raising=False)
    monkeypatch.setattr(MLPClassifier, "_initialize", start)
    reference.set_params(max_iter=5, tol=0)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        reference.fit(x, y)

    class InOrder:
        def permutation(self, n):
            return np.arange(n)

    monkeypatch.setattr(loop, "generator", lambda *names: InOrder())
    trained = train_mlp([11], classes)
    for name, expected in (
        ("w1", reference.coefs_[0].T),
        ("w2", reference.coefs_[1].T),
        ("b1", reference.intercepts_[0]),
        ("b2", reference.intercepts_[1]),
    ):
        np.testing.assert_allclose(trained.parameters[name][0], expected, atol=2e-5)
    assert trained.history[0]["loss"] == pytest.approx(reference.loss_, abs=1e-5)


def test_a_member_depends_on_its_own_seed_only():
    together = train_mlp([5, 6, 7, 8, 9])
    for k, seed in enumerate([5, 6, 7, 8, 9]):
        alone = train_mlp([seed])
        for name, value in alone.parameters.items():
            assert value[0].tobytes() == together.parameters[name][k].tobytes()
    assert not np.allclose(together.parameters["w1"][0], together.parameters["w1"][1])


@pytest.mark.parametrize("together", [2, 3, 5])
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("n", [754, 900])
def test_no_place_in_a_stack_changes_a_bit_at_the_size_of_real_data(together, classes, n):
    """187 features, 20 units: shapes at which a stack of one takes another path.

    The last batch has 154 points as MIT-BIH's, or 100: then a member's values neither begin at
    a multiple of a vector register nor fill a number of them.
    """
    rng = np.random.default_rng(0)
    x, y = rng.random((n, 187), dtype=np.float32), rng.integers(0, classes, n)
    spec = mlp_spec(batch_size=200, max_epochs=2)

    def train(seeds):
        work = Work(x, y, classes, list(range(len(seeds))), seeds)
        return sgd_cross_entropy.train(spec, "mlp", mlp.Spec(), work)

    stacked = train(list(range(10, 10 + together)))
    for k in range(together):
        alone = train([10 + k])
        assert len(alone.history) == 1
        for name, value in alone.parameters.items():
            assert value[0].tobytes() == stacked.parameters[name][k].tobytes()


def test_members_stop_by_scikit_learns_rule():
    trained = train_mlp([1, 2, 3], max_epochs=400, tolerance=1e-2, patience=3)
    epochs = [entry["epochs"] for entry in trained.history]
    assert all(e < 400 for e in epochs)
    assert {entry["stopped"] for entry in trained.history} == {"converged"}
    # A stopped member is the same as if it had been trained up to there.
    k = int(np.argmin(epochs))
    until = train_mlp([1, 2, 3], max_epochs=epochs[k], tolerance=0.0, patience=400)
    assert until.parameters["w1"][k].tobytes() == trained.parameters["w1"][k].tobytes()


def none_correct(w: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(w), dtype=torch.int64)


def test_a_loss_that_is_not_a_number_stops_the_member_alone():
    def explode(parameters, x, y):
        return torch.log(parameters["w"]).square().sum(dim=1), none_correct(parameters["w"])

    work = Work(np.zeros((4, 1), np.float32), np.zeros(4, np.int64), 2, [0, 1], [0, 1])
    _, history = loop.train_stacked(
        work,
        {"w": np.array([[2.0, 3.0], [2.0, -1.0]], np.float32)},
        explode,
        lambda tensors: torch.optim.SGD(tensors, lr=0.1),
        batch_size=2,
        stopping=loop.StoppingRule(6, 0.0, 10),
        what="test",
    )
    assert history[1]["stopped"] == "loss is not a number" and history[1]["loss"] is None
    assert history[0]["epochs"] == 6


def test_optimizers_with_a_step_count_work_when_members_leave_the_stack():
    """Adam keeps a scalar per tensor, which has no member axis to cut."""
    targets = torch.tensor([[1.0], [2.0], [9.0]])

    def loss(parameters, x, y):
        w = parameters["w"]
        return (w - targets[: len(w)]).square().sum(dim=1), none_correct(w)

    # All start at the first target: that member is done at once, and leaves.
    work = Work(np.zeros((4, 1), np.float32), np.zeros(4, np.int64), 2, [0, 1, 2], [0, 1, 2])
    _, history = loop.train_stacked(
        work,
        {"w": np.ones((3, 1), np.float32)},
        loss,
        lambda tensors: torch.optim.Adam(tensors, lr=0.01),
        batch_size=2,
        stopping=loop.StoppingRule(8, 1e-9, 2),
        what="test",
    )
    assert history[0]["epochs"] < 8 and history[0]["stopped"] == "converged"
    assert history[2]["epochs"] == 8


def test_untrained_tensors_are_the_losss_own_and_after_step_sees_all():
    """The loss alone changes the count; the weight is held below its bound after each step."""
    seen = []

    def loss(parameters, x, y):
        parameters["count"] += 1
        return -parameters["w"].sum(dim=1), none_correct(parameters["w"])

    def bound(parameters):
        seen.append(sorted(parameters))
        with torch.no_grad():
            parameters["w"].clamp_(max=0.25)

    work = Work(np.zeros((5, 1), np.float32), np.zeros(5, np.int64), 2, [0, 1], [0, 1])
    parameters, _ = loop.train_stacked(
        work,
        {"w": np.zeros((2, 3), np.float32), "count": np.zeros((2, 1), np.float32)},
        loss,
        lambda tensors: torch.optim.SGD(tensors, lr=0.1),
        batch_size=2,
        stopping=loop.StoppingRule(2),
        what="test",
        untrained={"count"},
        after_step=bound,
    )
    assert (parameters["count"] == 6).all() and seen == [["count", "w"]] * 6
    assert (parameters["w"] == 0.25).all()


def test_without_patience_training_runs_to_the_last_epoch():
    def constant(parameters, x, y):
        return 0 * parameters["w"].sum(dim=1) + 1, none_correct(parameters["w"])

    flat = train_with(constant, 40)
    assert [(entry["epochs"], entry["stopped"]) for entry in flat] == [(40, "max_epochs")]


@pytest.mark.parametrize(("apart", "slots"), [(False, 2), (True, 1)])
def test_a_lone_member_has_a_ghost_unless_members_are_computed_apart(apart, slots):
    shapes = set()

    def loss(parameters, x, y):
        shapes.add((len(parameters["w"]), len(x), len(y)))
        return parameters["w"].square().sum(dim=1), none_correct(parameters["w"])

    assert len(train_with(loss, 2, apart=apart)) == 1
    assert shapes == {(slots, slots, slots)}


def train_with(loss, epochs: int, **options) -> list[dict]:
    work = Work(np.zeros((4, 1), np.float32), np.zeros(4, np.int64), 2, [7], [7])
    return loop.train_stacked(
        work,
        {"w": np.ones((1, 2), np.float32)},
        loss,
        lambda tensors: torch.optim.SGD(tensors, lr=0.1),
        batch_size=2,
        stopping=loop.StoppingRule(epochs),
        what="test",
        **options,
    )[1]


def test_batches_hold_every_point_once_with_its_label_and_in_another_order_each_epoch():
    x = np.arange(30, dtype=np.float32).reshape(10, 3, 1)
    rows: list[list[tuple[int, int]]] = [[], []]

    def loss(parameters, x, y):
        assert x.shape[2:] == (3, 1)
        for member in range(2):
            first = (x[member, :, 0, 0] / 3).long()
            rows[member] += list(zip(first.tolist(), y[member].tolist(), strict=True))
        return parameters["w"].sum(dim=1), none_correct(parameters["w"])

    work = Work(x, np.arange(10) % 4, 4, [0, 1], [0, 1])
    loop.train_stacked(
        work,
        {"w": np.zeros((2, 1), np.float32)},
        loss,
        lambda tensors: torch.optim.SGD(tensors, lr=0.1),
        batch_size=4,
        stopping=loop.StoppingRule(2),
        what="test",
    )
    epochs = [member[start : start + 10] for member in rows for start in (0, 10)]
    assert all(sorted(epoch) == [(i, i % 4) for i in range(10)] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


class _Killed(Exception):
    pass


@pytest.mark.parametrize("after", [1, 4, 7])
def test_training_resumes_from_its_checkpoint_with_the_same_bytes(tmp_path, after, monkeypatch):
    seeds = [4, 5, 6]
    changes = {"max_epochs": 12, "tolerance": 0.02, "patience": 2}
    undisturbed = train_mlp(seeds, **changes)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    with Checkpoint(tmp_path / "c", "key") as checkpoint:
        saves = 0
        save = checkpoint.save

        def save_then_die(*arguments):
            nonlocal saves
            save(*arguments)
            saves += 1
            if saves == after:
                raise _Killed

        checkpoint.save = save_then_die
        with pytest.raises(_Killed):
            train_mlp(seeds, checkpoint=checkpoint, **changes)
    with Checkpoint(tmp_path / "c", "key") as checkpoint:
        assert checkpoint.load()[1]["epoch"] == after
        resumed = train_mlp(seeds, checkpoint=checkpoint, **changes)
    assert resumed.history == undisturbed.history
    for name, value in undisturbed.parameters.items():
        assert value.tobytes() == resumed.parameters[name].tobytes()


def test_a_state_that_takes_long_to_save_is_saved_less_often(monkeypatch):
    """Each second an epoch, each save three seconds: the next is due after 20 times 5 seconds."""
    now, saves = [0.0], []

    class Slow:
        def load(self):
            return None

        def save(self, arrays, state):
            saves.append(state["epoch"])
            now[0] += 3.0

    class Idle:
        def load(self, state):
            pass

        def epoch(self, state, pulse):
            now[0] += 1.0
            return np.zeros(1), np.ones(1)

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    work = Work(np.zeros((2, 1), np.float32), np.zeros(2, np.int64), 2, [0], [1], checkpoint=Slow())
    start = {"w": np.zeros((1, 1), np.float32)}
    rule = loop.StoppingRule(260)
    loop.run_epochs(work, start, Idle(), stopping=rule, what="test", ghosts=False)
    assert saves == [5, 105, 205]


def grow(members: list[int], journal=None, classes: int = 3):
    x, y = problem(classes)
    work = Work(x, y, classes, members, [100 + m for m in members], journal=journal)
    return bagged_trees.train(bagged_trees.Spec(min_samples_leaf=5), "forest", forest.Spec(), work)


def test_trees_equal_scikit_learns():
    x, y = problem(3)
    trained = grow([0, 1, 2])
    scores = forest.member_scores(forest.Spec(), trained.parameters, (12,), 3, "cpu")(x)
    for k in range(3):
        reference = RandomForestClassifier(
            1, min_samples_leaf=5, max_features=None, random_state=100 + k
        ).fit(x, y)
        np.testing.assert_allclose(scores[k], reference.predict_proba(x), atol=1e-6)


def test_trees_do_not_depend_on_their_grouping_and_survive_in_the_journal(tmp_path):
    whole = grow([0, 1, 2, 3])
    parts = forest.concatenate([grow([0]).parameters, grow([1, 2, 3]).parameters])
    with Journal(tmp_path / "j", "key") as journal:
        grow([0, 1], journal)
    with Journal(tmp_path / "j", "key") as journal:
        assert set(journal.finished()) == {"tree0", "tree1"}
        resumed = grow([0, 1, 2, 3], journal)
    for name, value in whole.parameters.items():
        assert value.tobytes() == parts[name].tobytes() == resumed.parameters[name].tobytes()


def test_a_class_absent_from_the_training_labels_keeps_its_column():
    x, y = problem(3)
    work = Work(x, np.where(y == 1, 2, y), 3, [0], [1])
    trained = bagged_trees.train(bagged_trees.Spec(), "forest", forest.Spec(), work)
    probability = trained.parameters["probability"]
    assert probability.shape[1] == 3 and not probability[:, 1].any() and probability[:, 2].any()
