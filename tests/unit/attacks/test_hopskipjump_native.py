"""HopSkipJump in lockstep: against known distances, against ART, and what changes no result."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import textwrap
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.attacks import AttackResult, LabelModel
from medrobust.attacks.engine import hopskipjump_native
from medrobust.attacks.engine.queries import BLOCK
from medrobust.core.errors import InputError
from medrobust.runtime.journal import Journal
from pydantic import ValidationError
from scipy import stats

from tests.attack_models import (
    Ball,
    Constant,
    Linear,
    Planes,
    Recorder,
    Untouchable,
    adversarial_corner,
    assert_same,
    attack,
    chosen_points,
    distances,
    points_in_the_box,
    seeds_for,
)
from tests.attack_models import make_spec as any_spec

ROOT = Path(__file__).parents[3]
SCRIPTS = ROOT / "workflow" / "scripts"

make_spec = partial(any_spec, engine="native")
every_way = pytest.mark.parametrize(
    ("norm", "refinement"), [(2, 0.0), (2, 0.5), ("inf", 0.0)], ids=["l2", "refined", "linf"]
)


class Quantised(Linear):
    """Sees inputs rounded to a few levels in [0, 1]: the boundary is made of faces of cells."""

    levels = 6

    def predict(self, x: np.ndarray) -> np.ndarray:
        return super().predict(np.rint(x.astype(np.float64) * (self.levels - 1)))

    def true_distance(self, x: np.ndarray, norm: int | str = 2) -> float:
        """Returns the distance to the nearest cell of the other class, by going through all."""
        step = 1 / (self.levels - 1)
        grid = itertools.product(range(self.levels), repeat=len(x))
        cells = np.array(list(grid), dtype=np.float64)
        other = Linear.predict(self, cells) != self.predict(x[None])[0]
        low = np.clip((cells - 0.5) * step, 0, 1)
        high = np.clip((cells + 0.5) * step, 0, 1)
        away = x - np.clip(x.astype(np.float64), low, high)
        return float(np.linalg.norm(away[other], 2 if norm == 2 else np.inf, axis=1).min())


class Network:
    """Three classes by a small network with a curved boundary."""

    n_classes = 3

    def __init__(self, d: int, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.input_shape = (d,)
        self.hidden = 6 * random.normal(size=(16, d)) / math.sqrt(d)
        self.shift = random.normal(size=16)
        self.out = random.normal(size=(3, 16))

    def predict(self, x: np.ndarray) -> np.ndarray:
        inputs = x.astype(np.float64) - 0.5
        hidden = np.tanh((inputs[:, None] * self.hidden).sum(axis=-1) + self.shift)
        return (hidden[:, None] * self.out).sum(axis=-1).argmax(axis=1).astype(np.int64)


class Rough(Linear):
    """A plane with fine ripples: short perturbations follow them, longer ones average over them."""

    waves = 3000.0

    def score(self, x: np.ndarray) -> np.ndarray:
        ripples = np.sin(self.waves * x.astype(np.float64)) * 4 / self.waves
        return super().score(x) + ripples.sum(axis=-1)


class Dome:
    """Class 0 within a ball that the box cuts: most perturbations at its surface leave it."""

    n_classes, radius = 2, 0.3

    def __init__(self, centre: np.ndarray) -> None:
        self.centre, self.input_shape = centre, centre.shape

    def predict(self, x: np.ndarray) -> np.ndarray:
        away = np.linalg.norm(x.astype(np.float64) - self.centre, axis=1)
        return (away > self.radius).astype(np.int64)


class Fixed:
    """Passes queries on; says that batches of any shape give the same labels."""

    fixed_shape = True

    def __init__(self, model: LabelModel) -> None:
        self.model, self.n_classes, self.input_shape = model, model.n_classes, model.input_shape

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.model.predict(x)


def assert_consistent(result: AttackResult, x: np.ndarray, y, model, spec) -> None:
    """Asserts what holds for any result."""
    low, high = spec.box()
    clean, traces = model.predict(x), result.traces
    wrong = clean != y
    goal = np.full(len(x), spec.target) if spec.targeted else clean
    for i, r in np.ndindex(*result.queries.shape):
        row, final = result.x_adv[i, r], result.x_final_iterate[i, r]
        if wrong[i]:
            assert row.tobytes() == final.tobytes() == x[i].tobytes()
            assert (result.queries[i, r], result.iterations[i, r]) == (1, 0)
            assert (traces.boundary[i, r] == 0).all()
            assert (traces.iterate[i, r] == 0).all()
            assert (traces.queries[i, r] == 1).all()
            continue
        if not result.init_ok[i, r]:
            everything = row, final, traces.boundary[i, r], traces.iterate[i, r]
            assert all(np.isnan(values).all() for values in everything)
            assert (traces.queries[i, r] == 0).all()
            assert result.iterations[i, r] == 0
            continue
        for kept in (row, final):
            assert kept.min() >= low
            assert kept.max() <= high
            assert (model.predict(kept[None])[0] == goal[i]) == spec.targeted
        assert result.iterations[i, r] == spec.max_iter
        assert (np.diff(traces.boundary[i, r]) <= 0).all()
        assert (np.diff(traces.queries[i, r]) > 0).all()
        assert traces.queries[i, r, -1] == result.queries[i, r]
    chosen = result.init_ok & ~wrong[:, None]
    found = distances(result.x_adv, x, spec.norm).astype(np.float32)
    final = distances(result.x_final_iterate, x, spec.norm).astype(np.float32)
    np.testing.assert_allclose(traces.boundary[chosen][:, -1], found[chosen], rtol=1e-6)
    np.testing.assert_allclose(traces.iterate[chosen][:, -1], final[chosen], rtol=1e-6)
    assert (result.init_ok | ~wrong[:, None]).all()
    assert result.seeds.shape == result.queries.shape


# --- known distances --------------------------------------------------------------------


@pytest.mark.parametrize(("d", "iterations", "most"), [(20, 30, 1.01), (187, 40, 1.03)])
def test_distance_to_a_plane(d, iterations, most):
    model, x = Linear(d), points_in_the_box(d, 3)
    spec = make_spec(max_iter=iterations, restarts=3)
    result = attack(model, x, spec, seeds_for(3, 3))
    true = model.distance(x)[:, None]
    ratio = distances(result.x_adv, x) / true
    # float32 storage can move a point across the plane by its rounding, about 1e-7 per entry.
    assert (ratio >= 1 - 1e-5).all()
    assert (ratio <= most).all()
    # What the projection removes: the iterate lies clearly off the boundary.
    iterate = distances(result.x_final_iterate, x) / true
    assert (iterate > 1.05).all()
    assert (iterate < 1.4).all()
    assert_consistent(result, x, model.predict(x), model, spec)
    assert (result.gradient_evaluations == 0).all()


def test_distance_to_a_plane_in_the_maximum_norm():
    model, x = Linear(20), points_in_the_box(20, 2)
    spec = make_spec(norm="inf", max_iter=60, restarts=2)
    result = attack(model, x, spec, seeds_for(2, 2))
    ratio = distances(result.x_adv, x, "inf") / model.distance(x, dual_norm=1)[:, None]
    assert (ratio >= 1 - 1e-5).all()
    assert (ratio <= 1.05).all()
    assert_consistent(result, x, model.predict(x), model, spec)


def test_refinement_comes_nearer_to_a_plane_for_the_same_queries():
    model, x = Linear(187), points_in_the_box(187, 3)
    excess = []
    for refinement in (0.0, 0.5):
        spec = make_spec(max_iter=40, restarts=3, refinement=refinement)
        result = attack(model, x, spec, seeds_for(3, 3))
        assert_consistent(result, x, model.predict(x), model, spec)
        excess.append(distances(result.x_adv, x) / model.distance(x)[:, None] - 1)
        assert 0.9 < result.queries.mean() / spec.expected_queries() * 3 < 1.1
    assert (excess[1] >= -1e-5).all()
    assert (excess[1] < excess[0] / 3).all()


@every_way
def test_distance_to_the_only_boundary_of_one_dimension(norm, refinement):
    model, x = Linear(1), np.array([[0.2], [0.7]], dtype=np.float32)
    model.w[:], model.b = 1.0, -0.45
    spec = make_spec(norm=norm, max_iter=6, refinement=refinement)
    result = attack(model, x, spec, seeds_for(2, 1))
    true = np.array([[0.25], [0.25]])
    ratio = distances(result.x_adv, x, norm) / true
    assert (ratio >= 1 - 1e-6).all()
    assert (ratio <= 1 + 3e-5).all()
    assert_consistent(result, x, model.predict(x), model, spec)


@pytest.mark.parametrize("norm", [2, "inf"])
def test_an_estimate_from_answers_that_are_all_equal_has_their_sign(norm):
    model, x = Linear(1), np.array([[0.3]], dtype=np.float32)
    model.w[:], model.b = 1.0, -0.5
    spec = make_spec(norm=norm, max_iter=1, init_eval=1, restarts=20)
    result = attack(model, x, spec, seeds_for(1, 20))
    # One answer shows the way: the step, as long as the distance, leads away from the boundary.
    assert distances(result.x_final_iterate, x, norm)[0] == pytest.approx(0.4, rel=0.02)


@pytest.mark.parametrize("refinement", [0.0, 0.3])
def test_distance_to_a_sphere_from_inside_with_three_classes_and_image_shape(refinement):
    model = Ball()
    x = np.full((1, *model.input_shape), 0.5, dtype=np.float32)
    x[0, 0, 0, 1] += 0.2
    spec = make_spec(max_iter=40, restarts=3, refinement=refinement)
    result = attack(model, x, spec, seeds_for(1, 3))
    assert result.x_adv.shape == (1, 3, *model.input_shape)
    true = model.radius - 0.2
    assert (distances(result.x_adv, x) >= true - 1e-6).all()
    assert (distances(result.x_adv, x) <= 1.02 * true).all()
    assert_consistent(result, x, model.predict(x), model, spec)


class Pebble:
    """Class 1 in a ball, class 0 around it."""

    n_classes, input_shape = 2, (4,)
    centre, radius = np.array([0.6, 0.5, 0.5, 0.4]), 0.3

    def predict(self, x: np.ndarray) -> np.ndarray:
        away = np.linalg.norm(x.astype(np.float64) - self.centre, axis=1)
        return (away < self.radius).astype(np.int64)


@pytest.mark.parametrize("refinement", [0.0, 0.3])
def test_distance_to_a_sphere_from_outside(refinement):
    model, x = Pebble(), np.array([[0.1, 0.2, 0.6, 0.9]], dtype=np.float32)
    spec = make_spec(max_iter=30, restarts=3, refinement=refinement)
    result = attack(model, x, spec, seeds_for(1, 3))
    true = np.linalg.norm(x[0] - model.centre) - model.radius
    assert (distances(result.x_adv, x) >= true - 1e-6).all()
    assert (distances(result.x_adv, x) <= 1.01 * true).all()
    assert_consistent(result, x, model.predict(x), model, spec)


def three_classes() -> tuple[Planes, np.ndarray]:
    """Returns class 1 and class 2 on the far sides of planes at 0.15 and 0.25, and a point."""
    d = 12
    w = np.zeros((2, d))
    w[0, :6], w[1, 6:] = 1 / math.sqrt(6), -1 / math.sqrt(6)
    x = points_in_the_box(d, 1, seed=5)
    return Planes(w, -(w @ x[0].astype(np.float64)) - [0.15, 0.25]), x


class Merged(Planes):
    """Two classes: on the near side of all planes, or not."""

    def __init__(self, planes: Planes) -> None:
        super().__init__(planes.w, planes.b)
        self.n_classes = 2

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.minimum(super().predict(x), 1)


@pytest.mark.parametrize("merged", [False, True])
def test_the_nearest_restart_finds_the_nearer_of_two_planes(merged):
    planes, x = three_classes()
    model = Merged(planes) if merged else planes
    spec = make_spec(max_iter=30, restarts=8)
    result = attack(model, x, spec, seeds_for(1, 8))
    assert_consistent(result, x, model.predict(x), model, spec)
    found = distances(result.x_adv, x)[0]
    at = planes.predict(result.x_adv[0])
    assert set(at) == {1, 2}  # runs end at both planes, each near its own
    for plane, true in ((1, 0.15), (2, 0.25)):
        assert (found[at == plane] >= true - 1e-6).all()
        assert (found[at == plane] <= 1.02 * true).all()


@pytest.mark.parametrize("norm", [2, "inf"])
@pytest.mark.parametrize("seed", range(3))
def test_rows_on_the_boundary_of_a_quantised_model_are_real(norm, seed):
    model, x = Quantised(3), points_in_the_box(3, 4, seed)
    model.b = -float(model.w @ (x[0] * 5.0)) + 0.3
    spec = make_spec(norm=norm, max_iter=20, restarts=3)
    result = attack(model, x, spec, seeds_for(4, 3))
    assert_consistent(result, x, model.predict(x), model, spec)
    assert result.init_ok.all()
    true = np.array([[model.true_distance(row, norm)] for row in x])
    found = distances(result.x_adv, x, norm)
    assert (found >= true - 1e-6).all()
    assert (found.min(axis=1) <= 1.5 * true[:, 0]).all()
    for i, r in np.ndindex(*found.shape):
        # One bracket nearer there is a row of the clean class.
        row = result.x_adv[i, r].astype(np.float64)
        back = x[i] + (1 - 3e-5) * (row - x[i])
        if norm == "inf":
            reach = found[i, r] * (1 - 3e-5) - 1e-7
            back = np.clip(row, x[i] - reach, x[i] + reach)
        near = [back, x[i] + (1 - 1e-4) * (row - x[i])]
        assert (model.predict(np.array(near, np.float32)) == model.predict(x[[i]])).any()


# --- targeted ---------------------------------------------------------------------------


@pytest.mark.parametrize("refinement", [0.0, 0.4])
@pytest.mark.parametrize(("target", "true"), [(1, 0.15), (2, 0.25)])
def test_a_targeted_attack_reaches_its_class_and_no_nearer_one(target, true, refinement):
    model, x = three_classes()
    spec = make_spec(targeted=True, target=target, max_iter=30, restarts=4, refinement=refinement)
    result = attack(model, x, spec, seeds_for(1, 4))
    assert (model.predict(result.x_adv[0]) == target).all()
    assert (distances(result.x_adv, x) >= true - 1e-6).all()
    assert (distances(result.x_adv, x) <= 1.02 * true).all()
    assert_consistent(result, x, model.predict(x), model, spec)


@pytest.mark.parametrize("norm", [2, "inf"])
def test_a_targeted_attack_from_one_class_through_another(norm):
    """Class 1, then 2, then 3 along the first axis: from 0 to 3 the way leads through others."""

    class Layers:
        n_classes, input_shape = 4, (3,)

        def predict(self, x):
            return np.minimum(x[:, 0].astype(np.float64) * 4, 3).astype(np.int64)

    x = np.array([[0.1, 0.5, 0.5], [0.4, 0.5, 0.5]], dtype=np.float32)
    spec = make_spec(norm=norm, targeted=True, target=3, max_iter=25)
    result = attack(Layers(), x, spec, seeds_for(2, 1))
    true = np.array([[0.65], [0.35]])
    assert (distances(result.x_adv, x, norm) / true >= 1 - 1e-6).all()
    assert (distances(result.x_adv, x, norm) / true <= 1.05).all()
    assert_consistent(result, x, np.array([0, 1]), Layers(), spec)


def test_a_target_that_no_start_reaches_is_a_failure():
    model, x = three_classes()
    model.n_classes = 4
    spec = make_spec(targeted=True, target=3, init_size=100)
    result = attack(model, x, spec, seeds_for(1, 1))
    assert not result.init_ok.any()
    assert (result.queries == 101).all()
    assert_consistent(result, x, model.predict(x), model, spec)


@pytest.mark.parametrize(
    "options",
    [
        {"targeted": True},
        {"target": 1},
        {"targeted": True, "target": -1},
        {"targeted": True, "target": 1, "engine": "art"},
        {"refinement": 0.5, "engine": "art"},
        {"refinement": 0.5, "norm": "inf"},
        {"refinement": 0.6},
        {"refinement": -0.1},
    ],
)
def test_settings_that_contradict_each_other_are_refused(options):
    with pytest.raises(ValidationError):
        make_spec(**options)


def test_a_target_that_is_no_class_or_the_points_own_is_refused():
    model, x = three_classes()
    with pytest.raises(InputError, match=r"target is class 3, but the model has 3 classes"):
        attack(model, x, make_spec(targeted=True, target=3), seeds_for(1, 1))
    x = np.repeat(x, 3, axis=0)
    with pytest.raises(InputError, match=r"1 point\(s\) belong to the target(.|\n)*row\(s\) 1"):
        y = np.array([0, 2, 0])
        attack(model, x, make_spec(targeted=True, target=2), seeds_for(3, 1), y=y)


# --- agreement with ART -----------------------------------------------------------------

# At most this is the chance of a false alarm in one comparison, would the seeds change.
_LEVEL = 1e-5
_SEEDS = 300


def in_a_network(norm) -> tuple[LabelModel, np.ndarray, np.ndarray]:
    """Returns a model, a point and a start."""
    model, x = Network(20, seed=3), points_in_the_box(20, 1)
    candidates = np.random.default_rng(5).uniform(0, 1, (200, 20)).astype(np.float32)
    return model, x, candidates[model.predict(candidates) != model.predict(x)[0]][:1]


def in_a_corner(norm) -> tuple[LabelModel, np.ndarray, np.ndarray]:
    """Answers are unlike in number and perturbations, clipped, have a mean: it must come off."""
    x = np.zeros((1, 20), dtype=np.float32)
    x[0, 10:] = 0.5
    start, centre = x.copy(), x[0].astype(np.float64)
    start[0, 15:] = 0.9
    centre[10:15] += 0.08
    return Dome(centre), x, start


def among_ripples(norm) -> tuple[LabelModel, np.ndarray, np.ndarray]:
    """The boundary looks flat or not, as the length of the perturbations is."""
    model, x = Rough(20, seed=1), points_in_the_box(20, 1)
    # As long as the perturbations of the second iteration, or they would not matter.
    model.waves = 3000.0 if norm == 2 else 12000.0
    return model, x, adversarial_corner(model, x[0])[None]


def projected(model: LabelModel, x: np.ndarray, rows: np.ndarray, norm: int | str) -> np.ndarray:
    """Returns the distances of rows ``[n, d]`` after a bisection towards ``x`` of this test's."""
    rows, clean = rows.astype(np.float64), model.predict(x)[0]
    reach = np.abs(rows - x).max(axis=1)
    low, high = np.zeros(len(rows)), np.ones(len(rows))
    for _ in range(20):
        middle = ((low + high) / 2)[:, None]
        tried = x + middle * (rows - x)
        if norm == "inf":
            tried = np.clip(rows, x - middle * reach[:, None], x + middle * reach[:, None])
        hit = model.predict(tried.astype(np.float32)) != clean
        low, high = np.where(hit, low, middle[:, 0]), np.where(hit, middle[:, 0], high)
    if norm == "inf":
        return high * reach
    return high * np.linalg.norm(rows - x, axis=1)


