"""PGD in L2: distances of linear boundaries, exact sums, plain loops, ART; shares of epsilon."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from medrobust.attacks import pgd, run_attack
from medrobust.attacks.engine import l2_kernels
from medrobust.evaluation.records import records_from_result
from numpy.testing import assert_allclose
from pydantic import ValidationError
from scipy import stats

from tests.gradient_models import LinearLogits, ensemble_of, points_of, relu_module, seeds_for

D = 11
losses = pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
norms = pytest.mark.parametrize("norm", ["linf", "l2"])


def make_spec(**options) -> pgd.Spec:
    defaults = {
        "epsilon": 0.3, "norm": "l2", "num_steps": 100, "step_share": 0.1, "clip_min": 0.0,
        "clip_max": 1.0,
    }  # fmt: skip
    if "step_size" in options:
        del defaults["step_share"]
    return pgd.Spec(**(defaults | options))


def run(model, x, y, spec, seeds=None):
    seeds = seeds_for(len(x), spec.restarts) if seeds is None else seeds
    return run_attack("pgd", model, x, y, spec, seeds)


def success(model, x, y, spec) -> np.ndarray:
    return model.predict(run(model, x, y, spec).x_adv[:, 0]) != y


def normal_of(model, y: np.ndarray) -> np.ndarray:
    """Returns what each point has to go along, of two classes."""
    return model.w[1 - y] - model.w[y]


def distance(model, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the L2 distance of the boundary of two linear classes."""
    scores = model.scores(x)
    own = np.arange(len(x)), y
    return (scores[own] - scores[:, ::-1][own]) / np.linalg.norm(normal_of(model, y), axis=1)


@losses
@pytest.mark.parametrize("early_stop", [True, False])
def test_a_linear_boundary_is_reached_from_its_distance_on(loss, early_stop):
    model = LinearLogits(D)
    x = points_of(40, D)
    y = model.predict(x)
    wide = {"clip_min": -50.0, "clip_max": 50.0, "loss": loss, "early_stop": early_stop}
    for i, radius in enumerate(distance(model, x, y)):
        one = x[[i]], y[[i]]
        assert not success(model, *one, make_spec(epsilon=radius * (1 - 1e-4), **wide))
        assert success(model, *one, make_spec(epsilon=radius * (1 + 1e-4), **wide))


def distance_in_box(normal: np.ndarray, gap: float, x: np.ndarray) -> float:
    """Returns the least L2 norm of a step within [0, 1] along which ``normal`` gains ``gap``.

    The best step of a length is ``clip(t normal)``; t is bisected.
    """

    def step(t: float) -> np.ndarray:
        return np.clip(t * normal, -x, 1 - x)

    low, high = 0.0, 1e6
    if step(high) @ normal < gap:
        return math.inf
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if step(middle) @ normal < gap else (low, middle)
    return float(np.linalg.norm(step(high)))


def test_a_box_makes_boundaries_farther_and_no_run_goes_beyond():
    model = LinearLogits(D)
    x = points_of(60, D).astype(np.float64)
    y = model.predict(x)
    x = x.astype(np.float32)
    free = distance(model, x, y)
    gaps = free * np.linalg.norm(normal_of(model, y), axis=1)
    boxed = np.array(
        [distance_in_box(*row) for row in zip(normal_of(model, y), gaps, x, strict=True)]
    )
    assert (boxed > 1.02 * free).sum() > 5
    for epsilon in (0.1, 0.3, 0.6):
        found = success(model, x, y, make_spec(epsilon=epsilon))
        assert found.any() and not found.all()
        assert not (found & (boxed > epsilon * (1 + 1e-6))).any()
        # Cutting, then shortening, ends near the optimum, not at it.
        assert found[boxed < 0.97 * epsilon].all()


def pulled_in(point, epsilon, low, high, wish) -> np.ndarray:
    row = np.empty_like(point)
    wish = np.array(wish, dtype=np.float64)
    l2_kernels.pull_in(point, epsilon, np.float32(low), np.float32(high), wish, row)
    return row


