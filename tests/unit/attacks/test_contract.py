"""What holds for every registered attack: results, seeds, groups, bounds, bad input."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from medrobust.attacks import AttackResult, run_attack
from medrobust.attacks.contract import attack_of
from medrobust.core.errors import InputError
from medrobust.core.registry import ATTACKS, parse_spec
from medrobust.models import mlp
from medrobust.models.ensembles import Ensemble, build_ensemble

from tests import registered

every = pytest.mark.parametrize("name", registered.of_points(ATTACKS))
CLASSES, SHAPE, POINTS = 3, (187,), 6
PER_RUN = ("x_adv", "x_final_iterate", "queries", "gradient_evaluations", "iterations", "init_ok")


@functools.cache
def model() -> Ensemble:
    """Two sharp networks that say all classes within the box."""
    spec, rows = mlp.Spec(hidden_units=16, activation="relu"), np.random.default_rng(0)
    arrays = mlp.initial_parameters(spec, SHAPE, CLASSES, [1, 2])
    arrays = {key: 3 * value for key, value in arrays.items()}
    scores = mlp.member_scores(spec, arrays, SHAPE, CLASSES, "cpu")
    x = rows.random((500, *SHAPE), dtype=np.float32)
    arrays["b2"] -= np.median(scores(x), axis=1)
    made = build_ensemble(
        "mlp", spec, [arrays], vote="soft", input_shape=SHAPE, n_classes=CLASSES,
        input_range=(0.0, 1.0),
    )  # fmt: skip
    assert np.bincount(made.predict(x)).min() > 50
    return made


def problem() -> tuple[np.ndarray, np.ndarray]:
    """Returns points with the model's own labels, of which the first is wrong."""
    x, _ = registered.points(SHAPE, POINTS, CLASSES)
    y = model().predict(x)
    y[0] = (y[0] + 1) % CLASSES
    return x, y


def seeds_of(name: str, n: int = POINTS) -> np.ndarray:
    restarts = registered.attack_spec(name).restarts
    return np.arange(n * restarts, dtype=np.int64).reshape(n, restarts) + 100


@functools.cache
def result_of(name: str) -> AttackResult:
    x, y = problem()
    return run_attack(name, model(), x, y, registered.attack_spec(name), seeds_of(name))


@every
def test_there_is_an_example(name):
    assert name in registered.ATTACK_SETTINGS
    assert attack_of(name).spec is type(registered.attack_spec(name))


@every
def test_the_docstring_cites_its_source(name):
    assert registered.cites("attack", name)


@every
def test_results_have_their_shapes_and_types(name):
    found, size = result_of(name), seeds_of(name).shape
    for field in ("x_adv", "x_final_iterate"):
        value = getattr(found, field)
        assert value.shape == (*size, *SHAPE) and value.dtype == np.float32
    for field in ("queries", "gradient_evaluations", "iterations", "seeds"):
        value = getattr(found, field)
        assert value.shape == size and value.dtype == np.int64 and value.min() >= 0
    assert found.init_ok.shape == size and found.init_ok.dtype == bool
    np.testing.assert_array_equal(found.seeds, seeds_of(name))
    assert found.init_ok.all() and found.queries[:, 0].min() >= 1


@every
def test_no_point_leaves_the_box_or_its_ball(name):
    x, _ = problem()
    found, spec = result_of(name).x_adv, registered.attack_spec(name)
    made = found[np.isfinite(found).all(axis=-1)]
    assert len(made) and made.min() >= spec.clip_min and made.max() <= spec.clip_max
    if "epsilon" in type(spec).model_fields:
        moves = np.abs(found.astype(np.float64) - x[:, None])
        assert 0 < moves.max() <= spec.epsilon


@every
def test_a_point_that_is_wrong_already_is_left_as_it_is(name):
    x, _ = problem()
    assert (result_of(name).x_adv[0] == x[0]).all()


@every
def test_equal_seeds_give_equal_bytes(name):
    x, y = problem()
    again = run_attack(name, model(), x, y, registered.attack_spec(name), seeds_of(name))
    for field in PER_RUN:
        assert getattr(again, field).tobytes() == getattr(result_of(name), field).tobytes()
    other = run_attack(name, model(), x, y, registered.attack_spec(name), seeds_of(name) + 99)
    assert other.x_adv.tobytes() != result_of(name).x_adv.tobytes()


@every
def test_runs_do_not_see_how_points_are_grouped(name):
    x, y = problem()
    spec, seeds = registered.attack_spec(name), seeds_of(name)
    order = np.array([4, 1, 5, 0, 3, 2])
    groups = [order[:1], order[1:4], order[4:]]
    parts = [run_attack(name, model(), x[g], y[g], spec, seeds[g]) for g in groups]
    for field in PER_RUN:
        joined = np.concatenate([getattr(part, field) for part in parts])
        assert joined.tobytes() == getattr(result_of(name), field)[order].tobytes(), field


@every
def test_the_plan_knows_its_queries(name):
    found, spec = result_of(name), registered.attack_spec(name)
    spent = (found.queries + found.gradient_evaluations).sum(axis=1)
    assert isinstance(spec.expected_queries(), int)
    assert 0 < spent.max() <= 2 * spec.expected_queries()


def with_nan(x, y, seeds):
    x = x.copy()
    x[2, 3] = np.nan
    return x, y, seeds


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda x, y, s: (x[:, :9], y, s), "The points have shape"),
        (lambda x, y, s: (x.astype(np.float64), y, s), "type float64"),
        (with_nan, "NaN or infinite"),
        (lambda x, y, s: (x, y[:3], s), "The labels have shape"),
        (lambda x, y, s: (x, y + CLASSES, s), "The labels run from"),
        (lambda x, y, s: (x, y, s[:3]), "The seeds have shape"),
        (lambda x, y, s: (x, y, s - 1000), "Seeds must lie in"),
        (lambda x, y, s: (x, y, np.repeat(s, 2, axis=1)), "restarts"),
    ],
)
@every
def test_bad_input_is_refused(name, spoil, said):
    x, y, seeds = spoil(*problem(), seeds_of(name))
    with pytest.raises(InputError, match=said):
        run_attack(name, model(), x, y, registered.attack_spec(name), seeds)


@every
def test_settings_of_another_attack_or_of_an_open_box_are_refused(name):
    x, y = problem()
    other = next(n for n in ATTACKS if attack_of(n).spec is not attack_of(name).spec)
    with pytest.raises(InputError, match="settings given to the attack"):
        run_attack(name, model(), x, y, registered.attack_spec(other), seeds_of(name))
    with pytest.raises(InputError, match="open end"):
        run_attack(name, model(), x, y, registered.attack_spec(name, clip_max=None), seeds_of(name))
    values = {"name": name, **registered.ATTACK_SETTINGS[name], "restart": 3}
    with pytest.raises(InputError, match="Did you mean 'restarts'"):
        parse_spec("attack", values, file="test", prefix="attack")
