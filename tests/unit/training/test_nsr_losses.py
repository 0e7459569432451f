"""Losses, penalties and other parts of training, each against its formula, point by point."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.models import relu_mlp
from medrobust.training.engine import (
    adversarial_examples,
    class_balance,
    flat_updates,
    input_penalties,
    kernel_norms,
    losses,
)


def batch(n: int = 9, seed: int = 0, classes: int = 5):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 1.5, (n, classes)))
    y = torch.from_numpy(rng.integers(0, classes, n))
    return logits, y, torch.nn.functional.one_hot(y, classes).to(logits)


def correct_of(logits, y):
    return (logits.argmax(dim=1) == y).to(logits)


@given(seed=st.integers(0, 10**6), n=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_losses_equal_sums_over_points_and_classes(seed, n):
    logits, y, hot = batch(n, seed)
    correct = correct_of(logits, y)
    squared, entropy, active, plain = 0.0, 0.0, [], 0.0
    for z, label, counts in zip(logits.numpy(), y.numpy(), correct.numpy(), strict=True):
        entropy -= z[label] - np.log(np.exp(z).sum())
        for i in range(5):
            squared += (z[i] - (i == label)) ** 2
            t = 1 - z[label] + z[i]
            if i != label and counts:
                plain += max(0.0, t)
                active += [t] if 0 < t < 2 else []
    assert losses.cross_entropy(logits, y).item() == pytest.approx(entropy / n)
    assert losses.squared_error(logits, hot).item() == pytest.approx(squared / n)
    windowed = losses.windowed_margin(logits, hot, correct).item()
    assert windowed == pytest.approx(np.mean(active) if active else 0.0)
    assert losses.plain_margin(logits, hot, correct).item() == pytest.approx(plain / n)


def test_the_margins_window_drops_terms_of_2_and_more_whatever_the_mask():
    logits = torch.tensor([[0.0, 0.5, 1.5, -1.5]], dtype=torch.float64).requires_grad_()
    hot, one = torch.eye(4, dtype=torch.float64)[:1], torch.ones(1, dtype=torch.float64)
    # t = 1.5, 2.5 (dropped), -0.5 (dropped)
    value = losses.windowed_margin(logits, hot, one)
    (slope,) = torch.autograd.grad(value, logits)
    assert value.item() == pytest.approx(1.5) and slope.tolist() == [[-1, 1, 0, 0]]
    value = losses.plain_margin(logits, hot, one)
    (slope,) = torch.autograd.grad(value, logits)
    assert value.item() == pytest.approx(4.0) and slope.tolist() == [[-2, 1, 1, 0]]


@pytest.mark.parametrize("margin", [losses.windowed_margin, losses.plain_margin])
def test_without_a_correct_point_margins_are_0_and_so_are_their_gradients(margin):
    logits, _, hot = batch()
    logits.requires_grad_()
    value = margin(logits, hot, torch.zeros(len(logits), dtype=logits.dtype))
    (slope,) = torch.autograd.grad(value, logits)
    assert value.item() == 0 and not slope.any()


def test_penalties_equal_their_formulas():
    rng = np.random.default_rng(4)
    w, x = rng.normal(size=(6, 8)), rng.random((6, 8))
    z = rng.normal(size=6)
    tensors = [torch.from_numpy(v) for v in (w, x, z)]
    r1 = [np.sum((a - b / (b @ b + 1e-8)) ** 2) for a, b in zip(w, x, strict=True)]
    np.testing.assert_allclose(input_penalties.alignment(*tensors[:2]), r1)
    for offset in (0.01, 0.0):
        r2 = [np.log(1 + np.abs(a).sum() / (abs(b) + offset)) for a, b in zip(w, z, strict=True)]
        found = input_penalties.log_noise_to_signal(tensors[0], tensors[2], offset)
        np.testing.assert_allclose(found, r2)
    jacobian = rng.normal(size=(5, 6, 8))
    expected = sum(np.abs(jacobian[k]).sum() / (6 * 8) for k in range(5))
    found = input_penalties.mean_jacobian(torch.from_numpy(jacobian))
    assert found.item() == pytest.approx(expected)


def test_penalties_stay_finite_at_zeros():
    z = torch.zeros(2, requires_grad=True)
    w = torch.ones(2, 3, requires_grad=True)
    value = input_penalties.log_noise_to_signal(w, z, 0.0).sum()
    slopes = torch.autograd.grad(value, [w, z])
    assert torch.isfinite(value) and all(torch.isfinite(s).all() for s in slopes)
    assert torch.isfinite(input_penalties.alignment(w, torch.zeros(2, 3))).all()


def ascent(gradient, x, seed=0, **changes):
    options = {"epsilon": 0.1, "steps": 4, "step_size": 0.04, "input_range": (0.0, 1.0)}
    draws = torch.Generator().manual_seed(seed)
    return adversarial_examples.signed_ascent(gradient, x, generator=draws, **options | changes)


def test_signed_ascent_equals_its_definition_step_by_step():
    x = torch.rand(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    w = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def gradient(points):
        return torch.cos(3 * points) * w

    expected = x.numpy() + torch.empty_like(x).uniform_(
        -0.1, 0.1, generator=torch.Generator().manual_seed(0)
    ).numpy()  # fmt: skip
    for _ in range(4):
        expected = expected + 0.04 * np.sign(np.cos(3 * expected) * w.numpy())
        expected = np.clip(expected, x.numpy() - 0.1, x.numpy() + 0.1)
        expected = np.clip(expected, 0, 1)
    before = x.clone()
    found = ascent(gradient, x)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert torch.equal(x, before)


def test_a_start_is_anywhere_in_the_ball_and_enough_steps_reach_its_corner():
    x = torch.full((400, 3), 0.5)
    starts = ascent(lambda p: torch.zeros_like(p), x, steps=1) - x
    assert starts.min() < -0.095 and starts.max() > 0.095 and abs(starts.mean()) < 0.01
    signs = torch.tensor([1.0, -1.0, 1.0])
    corner = ascent(lambda p: signs.expand_as(p).clone(), x, steps=6)
    torch.testing.assert_close(corner, x + 0.1 * signs)
    edge = ascent(lambda p: torch.ones_like(p), torch.full((4, 3), 0.95), steps=6)
    assert (edge == 1).all()
    free = (-float("inf"), float("inf"))
    assert ascent(lambda p: torch.ones_like(p), x + 0.45, steps=6, input_range=free).max() > 1.04
    again = ascent(lambda p: torch.zeros_like(p), x, steps=1) - x
    other = ascent(lambda p: torch.zeros_like(p), x, seed=1, steps=1) - x
    assert torch.equal(again, starts) and not torch.equal(other, starts)


@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(any),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_balanced_orders_hold_every_class_equally_often_in_turns(counts, seed):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    order = class_balance.balanced_order(y, rng)
    present, largest = [k for k, c in enumerate(counts) if c], max(counts)
    assert order.dtype == np.int64 and len(order) == largest * len(present)
    turns = y[order].reshape(largest, len(present))
    assert (turns == turns[0]).all() and sorted(turns[0]) == present
    for label in present:
        rows, times = np.unique(order[y[order] == label], return_counts=True)
        assert set(rows) == set(np.flatnonzero(y == label))
        floor, extra = divmod(largest, counts[label])
        assert sorted(times) == [floor] * (counts[label] - extra) + [floor + 1] * extra


def test_orders_of_epochs_differ_in_classes_and_rows():
    y = np.repeat(np.arange(5), [40, 3, 8, 5, 2])
    orders = [class_balance.balanced_order(y, np.random.default_rng(k)) for k in range(20)]
    assert len({tuple(y[order[:5]]) for order in orders}) > 10
    assert len({tuple(order[y[order] == 0]) for order in orders}) == 20
    # One order of each class, repeated: a rare row never comes twice before all others of its
    # class (authors' code: 518 turns apart for class F of MIT-BIH).
    for label, size in enumerate([40, 3, 8, 5, 2]):
        turns = orders[0][y[orders[0]] == label]
        np.testing.assert_array_equal(turns[size:], turns[:-size])
        assert len(set(turns[:size])) == size


def member_of(bias: bool = True) -> dict[str, torch.Tensor]:
    spec = relu_mlp.Spec(hidden_units=6, linear_units=4, bias=bias, unit_norm_start=False)
    arrays = relu_mlp.initial_parameters(spec, (7,), 3, [0])
    return {name: torch.from_numpy(value[0].copy()) for name, value in arrays.items()}


def test_normalisation_rescales_kernels_with_their_biases_and_no_others():
    member, before = member_of(), member_of()
    member["w2"][3] = 0
    kernel_norms.normaliser(member, ["1", "2"])()
    for layer in ("1", "2"):
        for row in range(6):
            if (layer, row) == ("2", 3):
                continue
            norm = np.linalg.norm(before[f"w{layer}"][row].double())
            expected = before[f"w{layer}"][row] / norm
            torch.testing.assert_close(member[f"w{layer}"][row], expected.float())
            expected = before[f"b{layer}"][row] / norm
            torch.testing.assert_close(member[f"b{layer}"][row], expected.float())
    assert not member["w2"][3].any() and torch.equal(member["b2"][3], before["b2"][3])
    for name in ("w3", "b3", "w4", "b5"):
        assert torch.equal(member[name], before[name])
    kernel_norms.normaliser(without := member_of(bias=False), ["1"])()
    torch.testing.assert_close(without["w1"].norm(dim=1), torch.ones(6))


def test_normalisation_of_convolution_kernels_is_over_channels_and_width():
    kernels = torch.rand(4, 3, 5)
    member = {"w1": kernels.clone()}
    kernel_norms.normaliser(member, ["1"])()
    expected = [k / np.linalg.norm(k.ravel()) for k in kernels.numpy()]
    np.testing.assert_allclose(member["w1"], np.stack(expected), rtol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_kernels_without_a_gradient_are_drawn_anew(bias):
    member, before = member_of(bias), member_of(bias)
    moved = {name: torch.full_like(value, 1e-30) for name, value in member.items()}
    moved["w1"][[1, 4]] = 0
    moved["w3"][2] = 0
    moved["w2"][0, :-1] = 0  # one weight moved: not dead
    weights = {name: sums for name, sums in moved.items() if name.startswith("w")}
    count = kernel_norms.revive(member, weights, np.random.default_rng(0))
    assert count == 3
    dead = {"1": [1, 4], "3": [2]}
    drawn = []
    for name, value in member.items():
        for row in range(len(value)):
            if row not in dead.get(name[1:], []):
                assert torch.equal(value[row], before[name][row])
            elif name.startswith("b"):
                assert value[row] == 0
            else:
                drawn.append(value[row])
                assert value[row].norm().item() == pytest.approx(1, abs=1e-6)
                assert not torch.allclose(value[row], before[name][row])
    assert not torch.allclose(drawn[0], drawn[1])


@pytest.mark.parametrize("name", ["adamax", "adam"])
def test_steps_equal_pytorchs_optimisers(name):
    rng = np.random.default_rng(0)
    arrays = {"w": rng.normal(size=(4, 3)), "b": rng.normal(size=4)}
    arrays = {key: value.astype(np.float32) for key, value in arrays.items()}
    member = flat_updates.FlatMember(arrays, "cpu")
    ours = flat_updates.FlatOptimizer(name, member.flat, 0.01)
    tensors = {
        key: torch.from_numpy(value.copy()).requires_grad_() for key, value in arrays.items()
    }
    kind = {"adamax": torch.optim.Adamax, "adam": torch.optim.Adam}[name]
    theirs = kind(tensors.values(), lr=0.01)
    target = torch.from_numpy(rng.normal(size=(4, 3)).astype(np.float32))

    def loss(tensors):
        return ((tensors["w"] - target) ** 3).abs().sum() + tensors["b"].exp().sum()

    for step in range(60):
        for _ in range(1 + step % 2):  # also several steps with one gradient
            theirs.zero_grad()
        loss(tensors).backward()
        gradient = member.gradient(loss(member.leaves))
        for _ in range(1 + step % 2):
            theirs.step()
            ours.step(gradient)
    for key, value in member.arrays().items():
        np.testing.assert_allclose(value, tensors[key].detach(), rtol=2e-5, atol=1e-6)
        assert not np.allclose(value, arrays[key], atol=0.05)


def test_the_compiled_loops_equal_pytorchs_functions():
    rng = np.random.default_rng(1)
    start = {"a": rng.normal(size=1001).astype(np.float32)}
    start["a"][:3] = 0.0
    pair = [flat_updates.FlatMember(start, "cpu") for _ in range(2)]
    ours, plain = (flat_updates.FlatOptimizer("adamax", member.flat, 0.01) for member in pair)
    assert ours._compiled
    plain._compiled, plain._move = False, plain._adamax
    for step in range(40):
        gradient = rng.normal(size=1001) * 10.0 ** rng.integers(-12, 3, 1001)
        gradient[: 500 * (step % 2)] = 0.0
        for optimizer in (ours, plain):
            optimizer.step(torch.from_numpy(gradient.astype(np.float32)))
            optimizer.decay(0.2 * (step % 3), 0.1 * (step % 5))
        for name in ("first", "second", "_flat"):
            found, wanted = getattr(ours, name), getattr(plain, name)
            torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)


def test_gradients_of_tensors_that_the_loss_does_not_contain_are_0():
    member = flat_updates.FlatMember(
        {"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)}, "cpu"
    )
    first = member.gradient((2 * member.leaves["b"]).sum())
    assert first.tolist() == [0, 0, 2, 2, 2]
    assert member.gradient(member.leaves["a"].sum()).tolist() == [1, 1, 0, 0, 0]


def test_decay_takes_the_sign_and_then_the_share():
    member = flat_updates.FlatMember({"a": np.array([0.5, -0.25, 0.0], np.float32)}, "cpu")
    optimizer = flat_updates.FlatOptimizer("adamax", member.flat, 0.1)
    optimizer.decay(0.2, 0.3)
    expected = np.array([0.5 - 0.02, -0.25 + 0.02, 0.0]) * (1 - 0.03)
    np.testing.assert_allclose(member.values["a"], expected, rtol=1e-6)
    assert member.leaves["a"].data_ptr() == member.flat.data_ptr()