def exact_length(row: np.ndarray, point: np.ndarray) -> float:
    return math.sqrt(math.fsum((float(a) - float(b)) ** 2 for a, b in zip(row, point, strict=True)))


@settings(max_examples=300, deadline=None)
@example(4, 0, 2.0, -3.636047744766694e-15, 1.0, 1.0)  # a bound that rounding went beyond
@given(
    st.integers(1, 60), st.integers(0, 10**6), st.floats(1e-6, 5), st.floats(-1, 0, width=32),
    st.floats(0.5, 1, width=32), st.floats(1e-3, 10),
)  # fmt: skip
def test_a_projection_is_within_ball_and_box_and_goes_where_it_should(
    d, seed, epsilon, low, high, scale
):
    random = np.random.default_rng(seed)
    point = random.uniform(-1.5, 1.5, d).astype(np.float32)
    wish = point + scale * random.normal(size=d)
    row = pulled_in(point, epsilon, low, high, wish)
    assert exact_length(row, point) <= epsilon
    assert (row >= np.minimum(np.float32(low), point)).all()
    assert (row <= np.maximum(np.float32(high), point)).all()
    exact = point.astype(np.float64)
    away = np.clip(wish, np.minimum(low, exact), np.maximum(high, exact)) - exact
    length = np.linalg.norm(away)
    rounding = 1.3e-7 * (np.linalg.norm(exact) + min(length, epsilon)) + 1e-9 * epsilon
    if length > epsilon:
        away *= epsilon / length
    assert_allclose(row, exact + away, rtol=0, atol=rounding)
    if length < epsilon - rounding:
        expected = (exact + away).astype(np.float32)
        bounds = np.minimum(np.float32(low), point), np.maximum(np.float32(high), point)
        np.testing.assert_array_equal(row, np.clip(expected, *bounds))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-4, 3), st.sampled_from(["cross_entropy", "margin"]))
def test_records_never_exceed_epsilon(seed, epsilon, loss):
    model = ensemble_of(relu_module(D, 4, seed=seed % 3), D, 4)
    x = points_of(9, D, seed)
    y = model.predict(x)
    spec = make_spec(epsilon=epsilon, loss=loss, num_steps=12)
    result = run(model, x, y, spec)
    frame = records_from_result(model, x, y, np.arange(9), result, spec, (0.0, 1.0))
    assert (frame.loc[frame["success"], "l2"] <= epsilon).all()
    assert not frame["box_violation"].any()
    lengths = [exact_length(*pair) for pair in zip(result.x_adv[:, 0], x, strict=True)]
    assert max(lengths) <= epsilon


def test_starts_are_uniform_in_the_box_where_the_ball_holds_it():
    model = LinearLogits(400)
    x = points_of(40, 400)
    y = model.predict(x)
    spec = make_spec(
        epsilon=50.0, num_steps=1, step_size=1e-30, early_stop=False, clip_min=-1.0, clip_max=3.0,
        restarts=2,
    )  # fmt: skip
    seeds = seeds_for(40, 2)
    starts = run(model, x, y, spec, seeds).x_adv
    assert stats.kstest(starts.ravel(), "uniform", args=(-1, 4)).pvalue > 0.01
    assert np.abs(np.corrcoef(starts.reshape(80, -1)) - np.eye(80)).max() < 0.3
    swapped = run(model, x, y, spec, seeds[:, ::-1]).x_adv
    np.testing.assert_array_equal(swapped, starts[:, ::-1])
    # In a small ball they are the same draws, drawn towards the points.
    small = run(model, x, y, spec.model_copy(update={"epsilon": 0.5}), seeds).x_adv
    away, near = starts.astype(np.float64) - x[:, None], small.astype(np.float64) - x[:, None]
    lengths = np.linalg.norm(away, axis=2, keepdims=True)
    assert_allclose(near, 0.5 * away / lengths, atol=3e-7)
    still = run(model, x, y, spec.model_copy(update={"random_start": False}), seeds).x_adv
    assert_allclose(still, np.stack([x, x], axis=1), rtol=0, atol=1e-29)


