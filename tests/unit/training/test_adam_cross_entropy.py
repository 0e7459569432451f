"""Training by Adam: against plain PyTorch, skorch's hold-out, grouping, kills, and learning."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.models import binary_mlp, cnn1d, mlp
from medrobust.models.contract import architecture_of
from medrobust.runtime.journal import Checkpoint
from medrobust.training import adam_cross_entropy
from medrobust.training.engine import loop
from medrobust.training.engine.work import Trained, Work
from sklearn.model_selection import KFold

SPECS = {
    "bnn": binary_mlp.Spec(hidden_units=7),
    "cnn1d": cnn1d.Spec(dense_units=8),
    "mlp": mlp.Spec(hidden_units=7),
}


def problem(n: int = 150, d: int = 33, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Waves of another frequency for each class, at random phases, with noise."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, classes, n)
    time = np.arange(d) / d
    waves = np.sin(2 * np.pi * (1.5 * (y[:, None] + 1) * time + rng.random((n, 1))))
    return (waves + rng.normal(0, 0.2, (n, d))).astype(np.float32), y.astype(np.int64)


def clouds(n: int, d: int = 33, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Points around one centre for each class."""
    rng = np.random.default_rng(4)
    y = rng.integers(0, classes, n)
    centres = rng.normal(size=(classes, d))
    return (centres[y] + rng.normal(size=(n, d))).astype(np.float32), y.astype(np.int64)


def train(
    architecture: str,
    seeds: list[int],
    data: tuple[np.ndarray, np.ndarray] | None = None,
    checkpoint: Checkpoint | None = None,
    **changes,
) -> Trained:
    x, y = problem() if data is None else data
    values = {"learning_rate": 0.003, "batch_size": 32, "max_epochs": 2}
    spec = adam_cross_entropy.Spec(**(values | changes))
    members = list(range(len(seeds)))
    work = Work(x, y, int(y.max()) + 1, members, seeds, checkpoint=checkpoint)
    return adam_cross_entropy.train(spec, architecture, SPECS[architecture], work)


def same_bytes(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)


class InOrder:
    def permutation(self, n: int) -> np.ndarray:
        return np.arange(n)


def test_epochs_equal_pytorchs_from_the_same_start_and_order(monkeypatch):
    """Two epochs, the last batch smaller than the others, epsilon large enough to matter."""
    x, y = problem(100)
    monkeypatch.setattr(loop, "generator", lambda *names: InOrder())
    trained = train("mlp", [11, 12], (x, y), epsilon=1e-3)
    initial = mlp.initial_parameters(SPECS["mlp"], (33,), 3, [11, 12])
    for k in range(2):
        module = torch.nn.Sequential(
            torch.nn.Linear(33, 7), torch.nn.Sigmoid(), torch.nn.Linear(7, 3)
        )
        with torch.no_grad():
            for name, value in zip(("w1", "b1", "w2", "b2"), module.parameters(), strict=True):
                value.copy_(torch.from_numpy(initial[name][k]))
        adam = torch.optim.Adam(module.parameters(), lr=0.003, eps=1e-3)
        for _ in range(2):
            total = 0.0
            for start in range(0, 100, 32):
                part = slice(start, start + 32)
                adam.zero_grad()
                loss = torch.nn.functional.cross_entropy(
                    module(torch.from_numpy(x[part])), torch.from_numpy(y[part])
                )
                loss.backward()
                adam.step()
                total += loss.item() * len(x[part])
        for name, value in zip(("w1", "b1", "w2", "b2"), module.parameters(), strict=True):
            np.testing.assert_allclose(trained.parameters[name][k], value.detach(), atol=2e-6)
        entry = trained.history[k]
        assert (entry["epochs"], entry["stopped"]) == (2, "max_epochs")
        assert entry["loss"] == pytest.approx(total / 100, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=4, max_size=80), st.sampled_from([2, 3, 4, 5, 10, 20]))
def test_held_out_points_are_skorchs(labels, folds):
    """The first stratified fold as scikit-learn 0.21 made it: a KFold of every class."""
    y = np.array(labels)
    expected = []
    for label in set(labels):
        rows = np.flatnonzero(y == label)
        _, first = next(KFold(folds).split(np.zeros((max(len(rows), folds), 1))))
        expected += rows[first[first < len(rows)]].tolist()
    assert np.flatnonzero(adam_cross_entropy.held_out(y, 1 / folds)).tolist() == sorted(expected)


def test_holding_out_all_points_is_refused():
    x = problem(3)[0]
    with pytest.raises(InputError, match="No training point is left"):
        train("mlp", [1], (x, np.arange(3)), validation_share=0.2)


