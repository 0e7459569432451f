"""Projected gradient descent: analytic optima, plain loops, torch's optimisers, ART."""

from __future__ import annotations

import hashlib
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.attacks import pgd, run_attack
from medrobust.attacks.engine import ball_kernels
from medrobust.attacks.engine.moves import Ascent
from medrobust.models import cnn1d, mlp
from medrobust.models.ensembles import build_ensemble
from numpy.testing import assert_allclose
from scipy import stats

from tests.gradient_models import LinearLogits, ensemble_of, points_of, relu_module, seeds_for

D = 11
OPTIMIZERS = ("sign", "adam", "adamax")


def make_spec(**options) -> pgd.Spec:
    defaults = {"epsilon": 0.1, "num_steps": 20, "clip_min": 0.0, "clip_max": 1.0}
    return pgd.Spec(**(defaults | options))


def run(model, x, y, spec, seeds=None, **options):
    seeds = seeds_for(len(x), spec.restarts) if seeds is None else seeds
    return run_attack("pgd", model, x, y, spec, seeds, **options)


def network(seed: int = 0, block: int = 32):
    return ensemble_of(relu_module(D, 4, seed=seed), D, 4, block)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_linear_models_are_attacked_to_the_optimum(optimizer, loss):
    model = LinearLogits(D)
    x = points_of(12, D)
    y = model.predict(x)
    spec = make_spec(num_steps=60, step_size=0.02, early_stop=False, optimizer=optimizer, loss=loss)
    result = run(model, x, y, spec)
    towards = np.sign(model.w[1 - y] - model.w[y])
    best = np.clip(x + 0.1 * towards, 0, 1)
    assert_allclose(result.x_adv[:, 0], best, atol=1e-7)
    flips = model.predict(best.astype(np.float32)) != y
    assert 0 < flips.sum() < 12
    np.testing.assert_array_equal(model.predict(result.x_adv[:, 0]) != y, flips)


def plain_loop(module, x, y, start, spec) -> tuple[np.ndarray, int]:
    """One run in plain PyTorch: a perturbation that torch's own optimiser moves."""
    x = torch.from_numpy(x)
    noise = (torch.from_numpy(start) - x).requires_grad_()
    kinds = {"sign": torch.optim.SGD, "adam": torch.optim.Adam, "adamax": torch.optim.Adamax}
    optimizer = kinds[spec.optimizer]([noise], lr=spec.step_size)
    for step in range(spec.num_steps + 1):
        logits = module((x + noise)[None])[0]
        fooled = int(logits.argmax()) != y
        if step == spec.num_steps or (spec.early_stop and fooled):
            return (x + noise).detach().numpy(), step
        if spec.loss == "cross_entropy":
            loss = torch.nn.functional.cross_entropy(logits[None], torch.tensor([y]))
        else:
            loss = torch.cat([logits[:y], logits[y + 1 :]]).max() - logits[y]
        (slope,) = torch.autograd.grad(loss, noise)
        noise.grad = -slope.sign()
        optimizer.step()
        with torch.no_grad():
            noise.clamp_(-spec.epsilon, spec.epsilon)
            noise.copy_((x + noise).clamp(0, 1) - x)
    raise AssertionError


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
@pytest.mark.parametrize("early_stop", [True, False])
def test_runs_are_those_of_a_plain_loop(optimizer, loss, early_stop):
    module = relu_module(D, 4)
    model = ensemble_of(module, D, 4)
    x = points_of(30, D)
    y = model.predict(x)
    spec = make_spec(
        epsilon=0.08, optimizer=optimizer, loss=loss, early_stop=early_stop, step_size=0.011
    )
    result = run(model, x, y, spec)
    starts = run(model, x, y, spec.model_copy(update={"num_steps": 1, "step_size": 1e-30}))
    same = 0
    for i in range(len(x)):
        row, steps = plain_loop(module, x[i], int(y[i]), starts.x_adv[i, 0], spec)
        same += steps == result.iterations[i, 0] and np.allclose(
            row, result.x_adv[i, 0], rtol=0, atol=2e-6
        )
    # A slope that is 0 but for rounding may have either sign.
    assert same >= 29
    fooled = model.predict(result.x_adv[:, 0]) != y
    assert 3 < fooled.sum() < 28