@pytest.mark.parametrize("slope", [0.0, np.nan, np.inf])
def test_a_gradient_without_direction_moves_nothing(slope):
    class Flat(LinearLogits):
        """Every other row has no slope."""

        def loss_gradients(self, x, y, loss):
            logits, slopes = super().loss_gradients(x, y, loss)
            slopes[::2] = slope
            return logits, slopes

    model, x = Flat(D), points_of(8, D)
    y = model.predict(x)
    spec = make_spec(random_start=False, early_stop=False, num_steps=3)
    moved = (run(model, x, y, spec).x_adv[:, 0] != x).any(axis=1)
    assert moved.tolist() == [False, True] * 4


def test_a_step_has_its_length_whatever_the_gradient():
    model, x = LinearLogits(D), np.full((3, D), 0.5, dtype=np.float32)
    model.b[:] = 0
    y = model.predict(x)
    spec = make_spec(epsilon=0.4, loss="margin", random_start=False, early_stop=False, num_steps=3)
    for size in (1e-25, 1.0, 1e15):
        model.w *= size
        rows = run(model, x, y, spec).x_adv[:, 0]
        model.w /= size
        towards = normal_of(model, y) / np.linalg.norm(normal_of(model, y), axis=1, keepdims=True)
        assert_allclose(rows - x, 3 * 0.04 * towards, atol=2e-7)


def plain_loop(module, x, y, start, spec) -> tuple[np.ndarray, int]:
    """One run in plain PyTorch, as advertorch writes it."""
    x, delta = torch.from_numpy(x), torch.from_numpy(start - x)
    size = 0.1 * spec.epsilon
    for step in range(spec.num_steps + 1):
        delta.requires_grad_()
        logits = module((x + delta)[None])[0]
        if step == spec.num_steps or (spec.early_stop and int(logits.argmax()) != y):
            return (x + delta).detach().numpy(), step
        if spec.loss == "cross_entropy":
            loss = torch.nn.functional.cross_entropy(logits[None], torch.tensor([y]))
        else:
            loss = torch.cat([logits[:y], logits[y + 1 :]]).max() - logits[y]
        (slope,) = torch.autograd.grad(loss, delta)
        delta = delta.detach()
        if spec.norm == "linf":
            delta = (delta + size * slope.sign()).clamp(-spec.epsilon, spec.epsilon)
            delta = (x + delta).clamp(0, 1) - x
        else:
            delta = delta + size * slope / slope.norm().clamp(min=1e-30)
            delta = (x + delta).clamp(0, 1) - x
            delta = delta * (spec.epsilon / delta.norm()).clamp(max=1)
    raise AssertionError


@norms
@losses
@pytest.mark.parametrize("early_stop", [True, False])
def test_runs_are_those_of_a_plain_loop(norm, loss, early_stop):
    module = relu_module(D, 4)
    model = ensemble_of(module, D, 4)
    x = points_of(30, D)
    y = model.predict(x)
    spec = make_spec(
        epsilon={"linf": 0.08, "l2": 0.2}[norm], norm=norm, loss=loss, early_stop=early_stop,
        num_steps=25,
    )  # fmt: skip
    result = run(model, x, y, spec)
    still = {"num_steps": 1, "step_size": 1e-30, "step_share": None}
    starts = run(model, x, y, spec.model_copy(update=still))
    same = 0
    for i in range(len(x)):
        row, steps = plain_loop(module, x[i], int(y[i]), starts.x_adv[i, 0], spec)
        same += steps == result.iterations[i, 0] and np.allclose(
            row, result.x_adv[i, 0], rtol=0, atol=5e-6
        )
    # Near a kink, rounding decides which way a run goes.
    assert same >= 29
    assert 3 < (model.predict(result.x_adv[:, 0]) != y).sum() < 28