def test_held_out_points_are_not_used():
    x, y = problem()
    held = adam_cross_entropy.held_out(y, 0.2)
    assert 30 <= held.sum() <= 32
    changed = np.where(held[:, None], 1e3, x).astype(np.float32)
    first = train("mlp", [1], (x, y), validation_share=0.2)
    assert same_bytes(
        first.parameters, train("mlp", [1], (changed, y), validation_share=0.2).parameters
    )
    assert same_bytes(first.parameters, train("mlp", [1], (x[~held], y[~held])).parameters)


@pytest.mark.parametrize("architecture", ["bnn", "cnn1d", "mlp"])
def test_a_member_depends_on_its_own_seed_only(architecture):
    seeds = [5, 6, 7]
    together = train(architecture, seeds).parameters
    for k, seed in enumerate(seeds):
        alone = train(architecture, [seed]).parameters
        assert same_bytes(alone, {name: value[k : k + 1] for name, value in together.items()})
    pair = train(architecture, seeds[1:]).parameters
    joined = architecture_of(architecture).concatenate(
        [train(architecture, seeds[:1]).parameters, pair]
    )
    assert same_bytes(joined, together)
    assert not np.allclose(together["w1"][0], together["w1"][1])


@pytest.mark.parametrize("together", [2, 5, 9])
def test_the_size_of_a_binary_stack_changes_no_bit_at_the_size_of_real_data(together):
    rng = np.random.default_rng(0)
    x, y = rng.random((300, 187), dtype=np.float32), rng.integers(0, 5, 300)
    spec = adam_cross_entropy.Spec(learning_rate=0.001, max_epochs=4)

    def trained(count: int) -> dict[str, np.ndarray]:
        work = Work(x, y, 5, list(range(count)), list(range(10, 10 + count)))
        return adam_cross_entropy.train(spec, "bnn", binary_mlp.Spec(), work).parameters

    stacked = trained(together)
    assert same_bytes(trained(1), {name: value[:1] for name, value in stacked.items()})


class _Killed(Exception):
    pass


@pytest.mark.parametrize("architecture", ["bnn", "cnn1d"])
def test_training_resumes_from_its_checkpoint_with_the_same_bytes(
    tmp_path, architecture, monkeypatch
):
    seeds = [4, 5]
    undisturbed = train(architecture, seeds, max_epochs=4)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    with Checkpoint(tmp_path / "c", "key") as checkpoint:
        save = checkpoint.save

        def save_then_die(arrays, info):
            save(arrays, info)
            if info["epoch"] == 2:
                raise _Killed

        checkpoint.save = save_then_die
        with pytest.raises(_Killed):
            train(architecture, seeds, checkpoint=checkpoint, max_epochs=4)
    with Checkpoint(tmp_path / "c", "key") as checkpoint:
        assert checkpoint.load()[1]["epoch"] == 2
        resumed = train(architecture, seeds, checkpoint=checkpoint, max_epochs=4)
    assert resumed.history == undisturbed.history
    assert same_bytes(resumed.parameters, undisturbed.parameters)


def test_moving_statistics_follow_the_batches(monkeypatch):
    """With steps too small to change a weight, the averages have a closed form."""
    x, y = problem(100)
    monkeypatch.setattr(loop, "generator", lambda *names: InOrder())
    parameters = train("bnn", [1], (x, y), learning_rate=1e-30).parameters
    initial = binary_mlp.initial_parameters(SPECS["bnn"], (33,), 3, [1])
    hidden = x.astype(float) @ np.where(initial["w1"][0] < 0, -1, 1).T
    mean, variance = np.zeros(7), np.ones(7)
    for _ in range(2):
        for start in range(0, 100, 32):
            batch = hidden[start : start + 32]
            mean = 0.9 * mean + 0.1 * batch.mean(axis=0)
            variance = 0.9 * variance + 0.1 * batch.var(axis=0)
    np.testing.assert_allclose(parameters["mean"][0], mean, atol=1e-4)
    np.testing.assert_allclose(parameters["variance"][0], variance, rtol=1e-4)
    assert parameters["w1"].tobytes() == initial["w1"].tobytes()


def test_latent_weights_stay_within_one():
    parameters = train("bnn", [1, 2], learning_rate=0.5).parameters
    for name in ("w1", "w2"):
        assert np.abs(parameters[name]).max() == 1.0


@pytest.mark.parametrize(
    ("architecture", "data", "epochs", "least"),
    [("bnn", clouds(400), 30, 0.9), ("cnn1d", problem(400), 8, 0.95)],
)
def test_training_learns(architecture, data, epochs, least):
    x, y = data
    trained = train(
        architecture, [0, 1], (x[:300], y[:300]), learning_rate=0.005, max_epochs=epochs
    )
    module = architecture_of(architecture)
    scores = module.member_scores(SPECS[architecture], trained.parameters, (33,), 3, "cpu")
    accuracy = (scores(x[300:]).argmax(2) == y[300:]).mean(axis=1)
    assert (accuracy >= least).all(), accuracy