@pytest.mark.parametrize("optimizer", ["adam", "adamax"])
def test_optimisers_are_those_of_torch(optimizer):
    rows, d, steps = 5, 9, 40
    random = np.random.default_rng(0)
    slopes = random.normal(size=(steps, rows, d)).astype(np.float32)
    slopes[random.random(slopes.shape) < 0.2] = 0
    slopes[:, 0, 0] = 0
    wide = np.full((rows, d), 1e6, dtype=np.float32)
    ours = np.zeros((rows, d), dtype=np.float32)
    ascent = Ascent(optimizer, 0.01, steps, (rows, d))
    theirs = torch.zeros((rows, d), requires_grad=True)
    kinds = {"adam": torch.optim.Adam, "adamax": torch.optim.Adamax}
    torch_optimizer = kinds[optimizer]([theirs], lr=0.01)
    everyone = np.ones(rows, dtype=bool)
    for t in range(steps):
        ascent.step(everyone, np.full(rows, t), slopes[t], -wide, wide, ours)
        theirs.grad = -torch.from_numpy(slopes[t]).sign()
        torch_optimizer.step()
        assert_allclose(ours, theirs.detach(), rtol=2e-5, atol=1e-7)
    assert np.abs(ours).max() > 0.1 and ours[0, 0] == 0


def test_rows_at_rest_do_not_move_and_moments_are_forgotten():
    ones = np.ones((2, 3), dtype=np.float32)
    ascent = Ascent("adamax", 0.1, 5, (2, 3))
    rows = np.zeros((2, 3), dtype=np.float32)
    ascent.step(np.array([True, False]), np.zeros(2, int), ones, -ones, ones, rows)
    assert_allclose(rows, [[0.1] * 3, [0] * 3])
    ascent.reset(np.array([0]))
    ascent.step(np.array([True, True]), np.zeros(2, int), -ones, -ones, ones, rows)
    assert_allclose(rows, [[0] * 3, [-0.1] * 3], atol=1e-8)


@settings(max_examples=200, deadline=None)
@given(
    st.floats(-3, 3, width=32), st.floats(1e-6, 2), st.floats(-1, 0, width=32),
    st.floats(0.5, 1, width=32),
)  # fmt: skip
def test_limits_are_the_farthest_floats_within(value, epsilon, low, high):
    x = np.array([[value]], dtype=np.float32)
    least, most = np.empty((2, 1, 1), dtype=np.float32)
    ball_kernels.limits(x, epsilon, np.float32(low), np.float32(high), least, most)
    exact, up, down = (float(v[0, 0]) for v in (x, most, least))
    assert down <= exact <= up
    assert max(up - exact, exact - down) <= epsilon
    beyond_up = Fraction(float(np.nextafter(most[0, 0], np.float32(np.inf))))
    beyond_down = Fraction(float(np.nextafter(least[0, 0], np.float32(-np.inf))))
    assert beyond_up - Fraction(exact) > Fraction(epsilon) or up >= high
    assert Fraction(exact) - beyond_down > Fraction(epsilon) or down <= low
    assert up <= max(high, exact) and down >= min(low, exact)


def test_starts_are_uniform_and_of_their_own_seed():
    model = LinearLogits(400)
    x = np.full((60, 400), 0.5, dtype=np.float32)
    y = model.predict(x)
    spec = make_spec(epsilon=0.25, num_steps=1, step_size=1e-30, early_stop=False, restarts=2)
    seeds = seeds_for(60, 2)
    starts = run(model, x, y, spec, seeds).x_adv.astype(np.float64) - 0.5
    assert stats.kstest(starts.ravel() / 0.25, "uniform", args=(-1, 2)).pvalue > 0.01
    assert np.abs(np.corrcoef(starts.reshape(120, -1)) - np.eye(120)).max() < 0.3
    assert np.abs(np.corrcoef(starts.reshape(120, -1).T) - np.eye(400)).max() < 0.5
    swapped = run(model, x, y, spec, seeds[:, ::-1]).x_adv.astype(np.float64) - 0.5
    np.testing.assert_array_equal(swapped, starts[:, ::-1])
    still = run(model, x, y, spec.model_copy(update={"random_start": False}))
    np.testing.assert_array_equal(still.x_adv[:, 0], x)


#: Of rows, queries and steps as the first version made them.
DIGESTS = {
    ("sign", True): "fff6ab4ad89da32c",
    ("sign", False): "50fa82022fb68d16",
    ("adam", True): "73cfdcbe49ee32de",
    ("adamax", False): "50fa82022fb68d16",
}


