"""SPSA: estimates against their formula and true slopes, steps against those by gradients."""

from __future__ import annotations

import numpy as np
import pytest
from medrobust.attacks import pgd, run_attack, spsa
from medrobust.attacks.engine.ball import STEP_STREAMS
from medrobust.attacks.engine.spsa_kernels import perturb
from medrobust.attacks.spsa import Estimator
from numpy.testing import assert_allclose

from tests.gradient_models import LinearLogits, ensemble_of, points_of, relu_module, seeds_for


class Listening:
    """Passes questions on and keeps the rows."""

    def __init__(self, model) -> None:
        self.model, self.rows = model, []
        self.input_shape, self.gradient_block = model.input_shape, model.gradient_block

    def logits(self, x: np.ndarray) -> np.ndarray:
        self.rows.append(x.copy())
        return self.model.logits(x)


def margin(logits: np.ndarray, y: int) -> np.ndarray:
    others = np.delete(logits.astype(np.float64), y, axis=1)
    return others.max(axis=1) - logits[:, y]


@pytest.mark.parametrize(("d", "directions", "block"), [(11, 50, 16), (64, 33, 32), (70, 7, 1)])
def test_estimates_are_those_of_the_formula(d, directions, block):
    module = relu_module(d, 4)
    model = Listening(ensemble_of(module, d, 4, block))
    x = points_of(1, d)[0]
    found = Estimator(model, directions, 0.02).estimate(x, 2, 7, 3)
    pairs = max(block // 2, 1)
    assert [len(rows) for rows in model.rows[:-1]] == [2 * pairs] * (len(model.rows) - 1)
    total, signs = np.zeros(d), []
    for rows in model.rows:
        plus, minus = np.split(rows, 2)
        v = np.sign(plus - x)
        assert_allclose(plus, x + np.float32(0.02) * v, rtol=0, atol=1e-7)
        assert_allclose(minus, x - np.float32(0.02) * v, rtol=0, atol=1e-7)
        assert set(np.unique(v)) == {-1, 1}
        difference = margin(model.model.logits(plus), 2) - margin(model.model.logits(minus), 2)
        total += (difference[:, None] * v / 0.04).sum(axis=0)
        signs.append(v)
    assert_allclose(found, total / directions, rtol=1e-6)
    signs = np.concatenate(signs)
    assert signs.shape == (directions, d)
    if d > 60:
        assert len(np.unique(signs, axis=0)) == directions


def test_each_seed_and_step_draws_directions_of_its_own():
    model, x = LinearLogits(30, 2), points_of(1, 30)[0]
    found = [
        Estimator(model, 8, 0.02).estimate(x, 0, seed, step)
        for seed, step in ((1, 0), (1, 0), (1, 1), (2, 0))
    ]
    np.testing.assert_array_equal(found[0], found[1])
    for other in found[2:]:
        assert (other != found[0]).all()


def test_estimates_are_near_the_slope_of_a_linear_model():
    d, directions = 40, 4096
    model = LinearLogits(d, 2, block=512)
    slope = model.w[1] - model.w[0]
    estimator, x = Estimator(model, directions, 0.01), points_of(1, d)[0]
    errors = np.array([estimator.estimate(x, 0, seed, 0) for seed in range(20)]) - slope
    # Each direction adds the other values' slopes with random signs.
    spread = np.sqrt((np.square(slope).sum() - np.square(slope)) / directions)
    assert np.abs(errors / spread).max() < 5
    assert np.square(errors / spread).mean() == pytest.approx(1, abs=0.15)
    assert np.abs(errors.mean(axis=0) / spread).max() < 5 / np.sqrt(20)


def test_streams_of_seeds_and_steps_are_unlike():
    def signs(seed: int, step: int, first: int = 0) -> np.ndarray:
        bits, x = np.empty((200, 3), dtype=np.uint64), np.zeros(187, dtype=np.float32)
        plus, minus = np.empty((2, 200, 187), dtype=np.float32)
        perturb(x, seed, STEP_STREAMS + step, first, np.float32(1), bits, plus, minus)
        np.testing.assert_array_equal(plus, -minus)
        return plus

    streams = [signs(1, 0), signs(2, 0), signs(1, 1), signs(2**62, 0), signs(1, 0, 200)]
    for i, one in enumerate(streams):
        assert abs(one.mean()) < 5 / np.sqrt(one.size)
        assert np.abs(one.T @ one / 200 - np.eye(187)).max() < 5.5 / np.sqrt(200)
        for other in streams[:i]:
            assert abs((one * other).mean()) < 5 / np.sqrt(one.size)
    np.testing.assert_array_equal(signs(1, 0, 50)[:150], streams[0][50:])


@pytest.mark.parametrize("optimizer", ["sign", "adam", "adamax"])
def test_steps_are_those_by_gradients_where_estimates_have_the_right_sign(optimizer):
    d, points = 6, 15
    model = LinearLogits(d, 2, seed=21, block=64)
    assert np.abs(model.w[1] - model.w[0]).min() > 0.6
    x = points_of(points, d)
    y, seeds = model.predict(x), seeds_for(points)
    common = {
        "epsilon": 0.15, "num_steps": 30, "clip_min": 0.0, "clip_max": 1.0, "optimizer": optimizer
    }  # fmt: skip
    by_gradient = run_attack("pgd", model, x, y, pgd.Spec(loss="margin", **common), seeds)
    estimated = run_attack("spsa", model, x, y, spsa.Spec(**common), seeds)
    np.testing.assert_array_equal(estimated.x_adv, by_gradient.x_adv)
    np.testing.assert_array_equal(estimated.iterations, by_gradient.iterations)
    assert 0 < (model.predict(estimated.x_adv[:, 0]) != y).sum() < points


def test_rows_of_an_estimate_may_leave_the_box():
    class Watching(LinearLogits):
        largest = 0.0

        def logits(self, x):
            self.largest = max(self.largest, float(x.max()))
            return super().logits(x)

    model, x = Watching(5), np.ones((1, 5), dtype=np.float32)
    spec = spsa.Spec(epsilon=0.1, num_steps=2, directions=8, clip_min=0.0, clip_max=1.0, delta=0.05)
    result = run_attack("spsa", model, x, model.predict(x), spec, seeds_for(1))
    assert model.largest > 1.0 and result.x_adv.max() <= 1.0