@norms
@losses
def test_an_early_stop_is_at_least_as_strong(norm, loss):
    model = ensemble_of(relu_module(D, 4, hidden=40), D, 4)
    x = points_of(300, D)
    y = model.predict(x)
    spec = make_spec(epsilon={"linf": 0.12, "l2": 0.3}[norm], norm=norm, loss=loss, num_steps=40)
    early = success(model, x, y, spec)
    last = success(model, x, y, spec.model_copy(update={"early_stop": False}))
    assert 30 < last.sum() < 270
    assert not (last & ~early).any()


def test_robust_accuracy_is_that_of_art():
    evasion = pytest.importorskip("art.attacks.evasion")
    from art.estimators.classification import PyTorchClassifier

    module = relu_module(D, 4)
    model, x = ensemble_of(module, D, 4), points_of(300, D)
    y = model.predict(x)
    classifier = PyTorchClassifier(
        module, torch.nn.CrossEntropyLoss(), (D,), 4, clip_values=(0, 1), device_type="cpu"
    )
    ours = success(model, x, y, make_spec(epsilon=0.15, num_steps=40))
    theirs = evasion.ProjectedGradientDescent(
        classifier, norm=2, eps=0.15, eps_step=0.015, max_iter=40, num_random_init=1, verbose=False
    ).generate(x, y)
    theirs = model.predict(theirs) != y
    assert 0.15 < ours.mean() < 0.85
    # Points on which one random start decides are few.
    assert (ours != theirs).mean() < 0.03


@norms
def test_a_share_of_epsilon_is_a_step_size(norm):
    model, x = LinearLogits(D, 3), points_of(20, D)
    y = model.predict(x)
    share = make_spec(norm=norm, epsilon=0.2, step_share=0.25, num_steps=5, early_stop=False)
    size = make_spec(norm=norm, epsilon=0.2, step_size=0.05, num_steps=5, early_stop=False)
    assert share.step_length() == size.step_length() == 0.05
    found = run(model, x, y, share).x_adv
    np.testing.assert_array_equal(found, run(model, x, y, size).x_adv)
    other = share.model_copy(update={"step_share": 0.1})
    assert (run(model, x, y, other).x_adv != found).any()


def test_settings_take_one_step_and_steps_that_fit_the_norm():
    plain = pgd.Spec(epsilon=0.1)
    assert (plain.step_size, plain.step_share, plain.norm) == (0.01, None, "linf")
    share = pgd.Spec(epsilon=0.1, step_share=0.1)
    assert share.step_size is None
    for spec in (plain, share):
        assert pgd.Spec(**spec.model_dump()) == spec
    for wrong in ({"step_size": 0.01, "step_share": 0.1}, {"step_size": None}):
        with pytest.raises(ValidationError, match="exactly one of step_size and step_share"):
            pgd.Spec(epsilon=0.1, **wrong)
    for optimizer in ("adam", "adamax"):
        with pytest.raises(ValidationError, match="set `optimizer: sign`"):
            pgd.Spec(epsilon=0.1, norm="l2", optimizer=optimizer)
    with pytest.raises(ValidationError):
        pgd.Spec(epsilon=0.1, step_share=0.0)


def test_the_settings_of_earlier_records_are_filled_in():
    """Nsr's options; what is new has the value that it had before it was an option."""
    options = {
        "epsilon": 0.1, "num_steps": 20, "step_size": 0.01, "optimizer": "adamax",
        "random_start": True, "restarts": 1, "loss": "cross_entropy", "early_stop": True,
        "clip_min": 0.0, "clip_max": 1.0,
    }  # fmt: skip
    new = {"norm": "linf", "step_share": None, "target": None, "confidence": None}
    assert pgd.Spec(**options).model_dump() == options | new