@pytest.mark.parametrize(("optimizer", "early_stop"), DIGESTS)
def test_records_made_earlier_would_be_made_again(optimizer, early_stop):
    model, x = LinearLogits(D, 3), points_of(40, D)
    y = model.predict(x)
    spec = make_spec(
        epsilon=0.05, num_steps=30, step_size=0.011, optimizer=optimizer, loss="margin",
        early_stop=early_stop, restarts=2,
    )  # fmt: skip
    result = run(model, x, y, spec)
    content = b"".join(a.tobytes() for a in (result.x_adv, result.queries, result.iterations))
    digest = hashlib.sha256(content).hexdigest()
    assert digest[:16] == DIGESTS[optimizer, early_stop]


def test_a_run_ends_where_predict_says_so():
    class Doubtful(LinearLogits):
        """Logits that are wrong early; labels that are not."""

        def loss_gradients(self, x, y, loss):
            logits, slopes = super().loss_gradients(x, y, loss)
            logits[np.arange(len(y)), y] -= 0.2
            return logits, slopes

    honest, doubtful = LinearLogits(D), Doubtful(D)
    x = points_of(20, D)
    y = honest.predict(x)
    spec = make_spec(epsilon=0.2, num_steps=30)
    expected, found = run(honest, x, y, spec), run(doubtful, x, y, spec)
    np.testing.assert_array_equal(found.x_adv, expected.x_adv)
    np.testing.assert_array_equal(found.iterations, expected.iterations)
    assert found.queries.sum() > expected.queries.sum()


def test_a_larger_ball_is_not_safer_on_linear_models():
    model, x = LinearLogits(D, 3), points_of(60, D)
    y, safe = model.predict(x), None
    for epsilon in (0.01, 0.03, 0.1, 0.2, 0.4):
        result = run(model, x, y, make_spec(epsilon=epsilon, num_steps=100, loss="margin"))
        now = model.predict(result.x_adv[:, 0]) == y
        assert safe is None or not (now & ~safe).any()
        safe = now
    assert not safe.all()


@pytest.mark.parametrize(
    ("name", "module", "members"), [("mlp", mlp, 3), ("cnn1d", cnn1d, 1)], ids=["mlp", "cnn1d"]
)
def test_registered_architectures_can_be_attacked(name, module, members):
    spec = module.Spec()
    parameters = module.initial_parameters(spec, (40,), 2, list(range(members)))
    model = build_ensemble(
        name, spec, [parameters], vote="soft", input_shape=(40,), n_classes=2, input_range=(0, 1)
    )
    x = points_of(12, 40)
    y = model.predict(x)
    result = run(model, x, y, make_spec(epsilon=0.5, num_steps=30, step_size=0.05))
    rows = result.x_adv[:, 0]
    fooled = model.predict(rows) != y
    assert fooled.any()
    # A loss that was climbed is higher wherever the label did not change, too.
    before, after = (model.logits(points) for points in (x, rows))
    own = np.arange(12), y
    assert (after[own] - after[:, ::-1][own] < before[own] - before[:, ::-1][own]).all()
    few = run(model, x[[5]], y[[5]], make_spec(epsilon=0.5, num_steps=30, step_size=0.05),
              seeds_for(12)[[5]])  # fmt: skip
    assert few.x_adv.tobytes() == result.x_adv[5].tobytes()


def test_robust_accuracy_is_that_of_art():
    art_pgd = pytest.importorskip("art.attacks.evasion")
    from art.estimators.classification import PyTorchClassifier

    module = relu_module(D, 4)
    model, x = ensemble_of(module, D, 4), points_of(300, D)
    y = model.predict(x)
    classifier = PyTorchClassifier(
        module, torch.nn.CrossEntropyLoss(), (D,), 4, clip_values=(0, 1), device_type="cpu"
    )
    spec = make_spec(epsilon=0.06, num_steps=40)
    ours = model.predict(run(model, x, y, spec).x_adv[:, 0]) == y
    theirs = art_pgd.ProjectedGradientDescent(
        classifier, eps=0.06, eps_step=0.01, max_iter=40, num_random_init=1, verbose=False
    ).generate(x, y)
    theirs = model.predict(theirs) == y
    assert 0.15 < ours.mean() < 0.85
    # Points on which one random start decides are few.
    assert (ours != theirs).mean() < 0.03
