"""The MLP's written-out epoch: against autograd and the torch optimizer, threads, NaN."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from medrobust.core.logs import logger
from medrobust.models import mlp
from medrobust.models.engine import mlp_kernels
from medrobust.runtime.devices import one_blas_thread
from medrobust.training import sgd_cross_entropy
from medrobust.training.engine.cross_entropy import cross_entropy
from medrobust.training.engine.work import Trained, Work
from threadpoolctl import threadpool_info, threadpool_limits


def problem(classes: int, n: int = 330, d: int = 187) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    y = rng.integers(0, classes, n)
    return (rng.random((n, d)) + y[:, None] / 9).astype(np.float32), y


def train(seeds: list[int], classes: int, activation: str, threads: int = 1, **changes) -> Trained:
    x, y = problem(classes)
    values = {"learning_rate": 0.05, "l2_penalty": 0.3, "batch_size": 100, "max_epochs": 1}
    work = Work(x, y, classes, list(range(len(seeds))), seeds, threads=threads)
    return sgd_cross_entropy.train(
        sgd_cross_entropy.Spec(**(values | changes)), "mlp", mlp.Spec(activation=activation), work
    )


def test_exponential_is_within_its_error_and_keeps_nan():
    x = np.linspace(-87, 87, 20001, dtype=np.float32)
    values = np.array([mlp_kernels._exp(v) for v in x])
    assert (values == values.astype(np.float32)).all()
    np.testing.assert_allclose(values, np.exp(x.astype(np.float64)), rtol=1e-7)
    assert np.isnan(mlp_kernels._exp(np.float32(np.nan)))
    assert mlp_kernels._exp(np.float32(-np.inf)) == mlp_kernels._exp(np.float32(-87))
    assert mlp_kernels._exp(np.float32(np.inf)) == mlp_kernels._exp(np.float32(87))


@pytest.mark.parametrize("activation", ["logistic", "relu"])
@pytest.mark.parametrize("classes", [2, 5])
def test_gradient_equals_autograds(classes, activation):
    """One step from rest, of one batch: the velocity is the gradient."""
    x, y = problem(classes)
    spec, penalty = mlp.Spec(activation=activation), 3.0
    stack = mlp.initial_parameters(spec, (187,), classes, [4])
    tensors = {n: torch.from_numpy(v.copy()).double().requires_grad_() for n, v in stack.items()}
    outputs = mlp.forward(spec, tensors, torch.from_numpy(x[None]).double())
    squares = tensors["w1"].square().sum() + tensors["w2"].square().sum()
    losses, correct = cross_entropy(outputs, torch.from_numpy(y[None]))
    loss = losses[0] + penalty / 2 / len(x) * squares
    loss.backward()
    parameters = {name: value[0].copy() for name, value in stack.items()}
    velocities = {name: np.zeros_like(value) for name, value in parameters.items()}
    found, accuracy = mlp.momentum_epoch(
        spec, x, y, np.random.default_rng(0).permutation(len(x)), parameters, velocities,
        batch_size=len(x), learning_rate=0.5, momentum=0.9, nesterov=False, l2_penalty=penalty,
    )  # fmt: skip
    assert found == pytest.approx(loss.item(), rel=1e-6)
    calls = (outputs[0, :, 0] > 0).long() if classes == 2 else outputs[0].argmax(dim=1)
    right = int((calls.numpy() == y).sum())
    assert 0 < right < len(y) and accuracy == right / len(y) and int(correct) == right
    for name, tensor in tensors.items():
        expected = tensor.grad[0].numpy()
        largest = np.abs(expected).max()
        np.testing.assert_allclose(velocities[name], expected, atol=2e-6 * largest)
        np.testing.assert_allclose(parameters[name], stack[name][0] - 0.5 * expected, atol=1e-6)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("activation", ["logistic", "relu"])
@pytest.mark.parametrize("classes", [2, 5])
def test_epochs_equal_those_of_autograd_and_torchs_optimizer(
    classes, activation, nesterov, monkeypatch, caplog
):
    """Two epochs, each with a last batch of 30 points after three of 100."""
    caplog.set_level("INFO", logger=logger.name)
    settings = {"nesterov": nesterov, "max_epochs": 2}
    written_out = train([5, 6], classes, activation, **settings)
    calls = []
    monkeypatch.setattr(torch.optim.SGD, "step", counting(torch.optim.SGD.step, calls))
    monkeypatch.setattr(mlp, "ARCHITECTURE", replace(mlp.ARCHITECTURE, momentum_epoch=None))
    autograd = train([5, 6], classes, activation, **settings)
    assert len(calls) == 8
    for name, value in autograd.parameters.items():
        np.testing.assert_allclose(written_out.parameters[name], value, atol=1e-5)
    for ours, theirs in zip(written_out.history, autograd.history, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
    said = [re.search(r"accuracy [\d.]+", message)[0] for message in caplog.messages]
    assert len(said) == 2 and said[0] == said[1] != "accuracy 0.0000"


def counting(function, calls: list):
    def wrapped(*arguments, **options):
        calls.append(1)
        return function(*arguments, **options)

    return wrapped


@pytest.mark.parametrize("activation", ["logistic", "relu"])
@pytest.mark.parametrize("blas_threads", [1, 2])
def test_neither_threads_nor_grouping_change_a_bit(activation, blas_threads):
    seeds = [1, 2, 3, 4, 5]
    whole = train(seeds, 5, activation, max_epochs=3)
    with threadpool_limits(blas_threads, "blas"):
        side_by_side = train(seeds, 5, activation, threads=3, max_epochs=3)
        parts = mlp.ARCHITECTURE.concatenate(
            [
                train(seeds[:1], 5, activation, max_epochs=3).parameters,
                train(seeds[1:], 5, activation, threads=2, max_epochs=3).parameters,
            ]
        )
    assert side_by_side.history == whole.history
    for name, value in whole.parameters.items():
        assert value.tobytes() == side_by_side.parameters[name].tobytes() == parts[name].tobytes()


@pytest.mark.parametrize("activation", ["logistic", "relu"])
def test_a_loss_that_is_not_a_number_ends_the_training(activation):
    history = train([1], 5, activation, learning_rate=1e30, max_epochs=9).history
    assert history[0]["stopped"] == "loss is not a number" and history[0]["epochs"] < 9


def test_initial_values_are_not_overwritten(monkeypatch):
    initial = mlp.initial_parameters(mlp.Spec(), (187,), 2, [1])
    before = {name: value.copy() for name, value in initial.items()}
    changed = replace(mlp.ARCHITECTURE, initial_parameters=lambda *arguments: initial)
    monkeypatch.setattr(mlp, "ARCHITECTURE", changed)
    train([1], 2, "logistic")
    assert all((before[name] == value).all() for name, value in initial.items())


def test_blas_has_one_thread_inside_and_its_own_number_afterwards():
    def threads() -> set[int]:
        return {i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"}

    with threadpool_limits(2, "blas"):
        with one_blas_thread():
            assert threads() == {1}
        assert threads() == {2}


def test_epochs_run_with_one_blas_thread(monkeypatch):
    seen = []
    epoch = mlp.momentum_epoch

    def recorded(*arguments, **options):
        seen.extend(i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas")
        return epoch(*arguments, **options)

    changed = replace(mlp.ARCHITECTURE, momentum_epoch=recorded)
    monkeypatch.setattr(mlp, "ARCHITECTURE", changed)
    with threadpool_limits(2, "blas"):
        train([1, 2], 2, "logistic", threads=2)
    assert seen and set(seen) == {1}
