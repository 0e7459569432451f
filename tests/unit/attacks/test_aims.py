"""Settings of PGD that other papers have names for, and targets: against loops of plain PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.attacks import pgd, run_attack
from medrobust.attacks.engine.aims import aims_of
from medrobust.core.errors import NotFiniteError
from medrobust.evaluation.records import records_from_result, targeted_success
from medrobust.models import ensembles, relu_mlp
from medrobust.models.ensembles import build_ensemble
from medrobust.runtime.journal import Journal
from numpy.testing import assert_allclose
from pydantic import ValidationError

from tests.attack_models import assert_same
from tests.gradient_models import LinearLogits, ensemble_of, points_of, relu_module, seeds_for

D, EPSILON = 13, 5 / 255
#: As a breast-ultrasound study (mirst) attacks: FGSM, PGD, Carlini and Wagner's loss.
FGSM = {"num_steps": 1, "step_share": 1.0, "random_start": False, "early_stop": False}
PGD = {"num_steps": 20, "step_size": 0.001, "random_start": False, "early_stop": False}
CW = {**PGD, "num_steps": 10, "loss": "margin"}


def made(classes: int = 2, *, on_tensors: bool = False):
    """Returns a small network that says all classes as an ensemble, and as a function of tensors.

    With ``on_tensors`` attacks keep its rows in tensors, here of the CPU.
    """
    sample = torch.from_numpy(points_of(300, D, seed=8))
    if not on_tensors:
        network = relu_module(D, classes, seed=4)
        network[-1].bias -= network(sample).median(dim=0).values
        return ensemble_of(network, D, classes), network
    spec = relu_mlp.Spec(hidden_layers=2, hidden_units=16, linear_units=8)
    arrays = relu_mlp.initial_parameters(spec, (D,), classes, [0])
    arrays = {name: torch.from_numpy(3 * value) for name, value in arrays.items()}
    last = max(name for name in arrays if name.startswith("b"))
    arrays[last] -= relu_mlp.forward(spec, arrays, sample).median(dim=1).values
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensembles, "KEPT_ON", {"cpu", "cuda"})
        model = build_ensemble(
            "relu_mlp", spec, [{name: value.numpy() for name, value in arrays.items()}],
            vote="soft", input_shape=(D,), n_classes=classes, input_range=(0.0, 1.0),
        )  # fmt: skip
    assert model.on_device is not None
    return model, lambda rows: relu_mlp.forward(spec, arrays, rows)[0]


def attacked(model, x, y=None, *, journal=None, **options):
    spec = pgd.Spec(**{"epsilon": EPSILON, "clip_min": 0.0, "clip_max": 1.0, **options})
    y = model.predict(x) if y is None else y
    return run_attack("pgd", model, x, y, spec, seeds_for(len(x), spec.restarts), journal=journal)


def other_margin(logits, y):
    """The largest logit but that of y, less that of y."""
    others = logits.clone()
    others[torch.arange(len(y)), y] = -torch.inf
    return others.max(dim=1).values - logits[torch.arange(len(y)), y]


def plain_loop(network, x, y, *, loss, steps, size, kappa=None, towards=None, epsilon=EPSILON):
    """Sign steps of plain PyTorch; a row whose objective has no gradient stays."""
    y = torch.from_numpy(y)
    goal = y if towards is None else torch.from_numpy(towards)
    point = torch.from_numpy(x)
    rows = point.clone()
    for _ in range(steps):
        rows.requires_grad_()
        logits = network(rows)
        if loss == "cross_entropy":
            raised = torch.nn.functional.cross_entropy(logits, goal, reduction="sum")
        else:
            margin = other_margin(logits, goal)
            # Carlini and Wagner lower max(-margin, -kappa), of a target max(margin, -kappa).
            away = margin if towards is None else -margin
            away = away if kappa is None else away.clamp(max=kappa)
            raised = away.sum() if towards is None else -away.sum()
        if towards is not None:
            raised = -raised
        (slope,) = torch.autograd.grad(raised, rows)
        with torch.no_grad():
            rows = rows.detach() + size * slope.sign()
            rows = torch.clamp(rows, point - epsilon, point + epsilon).clamp(0, 1)
    return rows.numpy()


# What has a name of its own elsewhere.


def test_fgsm_is_one_step():
    model, network = made()
    x = points_of(60, D)
    y = model.predict(x)
    leaf = torch.from_numpy(x).requires_grad_()
    loss = torch.nn.functional.cross_entropy(network(leaf), torch.from_numpy(y), reduction="sum")
    (slope,) = torch.autograd.grad(loss, leaf)
    expected = np.clip(x + np.float32(EPSILON) * slope.sign().numpy(), 0, 1)
    found = attacked(model, x, **FGSM)
    # Nothing but that no value is farther from x than epsilon, in float64: one unit of float32.
    assert_allclose(found.x_adv[:, 0], expected, rtol=0, atol=6e-8)
    assert (found.iterations == 1).all() and (found.gradient_evaluations == 1).all()
    assert 5 < (model.predict(found.x_adv[:, 0]) != y).sum() < 55


def test_fgsm_of_grey_values_is_exact():
    """Steps of whole numbers of 1/256 round nowhere."""
    model, network = made()
    x = np.random.default_rng(0).integers(0, 257, (40, D)).astype(np.float32) / 256
    leaf = torch.from_numpy(x).requires_grad_()
    y = torch.from_numpy(model.predict(x))
    (slope,) = torch.autograd.grad(
        torch.nn.functional.cross_entropy(network(leaf), y, reduction="sum"), leaf
    )
    expected = np.clip(x + 5 / 256 * slope.sign().numpy(), 0, 1)
    np.testing.assert_array_equal(attacked(model, x, **FGSM, epsilon=5 / 256).x_adv[:, 0], expected)


@pytest.mark.parametrize("on_tensors", [False, True])
@pytest.mark.parametrize("confidence", [0.0, 0.4])
def test_a_run_ends_where_carlini_and_wagners_objective_has_no_gradient(confidence, on_tensors):
    model, network = made(4, on_tensors=on_tensors)
    x = points_of(80, D)
    how = {"loss": "margin", "num_steps": 15, "step_size": 0.015, "random_start": False}
    found = attacked(model, x, **how, early_stop=True, confidence=confidence, epsilon=0.1)
    y = model.predict(x)
    expected = plain_loop(
        network, x, y, loss="margin", steps=15, size=0.015, kappa=confidence, epsilon=0.1
    )
    assert_allclose(found.x_adv[:, 0], expected, rtol=0, atol=2e-6)
    ended = found.iterations[:, 0] < 15
    assert 10 < ended.sum() < 70 and len(np.unique(found.iterations)) > 3
    margins = other_margin(network(torch.from_numpy(found.x_adv[:, 0])), torch.from_numpy(y))
    assert (margins.numpy()[ended] > confidence).all()
    # Such steps were not lost: nobody is told that the gradient vanished.
    assert (found.steps_without_gradient == 0).all()


@pytest.mark.parametrize("on_tensors", [False, True])
def test_without_an_early_stop_the_margin_is_raised_on(on_tensors):
    model, network = made(3, on_tensors=on_tensors)
    x = points_of(50, D)
    found, y = attacked(model, x, **CW), model.predict(x)
    expected = plain_loop(network, x, y, loss="margin", steps=10, size=0.001)
    assert_allclose(found.x_adv[:, 0], expected, rtol=0, atol=2e-6)
    assert (found.iterations == 10).all()


@pytest.mark.parametrize("on_tensors", [False, True])
def test_with_two_classes_both_losses_go_one_way(on_tensors):
    """So CW with ten steps of 0.001 is PGD stopped half-way, and stays within 0.010 of 0.0196."""
    model, _ = made(on_tensors=on_tensors)
    x = points_of(100, D)
    for steps in (1, 10, 20):
        one, other = (
            attacked(model, x, **{**PGD, "num_steps": steps, "loss": loss})
            for loss in ("cross_entropy", "margin")
        )
        assert one.x_adv.tobytes() == other.x_adv.tobytes()
    cw, pgd20 = attacked(model, x, **CW), attacked(model, x, **PGD)
    assert np.abs(cw.x_adv[:, 0].astype(float) - x).max() <= 0.010 + 1e-6
    assert 0.0195 < np.abs(pgd20.x_adv[:, 0].astype(float) - x).max() <= EPSILON
    # The loss only grows along the way: what CW broke is broken by PGD.
    y = model.predict(x)
    broken = [model.predict(found.x_adv[:, 0]) != y for found in (cw, pgd20)]
    assert not (broken[0] & ~broken[1]).any() and broken[0].sum() < broken[1].sum()


# Targets.


@pytest.mark.parametrize("on_tensors", [False, True])
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
@pytest.mark.parametrize("target", ["next", "least_likely"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_with_two_classes_a_target_changes_nothing(loss, target, norm, on_tensors):
    model, _ = made(on_tensors=on_tensors)
    x = points_of(40, D)
    how = {"loss": loss, "num_steps": 12, "step_share": 0.2, "restarts": 2, "norm": norm}
    for early_stop in (False, True):
        away, towards = (
            attacked(model, x, **how, early_stop=early_stop, target=one) for one in (None, target)
        )
        if norm == "linf" or loss == "margin":
            assert towards.x_adv.tobytes() == away.x_adv.tobytes()
        else:  # slopes of one direction and other lengths
            assert_allclose(towards.x_adv, away.x_adv, rtol=0, atol=2e-6)
        np.testing.assert_array_equal(towards.iterations, away.iterations)
        np.testing.assert_array_equal(towards.targets[:, 1], 1 - model.predict(x))
        assert (away.targets == -1).all()
        # The least likely class costs a point one row more.
        more = (target == "least_likely") * np.tile([1, 0], (len(x), 1))
        np.testing.assert_array_equal(towards.queries - away.queries, more)


@pytest.mark.parametrize("on_tensors", [False, True])
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
@pytest.mark.parametrize("target", ["next", "least_likely"])
def test_targeted_runs_are_those_of_a_plain_loop(loss, target, on_tensors):
    model, network = made(4, on_tensors=on_tensors)
    x = points_of(60, D)
    y = model.predict(x)
    with torch.no_grad():
        logits = network(torch.from_numpy(x)).numpy()
    towards = (y + 1) % 4 if target == "next" else logits.argmin(axis=1)
    how = {"num_steps": 8, "step_size": 0.003, "random_start": False, "early_stop": False}
    found = attacked(model, x, **how, loss=loss, target=target)
    expected = plain_loop(network, x, y, loss=loss, steps=8, size=0.003, towards=towards)
    assert (np.abs(found.x_adv[:, 0] - expected).max(axis=1) < 2e-6).mean() > 0.98
    np.testing.assert_array_equal(found.targets[:, 0], towards)
    # The target's probability is higher than it was.
    before, after = (
        torch.softmax(network(torch.from_numpy(rows)), 1).numpy()[np.arange(60), towards]
        for rows in (x, found.x_adv[:, 0])
    )
    assert (after > before).mean() > 0.95


@pytest.mark.parametrize("on_tensors", [False, True])
def test_a_targeted_run_ends_at_its_target_and_not_before(on_tensors):
    model, _ = made(4, on_tensors=on_tensors)
    x = points_of(80, D)
    y = model.predict(x)
    y[0] = (y[0] + 1) % 4  # misclassified without attack
    found = attacked(
        model, x, y, epsilon=0.3, num_steps=60, step_size=0.01, target="next", restarts=2
    )
    label = model.predict(found.x_adv.reshape(-1, D)).reshape(80, 2)
    ended = found.iterations < 60
    right = np.arange(80) > 0
    assert (label == found.targets)[ended & right[:, None]].all()
    assert not (label == found.targets)[~ended].any()
    assert 20 < ended[1:].sum() < 158
    spec = pgd.Spec(epsilon=0.3, num_steps=60, target="next", restarts=2)
    records = records_from_result(model, x, y, np.arange(80), found, spec, (0.0, 1.0))
    reached, success = targeted_success(records), records["success"]
    np.testing.assert_array_equal(
        reached.fillna(False).to_numpy(bool).reshape(80, 2)[1:], (label == found.targets)[1:]
    )
    assert reached[:2].isna().all() and records["target"][:2].isna().all()
    # Another class than label and target is a success as records have it, and no targeted one.
    between = success & ~reached.fillna(True).astype(bool)
    assert between.any()
    away = attacked(model, x, y, num_steps=3)
    untargeted = records_from_result(model, x, y, np.arange(80), away, spec, (0.0, 1.0))
    assert targeted_success(untargeted).isna().all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(1, 9))
def test_the_least_likely_class_is_never_the_label(seed, classes, block):
    model = LinearLogits(D, classes, seed=seed % 7, block=block)
    x = points_of(17, D, seed)
    y = np.random.default_rng(seed).integers(0, classes, 17)
    aims = aims_of(model, x, y, "least_likely")
    for i, scores in enumerate(model.logits(x)):
        others = [k for k in range(classes) if k != y[i]]
        assert aims.classes[i] == min(others, key=lambda k: (scores[k], k))
    assert aims.towards and aims_of(model, x[:0], y[:0], "least_likely").classes.shape == (0,)
    assert (aims_of(model, x, y, "next").classes == [(one + 1) % classes for one in y]).all()


def test_every_row_that_was_asked_about_is_counted():
    model = LinearLogits(D, 3, block=1)
    x = points_of(15, D)
    y = model.predict(x)
    y[::4] = (y[::4] + 1) % 3
    model.predicted = model.passed = 0
    found = attacked(model, x, y, num_steps=6, target="least_likely", restarts=2, confidence=0.1)
    assert found.queries.sum() == model.passed + model.predicted


@pytest.mark.parametrize("target", ["next", "least_likely"])
def test_a_killed_job_knows_its_targets_again(target, tmp_path, monkeypatch):
    monkeypatch.setattr("medrobust.attacks.engine.ledger._JOURNAL_SECONDS", 0.0)
    model, _ = made(4)
    x, how = points_of(20, D), {"num_steps": 9, "step_size": 0.01, "target": target}
    whole = attacked(model, x, **how)
    with Journal(tmp_path / "j", "key") as journal:
        attacked(model, x[:7], journal=journal, **how)
        again = attacked(model, x, journal=journal, **how)
    assert_same(again, whole)
    np.testing.assert_array_equal(again.targets, whole.targets)


def test_points_do_not_know_each_other():
    model, _ = made(4)
    x = points_of(30, D)
    how = {"num_steps": 9, "step_size": 0.01, "target": "least_likely", "confidence": 0.2}
    whole, part = attacked(model, x, **how), attacked(model, x[::-3], **how)
    seeds = seeds_for(30)
    spec = pgd.Spec(epsilon=EPSILON, clip_min=0.0, clip_max=1.0, **how)
    part = run_attack("pgd", model, x[::-3], model.predict(x[::-3]), spec, seeds[::-3])
    assert part.x_adv.tobytes() == whole.x_adv[::-3].tobytes()
    np.testing.assert_array_equal(part.targets, whole.targets[::-3])


# What cannot be.


def test_a_confidence_without_an_early_stop_is_refused():
    with pytest.raises(ValidationError, match="early_stop: true"):
        pgd.Spec(epsilon=0.1, confidence=1.0, early_stop=False)
    for value in (-0.1, np.nan, np.inf):
        with pytest.raises(ValidationError):
            pgd.Spec(epsilon=0.1, confidence=value)
    with pytest.raises(ValidationError, match="least_likely"):
        pgd.Spec(epsilon=0.1, target="last")


def test_logits_that_are_no_numbers_have_no_least():
    model = LinearLogits(D, 3)
    model.b[1] = np.nan
    with pytest.raises(NotFiniteError):
        attacked(model, points_of(4, D), np.zeros(4, int), target="least_likely")


def test_the_plan_counts_the_clean_logits():
    specs = [pgd.Spec(epsilon=0.1, num_steps=4, target=one) for one in (None, "next")]
    assert [spec.expected_queries() for spec in specs] == [10, 10]
    least = pgd.Spec(epsilon=0.1, num_steps=4, target="least_likely", restarts=3)
    assert least.expected_queries() == 2 + 3 * 9