def differs(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two samples are too unlike in shape, mean or spread to be of one distribution."""
    # What float32 rounds is no difference.
    a, b = np.round(np.log(a), 4), np.round(np.log(b), 4)
    spread_a, spread_b = np.abs(a - np.median(a)), np.abs(b - np.median(b))
    tests = [stats.ks_2samp(a, b).pvalue]
    for left, right in ((a, b), (spread_a, spread_b)):
        if np.ptp(left) + np.ptp(right) > 0:
            tests.append(stats.ttest_ind(left, right, equal_var=False).pvalue)
    return min(tests) < _LEVEL / 3


@pytest.mark.parametrize("norm", [2, "inf"])
@pytest.mark.parametrize("case", [in_a_network, in_a_corner, among_ripples])
def test_agrees_in_distribution_with_art(case, norm):
    model, x, start = case(norm)
    size = 300 if case is among_ripples else 40
    for iterations in (1, 2, 5):
        options = {"norm": norm, "max_iter": iterations, "restarts": _SEEDS, "init_eval": size}
        ours, theirs = (
            attack(
                model,
                x,
                any_spec(engine=engine, start="fixed", **options),
                seeds_for(1, _SEEDS, root),
                x_start=start,
            )
            for engine, root in (("native", 1), ("art", 2))
        )
        final = [distances(result.x_final_iterate, x, norm)[0] for result in (ours, theirs)]
        assert not differs(*final), f"unprojected, {iterations} iterations"
        ends = [projected(model, x, r.x_final_iterate[0], norm) for r in (ours, theirs)]
        assert not differs(*ends), f"projected, {iterations} iterations"
        # The nearest row of all iterations is no farther than the last one projected.
        assert (distances(ours.x_adv, x, norm)[0] <= ends[0] + 1e-5 * final[0] + 1e-7).all()
        # Both check the point and the start, and their estimates are as large. ART's result is
        # checked and projected once (17 halvings); ART itself asks about the point twice, the
        # start and the result. The native engine projects its last and its nearest row.
        more = (ours.queries[0] - 2 * 17) - (theirs.queries[0] - 17 - 1 - 4)
        assert abs(more.mean()) <= 4.5 * more.std() / math.sqrt(_SEEDS) + 0.01


# --- any model --------------------------------------------------------------------------


class Odd:
    """Adversarial in scattered stripes: bisection meets many boundaries."""

    n_classes = 3

    def __init__(self, d: int, seed: int) -> None:
        self.input_shape = (d,)
        self.w = np.random.default_rng(seed).normal(size=d)

    def predict(self, x: np.ndarray) -> np.ndarray:
        score = (x.astype(np.float64) * self.w).sum(axis=-1)
        return (np.floor(9 * score) % 3).astype(np.int64)


@st.composite
def cases(draw, refinement=True):
    """Draws a model, points of which some are mislabelled, labels, settings and seeds."""
    d, seed = draw(st.integers(1, 9)), draw(st.integers(0, 2**20))
    kind = draw(st.sampled_from([Linear, Quantised, Network, Rough, Odd]))
    model = kind(d, seed)
    n, restarts = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    low, high = draw(st.sampled_from([(0.0, 1.0), (0.1, 0.4), (-3.0, 2.0)]))
    random = np.random.default_rng(seed)
    x = random.uniform(np.float32(low), np.float32(high), (n, d)).astype(np.float32)
    x = np.clip(x, np.float32(low), np.float32(high))
    x[random.uniform(size=x.shape) < 0.3] = np.float32(low)
    y = model.predict(x)
    if draw(st.booleans()):
        y[0] = (y[0] + 1) % model.n_classes
    options = {
        "norm": draw(st.sampled_from([2, "inf"])),
        "max_iter": draw(st.integers(1, 6)),
        "init_eval": draw(st.integers(1, 90)),
        "init_size": 80,
        "max_eval": 150,
        "restarts": restarts,
        "start": draw(st.sampled_from(["random", "blended", "outward"])),
        "clip_min": low,
        "clip_max": high,
    }
    if refinement and options["norm"] == 2:
        options["refinement"] = draw(st.sampled_from([0.0, 0.3, 0.5]))
    return model, x, y, options, seeds_for(n, restarts, seed)


@settings(deadline=None, max_examples=120)
@given(case=cases())
def test_rows_stay_in_the_box_are_adversarial_and_counted(case):
    model, x, y, options, seeds = case
    spec = make_spec(**options)
    recorder = Recorder(Fixed(model))
    result = attack(recorder, x, spec, seeds, y=y)
    assert_consistent(result, x, y, model, spec)
    assert result.queries.sum() == recorder.rows
    low, high = spec.box()
    rows = np.concatenate(recorder.batches)
    assert rows.min() >= low
    assert rows.max() <= high
    # Asked in blocks of one shape, the model is asked the same, and the padding is not counted.
    padded = Recorder(model)
    assert_same(attack(padded, x, spec, seeds, y=y), result)
    assert all(len(batch) == BLOCK for batch in padded.batches)
    assert padded.rows >= recorder.rows


@settings(deadline=None, max_examples=60)
@given(
    case=cases(),
    batch_sizes=st.lists(st.sampled_from([1, 7, 64, 100, 2000]), min_size=2, max_size=2),
    fixed=st.booleans(),
    data=st.data(),
)
def test_neither_grouping_nor_order_nor_batches_nor_waves_change_a_bit(
    case, batch_sizes, fixed, data
):
    model, x, y, options, seeds = case
    model = Fixed(model) if fixed else model
    whole = attack(model, x, make_spec(**options, batch_size=batch_sizes[0]), seeds, y=y)
    spec = make_spec(**options, batch_size=batch_sizes[1])
    order = data.draw(st.permutations(range(len(x))))
    cut = data.draw(st.integers(0, len(x)))
    with pytest.MonkeyPatch.context() as patch:
        if data.draw(st.booleans()):
            runs = data.draw(st.integers(0, 3))
            size = 4 * x[0].size * hopskipjump_native._ROWS_PER_RUN * runs
            patch.setattr(hopskipjump_native, "_WAVE_BYTES", size)
        for part in (order[:cut], order[cut:]):
            found = attack(model, x[part], spec, seeds[part], y=y[part])
            if part:
                assert_same(found, chosen_points(whole, part))


@settings(deadline=None, max_examples=60)
@given(case=cases(refinement=False))
def test_a_run_is_the_beginning_of_a_longer_one(case):
    model, x, y, options, seeds = case
    short = attack(model, x, make_spec(**options), seeds, y=y)
    end = options["max_iter"]
    long = attack(model, x, make_spec(**(options | {"max_iter": 2 * end})), seeds, y=y)
    for name in ("queries", "boundary", "iterate"):
        left, right = getattr(short.traces, name), getattr(long.traces, name)
        assert left[..., :end].tobytes() == right[..., :end].tobytes(), name
    assert short.traces.iterate[..., end].tobytes() == long.traces.iterate[..., end].tobytes()
    assert short.init_ok.tobytes() == long.init_ok.tobytes()
    # The bisection at the end only takes off what its tolerance is finer.
    ok = short.init_ok & (short.iterations > 0)
    assert (long.traces.boundary[ok][:, -1] <= long.traces.boundary[ok][:, end]).all()
    if type(model) is Linear:
        theta = 0.01 / (math.sqrt(x.shape[1]) if options["norm"] == 2 else x.shape[1])
        slack = (theta + 1e-5) * long.traces.iterate[ok][:, : end + 1].max(axis=1) + 1e-6
        assert (long.traces.boundary[ok][:, end] <= short.traces.boundary[ok][:, end] + slack).all()
        assert (short.traces.boundary[ok][:, end] <= long.traces.boundary[ok][:, end] + 1e-6).all()


@settings(deadline=None, max_examples=60)
@given(case=cases(refinement=False), refinement=st.sampled_from([0.2, 0.5]))
def test_refinement_starts_from_the_published_iterations_and_is_never_worse(case, refinement):
    model, x, y, options, seeds = case
    options |= {"norm": 2, "max_iter": options["max_iter"] + 2}
    refined = make_spec(**options, refinement=refinement)
    last = refined.max_iter - refined.refinement_iterations()
    assert 1 <= last <= refined.max_iter
    found = attack(model, x, refined, seeds, y=y)
    plain = attack(model, x, make_spec(**(options | {"max_iter": last})), seeds, y=y)
    assert found.x_final_iterate.tobytes() == plain.x_final_iterate.tobytes()
    for name in ("queries", "boundary", "iterate"):
        left, right = getattr(found.traces, name), getattr(plain.traces, name)
        assert left[..., : last + 1].tobytes() == right.tobytes(), name
    ok = found.init_ok
    assert (distances(found.x_adv, x)[ok] <= distances(plain.x_adv, x)[ok]).all()


def test_runs_of_one_point_differ_and_equal_work_is_done_alike():
    model, x = Linear(12), points_in_the_box(12, 1)
    low, high = 5, 5 + 2**40  # differ in the upper half of the seed only
    result = attack(model, x, make_spec(max_iter=3, restarts=3), np.array([[low, high, low]]))
    assert (result.x_adv[0, 0] != result.x_adv[0, 1]).any()
    assert result.x_adv[0, 0].tobytes() == result.x_adv[0, 2].tobytes()


@pytest.mark.parametrize("refinement", [0.0, 0.5])
def test_a_model_whose_labels_depend_on_the_batch_is_asked_in_one_shape(refinement):
    class Shaky(Linear):
        """Rounds otherwise in batches of another size."""

        def predict(self, x):
            return (self.score(x) > 0.01 * (len(x) % 63)).astype(np.int64)

    model, x, seeds = Shaky(12), points_in_the_box(12, 6), seeds_for(6, 2)
    y = model.predict(np.repeat(x, 11, axis=0)[:64])[::11]
    spec = make_spec(max_iter=6, restarts=2, refinement=refinement)
    whole = attack(model, x, spec, seeds, y=y)
    for part in ([0], [5, 2], [1, 3, 4]):
        again = attack(
            model,
            x[part],
            make_spec(max_iter=6, restarts=2, refinement=refinement, batch_size=100),
            seeds[part],
            y=y[part],
        )
        assert_same(again, chosen_points(whole, part))


@pytest.mark.parametrize("refinement", [0.0, 0.5])
def test_the_memory_of_a_wave_is_bounded(refinement, monkeypatch):
    model, x, bound = Fixed(Linear(2000)), points_in_the_box(2000, 300), 2**24
    monkeypatch.setattr(hopskipjump_native, "_WAVE_BYTES", bound)
    spec = make_spec(max_iter=4, init_eval=3, refinement=refinement, batch_size=64)
    seeds, y = seeds_for(300, 1), model.predict(x)
    attack(model, x[:1], spec, seeds[:1], y=y[:1])  # compiles
    tracemalloc.start()
    attack(model, x, spec, seeds, y=y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Beside it: two rows of each finished run, then the same once more as the result; a buffer
    # of noise; what the model of this test computes in.
    results = 4 * x.nbytes
    assert bound / 2 < peak - results < bound + 64 * 2000 * (4 + 3 * 8)


def test_no_points_are_no_result():
    x, seeds = np.empty((0, 3), np.float32), np.empty((0, 1), int)
    result = attack(Linear(3), x, make_spec(), seeds)
    assert result.x_adv.shape == (0, 1, 3)
    assert result.queries.shape == (0, 1)


# --- failures and runs that cannot move -------------------------------------------------


def test_no_start_is_a_failure_and_costs_what_it_asked():
    model, x = Constant(), np.full((2, 5), 0.5, dtype=np.float32)
    model.fixed_shape = True
    spec, y = make_spec(init_size=150, restarts=2), np.zeros(2, int)
    result = attack(model, x, spec, seeds_for(2, 2), y=y)
    assert model.rows == 4 * 151
    assert not result.init_ok.any()
    assert (result.queries == 151).all()
    assert_consistent(result, x, y, model, spec)


def test_a_given_start_that_is_not_adversarial_is_a_failure_of_its_point_alone():
    model, x = Linear(8), points_in_the_box(8, 2)
    start = np.stack([x[0], adversarial_corner(model, x[1])])
    spec = make_spec(start="fixed")
    result = attack(model, x, spec, seeds_for(2, 1), x_start=start)
    assert result.init_ok[:, 0].tolist() == [False, True]
    assert result.queries[0, 0] == 2
    assert_consistent(result, x, model.predict(x), model, spec)
    assert result.traces.iterate[1, 0, 0] == pytest.approx(np.linalg.norm(start[1] - x[1]))


class Point:
    """Class 1 at one row only."""

    n_classes = 2

    def __init__(self, row: np.ndarray) -> None:
        self.row, self.input_shape = row, row.shape

    def predict(self, x: np.ndarray) -> np.ndarray:
        return (x == self.row).all(axis=1).astype(np.int64)


@every_way
def test_a_start_that_no_row_beside_it_shares_its_class_with_is_kept(norm, refinement):
    x = np.random.default_rng(0).uniform(size=(2, 6)).astype(np.float32)
    start = np.random.default_rng(1).uniform(size=(1, 6)).astype(np.float32)
    model = Point(start[0])
    spec = make_spec(norm=norm, refinement=refinement, start="fixed", max_iter=8)
    result = attack(model, x, spec, seeds_for(2, 1), x_start=np.repeat(start, 2, axis=0))
    assert (result.x_adv == start).all()
    assert (result.x_final_iterate == start).all()
    assert_consistent(result, x, np.zeros(2, int), model, spec)
    assert (np.ptp(result.traces.boundary, axis=-1) == 0).all()
    assert (result.queries <= most_queries(spec, 6)).all()


def most_queries(spec, d: int) -> int:
    """Returns a bound on the queries of a run with a given start that does not move."""
    estimates = sum(spec.estimate_size(t) for t in range(spec.max_iter))
    bisection = math.ceil(math.log2(100 * d / spec.projection_tolerance))
    return 2 + estimates + spec.max_iter * (64 + 2 * bisection) + 2 * bisection


class Fading(Linear):
    """Calls every row clean from some query on: no step, no start is adversarial any more."""

    def __init__(self, x: np.ndarray, queries: int) -> None:
        super().__init__(x.shape[1])
        self.clean, self.left = int(super().predict(x)[0]), queries

    def predict(self, x: np.ndarray) -> np.ndarray:
        labels = super().predict(x)
        labels[max(self.left, 0) :] = self.clean
        self.left -= len(x)
        return labels


@every_way
@pytest.mark.parametrize("queries", [128, 700, 3000])
def test_a_run_whose_steps_are_never_adversarial_ends(norm, refinement, queries):
    x = points_in_the_box(10, 1)
    model = Fading(x, queries)
    spec = make_spec(norm=norm, refinement=refinement, start="fixed", max_iter=9)
    honest = Linear(10)
    start = adversarial_corner(honest, x[0])[None]
    result = attack(model, x, spec, seeds_for(1, 1), y=np.array([model.clean]), x_start=start)
    assert result.init_ok.all()
    assert result.queries[0, 0] <= most_queries(spec, 10)
    assert (honest.predict(result.x_adv[0]) != model.clean).all()
    assert np.isfinite(result.traces.boundary).all()


@pytest.mark.parametrize("norm", [2, "inf"])
@pytest.mark.parametrize("init_eval", [1, 30])
def test_perturbations_that_are_all_clipped_away_leave_the_row_where_it_is(norm, init_eval):
    class Corner(Constant):
        input_shape = (1,)

        def predict(self, rows):
            assert np.isfinite(rows).all()
            return (rows[:, 0] >= 1.0).astype(np.int64)

    x, start = np.full((1, 1), 0.25, dtype=np.float32), np.ones((1, 1), dtype=np.float32)
    options = {"norm": norm, "init_eval": init_eval, "max_iter": 20, "restarts": 8}
    spec = make_spec(**options, start="fixed")
    with np.errstate(all="raise"):
        result = attack(Corner(), x, spec, seeds_for(1, 8), y=np.array([0]), x_start=start)
    assert (result.x_adv == 1.0).all()
    assert (result.x_final_iterate == 1.0).all()
    assert (result.traces.boundary == 0.75).all()


@every_way
def test_a_point_within_the_rounding_of_the_boundary(norm, refinement):
    model, x = Linear(5), points_in_the_box(5, 1)
    model.b -= float(model.score(x)[0]) + 1e-9
    spec = make_spec(norm=norm, refinement=refinement, max_iter=12, restarts=4)
    with np.errstate(all="raise", under="ignore"):
        result = attack(model, x, spec, seeds_for(1, 4))
    assert_consistent(result, x, model.predict(x), model, spec)
    assert (distances(result.x_adv, x, norm) > 0).all()
    assert (distances(result.x_adv, x, norm) < 1e-3).all()


@every_way
def test_a_point_outside_the_box_is_attacked_from_inside(norm, refinement):
    model = Linear(6)
    x = np.random.default_rng(1).uniform(-0.5, 1.5, (4, 6)).astype(np.float32)
    spec = make_spec(norm=norm, refinement=refinement, max_iter=10)
    recorder = Recorder(model)
    result = attack(recorder, x, spec, seeds_for(4, 1), y=model.predict(x))
    assert result.init_ok.all()
    assert_consistent(result, x, model.predict(x), model, spec)
    nearest = distances(np.clip(x, 0, 1)[:, None], x, norm)
    assert (nearest > 0).all()
    assert (distances(result.x_adv, x, norm) >= nearest).all()
    rows = np.concatenate(recorder.batches[1:])
    assert rows.min() >= 0
    assert rows.max() <= 1


@pytest.mark.parametrize(
    ("norm", "refinement", "scale"),
    [
        (2, 0.0, 1e-30),
        (2, 0.5, 1e-30),
        ("inf", 0.0, 1e-30),
        (2, 0.0, 1e37),
        (2, 0.5, 1e37),
        ("inf", 0.0, 1.8e38),
    ],
)
def test_a_box_near_the_ends_of_the_range_of_float32(norm, refinement, scale):
    model, x = Linear(6), points_in_the_box(6, 2)

    class Scaled(Linear):
        def predict(self, rows):
            assert np.isfinite(rows).all()
            return super().predict(rows.astype(np.float64) / scale)

    spec = make_spec(norm=norm, refinement=refinement, max_iter=25, clip_min=-scale, clip_max=scale)
    big = (x.astype(np.float64) * scale).astype(np.float32)
    result = attack(Scaled(6), big, spec, seeds_for(2, 1))
    assert result.init_ok.all()
    found = distances(result.x_adv, big, norm) / scale
    true = model.distance(x, dual_norm=2 if norm == 2 else 1)[:, None]
    assert (found >= true * (1 - 1e-5)).all()
    assert (found <= true * 1.1).all()


# --- journal and checkpoint -------------------------------------------------------------


class KilledError(Exception):
    pass


class Killer(Linear):
    """Stops the job after so many calls."""

    fixed_shape = True

    def __init__(self, d: int, calls: float = math.inf) -> None:
        super().__init__(d)
        self.left = calls
        self.rows = 0

    def predict(self, x: np.ndarray) -> np.ndarray:
        self.left -= 1
        if self.left < 0:
            raise KilledError
        self.rows += len(x)
        return super().predict(x)


@pytest.fixture
def work(monkeypatch):
    """Points, labels, settings and seeds of a job that saves its state after every iteration."""
    monkeypatch.setattr(hopskipjump_native, "_CHECKPOINT_SECONDS", 0.0)
    x = points_in_the_box(9, 4)
    y = Linear(9).predict(x)
    y[3] = 1 - y[3]
    spec = make_spec(max_iter=8, restarts=2, refinement=0.4)
    return {"x": x, "y": y, "spec": spec, "seeds": seeds_for(4, 2)}


def part_of(work: dict, chosen: list[int]) -> dict:
    return work | {name: work[name][chosen] for name in ("x", "y", "seeds")}


def largest_iterations(result: AttackResult) -> int:
    """Returns a bound on the queries of an iteration of all runs, trace entries of its both."""
    spent = np.diff(result.traces.queries.sum(axis=(0, 1)), prepend=0)
    return int((spent[1:] + spent[:-1]).max())


def calls_of(work: dict) -> int:
    model = Killer(9, 10**9)
    attack(model, **work)
    return 10**9 - model.left


def test_finished_runs_are_taken_from_the_journal(tmp_path, work):
    undisturbed = attack(Linear(9), **work)
    with Journal(tmp_path / "a.journal", "key") as journal:
        # Some of the work, in another grouping of the points.
        attack(Linear(9), **part_of(work, [3, 1]), journal=journal)
        assert len(journal.finished()) == 4
        recorder, done = Recorder(Fixed(Linear(9))), []
        sink = type("Sink", (), {"update": lambda self, n, note="": done.append(n)})()
        again = attack(recorder, **work, journal=journal, progress=sink)
        assert_same(again, undisturbed)
        assert recorder.rows == undisturbed.queries[[0, 2]].sum()
        # Half of the points were there; the others advance together, by the queries behind them.
        spec = work["spec"]
        sizes = [min(int(spec.init_eval * (t + 1) ** 0.5), spec.max_eval) for t in range(8)]
        assert done == pytest.approx([*(2 + 2 * np.cumsum(sizes) / sum(sizes)), 4])
    with Journal(tmp_path / "a.journal", "key") as journal:
        assert_same(attack(Untouchable(9), **work, journal=journal), undisturbed)


@pytest.mark.parametrize("change", ["x", "y", "seed", "spec", "start"])
def test_a_journal_never_answers_for_other_work(tmp_path, change):
    model, x, seeds = Linear(9), points_in_the_box(9, 1), seeds_for(1, 1)
    start = adversarial_corner(model, x[0])[None]
    first = {
        "x": x,
        "y": model.predict(x),
        "spec": make_spec(max_iter=2, start="fixed"),
        "seeds": seeds,
        "x_start": start,
    }
    second = (
        first
        | {
            "x": {"x": x + np.float32(1e-3)},
            "y": {"y": 1 - first["y"]},
            "seed": {"seeds": seeds + 1},
            "spec": {"spec": make_spec(max_iter=2, start="fixed", targeted=True, target=0)},
            "start": {"x_start": start * np.float32(0.99)},
        }[change]
    )
    with Journal(tmp_path / "a.journal", "key") as journal:
        attack(model, **first, journal=journal)
        found = attack(model, **second, journal=journal)
        assert len(journal.finished()) == 2
    assert_same(found, attack(model, **second))


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.98])
@pytest.mark.parametrize("wave", [2**28, 3 * 4 * 9 * hopskipjump_native._ROWS_PER_RUN])
def test_a_killed_attack_continues_from_its_last_iteration(
    tmp_path, work, share, wave, monkeypatch
):
    monkeypatch.setattr(hopskipjump_native, "_WAVE_BYTES", wave)
    undisturbed, calls = attack(Linear(9), **work), calls_of(work)
    whole = Killer(9)
    attack(whole, **work)
    first, again = Killer(9, int(share * calls)), Killer(9)
    state = tmp_path / "a.state"
    with Journal(tmp_path / "a.journal", "key") as journal:
        with pytest.raises(KilledError):
            attack(first, **work, journal=journal)
        if share > 0.02:
            assert state.exists()
    with Journal(tmp_path / "a.journal", "key") as journal:
        assert_same(attack(again, **work, journal=journal), undisturbed)
        assert not state.exists()
        assert len(journal.finished()) == 8
    if share > 0.02:
        # Asked twice is one iteration at most.
        lost = first.rows + again.rows - whole.rows
        assert 0 <= lost <= largest_iterations(undisturbed)
        assert again.rows < whole.rows


@pytest.mark.parametrize("other", ["runs", "key"])
def test_a_state_of_other_runs_or_another_key_is_not_used(tmp_path, work, other):
    half = calls_of(work) // 2
    with Journal(tmp_path / "a.journal", "key") as journal, pytest.raises(KilledError):
        attack(Killer(9, half), **work, journal=journal)
    assert (tmp_path / "a.state").exists()
    model, alone = Killer(9), Killer(9)
    asked = work | {"seeds": work["seeds"] + 1} if other == "runs" else work
    undisturbed = attack(alone, **asked)
    with Journal(tmp_path / "a.journal", "key" if other == "runs" else "other") as journal:
        assert_same(attack(model, **asked, journal=journal), undisturbed)
    assert not (tmp_path / "a.state").exists()
    assert model.rows == alone.rows


@pytest.mark.parametrize("interrupted", [[2, 0], [0, 1, 2, 3]])
@pytest.mark.parametrize("wanted", [[1, 0], [3, 2, 1, 0]])
def test_the_state_of_shared_runs_is_used_and_the_others_follow(
    tmp_path, work, interrupted, wanted
):
    first, second = part_of(work, interrupted), part_of(work, wanted)
    with Journal(tmp_path / "a.journal", "key") as journal:
        with pytest.raises(KilledError):
            attack(Killer(9, calls_of(first) - 5), **first, journal=journal)
        model, rest = Killer(9), Killer(9)
        undisturbed = attack(Linear(9), **second)
        assert_same(attack(model, **second, journal=journal), undisturbed)
    attack(rest, **part_of(work, [i for i in wanted if i not in interrupted]))
    assert model.rows <= rest.rows + largest_iterations(undisturbed)


def test_an_attack_killed_again_and_again_ends_with_the_same_bytes(tmp_path, work):
    undisturbed, calls = attack(Linear(9), **work), calls_of(work)
    found, kills = None, 0
    while found is None and kills < 20:
        with Journal(tmp_path / "a.journal", "key") as journal:
            try:
                found = attack(Killer(9, calls // 2), **work, journal=journal)
            except KilledError:
                kills += 1
    assert 2 <= kills <= 5
    assert_same(found, undisturbed)


def test_an_attack_killed_while_it_writes_its_journal_keeps_the_state_of_the_rest(
    tmp_path, work, monkeypatch
):
    undisturbed, append = attack(Linear(9), **work), Journal.append

    def append_some(self, name, arrays):
        if len(self.finished()) == 5:  # two of the misclassified point, three of the others
            raise KilledError
        append(self, name, arrays)

    with Journal(tmp_path / "a.journal", "key") as journal:
        with monkeypatch.context() as patch, pytest.raises(KilledError):
            patch.setattr(Journal, "append", append_some)
            attack(Linear(9), **work, journal=journal)
        assert len(journal.finished()) == 5
        # All iterations are behind the three runs that are left: nothing is asked again.
        assert_same(attack(Untouchable(9), **work, journal=journal), undisturbed)


def test_states_are_kept_at_intervals_only(tmp_path, work, monkeypatch):
    monkeypatch.setattr(hopskipjump_native, "_CHECKPOINT_SECONDS", 1e6)
    with Journal(tmp_path / "a.journal", "key") as journal, pytest.raises(KilledError):
        attack(Killer(9, calls_of(work) - 1), **work, journal=journal)
    assert not (tmp_path / "a.state").exists()


def test_a_job_killed_in_an_attack_ends_with_the_same_bytes(tmp_path, work):
    journal = tmp_path / "a.journal"
    program = textwrap.dedent("""
        import os, signal, sys
        sys.path[:0] = sys.argv[2:]
        from tests.unit.attacks.test_hopskipjump_native import *

        class Killer(Linear):
            rows = 0
            def predict(self, x):
                self.rows += len(x)
                if self.rows > 6000:
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().predict(x)

        hopskipjump_native._CHECKPOINT_SECONDS = 0.0
        x = points_in_the_box(9, 4)
        y = Linear(9).predict(x)
        y[3] = 1 - y[3]
        spec = make_spec(max_iter=8, restarts=2, refinement=0.4)
        with Journal(sys.argv[1], "key") as journal:
            attack(Killer(9), x, spec, seeds_for(4, 2), y=y, journal=journal)
    """)
    paths = [str(journal), str(SCRIPTS), str(ROOT), str(Path(__file__).parent)]
    killed = subprocess.run([sys.executable, "-c", program, *paths], check=False)
    assert killed.returncode == -9
    assert (tmp_path / "a.state").exists()
    model, alone = Killer(9), Killer(9)
    with Journal(journal, "key") as again:
        assert len(again.finished()) == 2
        result = attack(model, **work, journal=again)
    assert_same(result, attack(alone, **work))
    assert model.rows < alone.rows - 3000
