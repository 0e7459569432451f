"""HopSkipJump by ART against models whose distances are known in closed form."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.attacks import run_attack
from medrobust.attacks.engine import hopskipjump_art
from medrobust.core.errors import InputError
from medrobust.core.logs import logger
from medrobust.core.registry import parse_spec
from medrobust.runtime.journal import Journal
from pydantic import ValidationError

from tests.attack_models import (
    Ball,
    Constant,
    Linear,
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


@pytest.fixture(autouse=True)
def _messages_reach_caplog(monkeypatch):
    monkeypatch.setattr(logger, "propagate", True)


make_spec = partial(any_spec, engine="art")


# --- analytic distances -----------------------------------------------------------------


@pytest.mark.parametrize(("d", "iterations", "most"), [(20, 30, 1.01), (187, 40, 1.03)])
def test_distance_to_a_plane(d, iterations, most):
    model, x = Linear(d), points_in_the_box(d, 2)
    result = attack(model, x, make_spec(max_iter=iterations, restarts=2), seeds_for(2, 2))
    true = model.distance(x)[:, None]
    ratio = distances(result.x_adv, x) / true
    # float32 storage can move a point across the plane by its rounding, about 1e-7 per entry.
    assert (ratio >= 1 - 1e-5).all()
    assert (ratio <= most).all()
    # What the projection removes: ART's own result lies clearly off the boundary.
    assert (distances(result.x_final_iterate, x) / true > 1.05).all()
    assert (model.predict(result.x_adv.reshape(-1, d)) != np.repeat(model.predict(x), 2)).all()
    assert result.init_ok.all()
    assert (result.iterations == iterations).all()
    assert (result.gradient_evaluations == 0).all()


def test_distance_to_a_plane_in_the_maximum_norm():
    model, x = Linear(20), points_in_the_box(20, 1)
    result = attack(model, x, make_spec(norm="inf", max_iter=60), seeds_for(1, 1))
    true = model.distance(x, dual_norm=1)
    linf = np.abs(result.x_adv[0, 0].astype(np.float64) - x[0]).max()
    assert 1 - 1e-5 <= linf / true[0] <= 1.05


def test_distance_to_a_sphere_with_three_classes_and_image_shape():
    model = Ball()
    x = np.full((1, *model.input_shape), 0.5, dtype=np.float32)
    x[0, 0, 0, 1] += 0.2
    result = attack(model, x, make_spec(max_iter=40), seeds_for(1, 1))
    assert (
        model.radius - 0.2 - 1e-6 <= distances(result.x_adv, x)[0, 0] <= 1.02 * (model.radius - 0.2)
    )


@settings(deadline=None, max_examples=15)
@given(
    d=st.integers(2, 12),
    model_seed=st.integers(0, 2**20),
    root=st.integers(0, 2**20),
    norm=st.sampled_from([2, "inf"]),
)
def test_any_plane(d, model_seed, root, norm):
    model, x = Linear(d, model_seed), points_in_the_box(d, 1, model_seed)
    recorder = Recorder(model)
    spec = make_spec(max_iter=5, init_eval=20, max_eval=50, norm=norm)
    result = attack(recorder, x, spec, seeds_for(1, 1, root), y=model.predict(x))
    assert result.queries[0, 0] == recorder.rows
    # The clip box holds for every row that the model saw, and for what is returned.
    everything = np.concatenate([*recorder.batches, x])
    assert everything.min() >= 0
    assert everything.max() <= 1
    if not result.init_ok[0, 0]:
        assert np.isnan(result.x_adv).all()
        return
    assert model.predict(result.x_adv[0])[0] != model.predict(x)[0]
    assert (result.x_adv >= 0).all()
    assert (result.x_adv <= 1).all()
    found, final = distances(result.x_adv, x)[0, 0], distances(result.x_final_iterate, x)[0, 0]
    rounding = 1e-6  # of twelve float32 numbers below 1, with room
    assert model.distance(x)[0] - rounding <= found <= final + rounding
    # On the boundary: a step back by the tolerance is not adversarial any more.
    back = (spec.projection_tolerance * final + rounding) / found
    row = x[0] + (1 - back) * (result.x_adv[0, 0].astype(np.float64) - x[0])
    assert model.score(row) * model.score(result.x_adv[0, 0]) <= 0


def test_the_box_is_kept_in_float32_where_its_ends_are_not_float32_numbers():
    model = Linear(6)
    x = np.array([[0.11, 0.11, 0.11, 0.39, 0.39, 0.39]], dtype=np.float32)
    model.b = -float(model.w @ x[0]) + 0.02
    spec = make_spec(clip_min=0.1, clip_max=0.4, max_iter=5)
    recorder = Recorder(model)
    result = attack(recorder, x, spec, seeds_for(1, 1), y=model.predict(x))
    rows = np.concatenate([*recorder.batches, result.x_adv[0], result.x_final_iterate[0]])
    assert rows.min() >= np.float32(0.1)
    assert rows.max() <= np.float32(0.4)
    # The box was reached, so there was something to keep.
    assert rows.min() == np.float32(0.1)
    assert rows.max() == np.float32(0.4)


# --- seeds, batches ---------------------------------------------------------------------


@settings(deadline=None, max_examples=8)
@given(
    chosen=st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True),
    batch_size=st.sampled_from([7, 1024]),
)
def test_a_result_depends_on_its_own_point_and_seed_alone(chosen, batch_size):
    model, x, seeds = Linear(12), points_in_the_box(12, 4), seeds_for(4, 2)
    spec = make_spec(max_iter=4, restarts=2)
    whole = attack(model, x, spec, seeds)
    np.random.seed(len(chosen))  # the global generator's state must not matter
    part = attack(
        model, x[chosen], make_spec(max_iter=4, restarts=2, batch_size=batch_size), seeds[chosen]
    )
    assert_same(part, chosen_points(whole, chosen))


def test_another_seed_gives_another_result_and_the_global_generator_is_restored():
    model, x = Linear(12), points_in_the_box(12, 1)
    np.random.seed(3)
    expected = np.random.random(3)
    np.random.seed(3)
    low, high = 5, 5 + 2**40  # differ in the upper half of the seed only
    result = attack(model, x, make_spec(max_iter=3, restarts=2), np.array([[low, high]]))
    assert (np.random.random(3) == expected).all()
    assert (result.x_adv[0, 0] != result.x_adv[0, 1]).any()


def test_the_upper_half_of_the_seed_reaches_art():
    model, x = Linear(12), points_in_the_box(12, 1)
    start = adversarial_corner(model, x[0])[None]
    spec = make_spec(max_iter=3, restarts=2, start="fixed")
    result = attack(model, x, spec, np.array([[5, 5 + 2**40]]), x_start=start)
    assert (result.x_final_iterate[0, 0] != result.x_final_iterate[0, 1]).any()


@pytest.mark.parametrize("norm", [2, "inf"])
def test_equals_art_called_directly(norm):
    from art.attacks.evasion import HopSkipJump
    from art.estimators.classification import BlackBoxClassifier

    model, x, seed = Linear(30), points_in_the_box(30, 1), 2**50 + 17
    start = adversarial_corner(model, x[0])[None]
    spec = make_spec(max_iter=12, start="fixed", norm=norm)
    ours = attack(model, x, spec, np.array([[seed]]), x_start=start)

    counted = Recorder(model)
    classifier = BlackBoxClassifier(
        lambda rows: np.eye(2, dtype=np.float32)[counted.predict(rows.astype(np.float32))],
        (30,),
        2,
        clip_values=(0.0, 1.0),
    )
    bare = HopSkipJump(classifier, norm=norm, max_iter=12, batch_size=1024, verbose=False)
    np.random.seed([seed % 2**32, seed // 2**32])
    theirs = bare.generate(x.copy(), x_adv_init=start.copy())
    assert ours.x_final_iterate[0].tobytes() == theirs.tobytes()
    assert ours.iterations[0, 0] == bare.curr_iter
    # Ours on top: the clean check, the start, the final check and the bisection (17 halvings
    # of 1 down to 1e-5). Theirs on top: the clean point once more, for its own label.
    assert ours.queries[0, 0] == counted.rows - 1 + 3 + 17


def test_the_start_is_the_first_adversarial_draw():
    x, spec = np.full((1, 5), 0.5, dtype=np.float32), make_spec(max_iter=1)

    class Rare(Constant):
        """Class 1 where the first coordinate exceeds 0.99: about one draw in a hundred."""

        def predict(self, rows):
            return (rows[:, 0] > 0.99).astype(np.int64)

    recorder = Recorder(Rare())
    result = attack(recorder, x, spec, np.array([[77]]), y=np.array([0]))
    blocks = [batch for batch in recorder.batches[1:] if len(batch) == 64]
    hits = [np.flatnonzero(block[:, 0] > 0.99) for block in blocks]
    block = next(i for i, hit in enumerate(hits) if len(hit))
    start = blocks[block][hits[block][0]]
    assert block > 0  # the search went beyond one block
    assert (recorder.batches[1 + block + 1 + 1] == start).all()  # ART: the point, then the start
    assert result.init_ok[0, 0]


# --- failures and censoring -------------------------------------------------------------


def test_no_start_is_a_failure_and_costs_what_it_asked():
    model, x = Constant(), np.full((2, 5), 0.5, dtype=np.float32)
    result = attack(
        model, x, make_spec(init_size=150, restarts=2), seeds_for(2, 2), y=np.zeros(2, int)
    )
    assert not result.init_ok.any()
    assert np.isnan(result.x_adv).all()
    assert np.isnan(result.x_final_iterate).all()
    assert (result.queries == 151).all()
    assert (result.iterations == 0).all()
    assert model.rows == 4 * 151


def test_a_given_start_that_is_not_adversarial_is_a_failure():
    model, x = Linear(8), points_in_the_box(8, 1)
    result = attack(model, x, make_spec(start="fixed"), seeds_for(1, 1), x_start=x.copy())
    assert not result.init_ok[0, 0]
    assert np.isnan(result.x_adv).all()
    assert result.queries[0, 0] == 2


def test_a_misclassified_point_is_its_own_adversarial_point_after_one_query():
    model, x = Linear(8), points_in_the_box(8, 2)
    y = model.predict(x)
    y[1] = 1 - y[1]
    result = attack(model, x, make_spec(max_iter=2), seeds_for(2, 1), y=y)
    assert result.x_adv[1, 0].tobytes() == x[1].tobytes()
    assert result.x_final_iterate[1, 0].tobytes() == x[1].tobytes()
    assert (result.queries[1, 0], result.iterations[1, 0]) == (1, 0)
    assert result.init_ok[1, 0]
    assert result.queries[0, 0] > 1
    assert (result.x_adv[0, 0] != x[0]).any()


class Vanishing(Linear):
    """Has no adversarial region for a while: ART's `while not success` would never end.

    From the single query number ``first`` on, every row is called clean, until ``misses``
    single queries in a row have been told so.
    """

    def __init__(self, d: int, x: np.ndarray, first: int, misses: float = np.inf) -> None:
        super().__init__(d)
        self.clean = int(super().predict(x[None])[0])
        self.first, self.misses = first, misses
        self.singles = self.missed = 0

    def predict(self, x: np.ndarray) -> np.ndarray:
        labels = super().predict(x)
        if len(x) > 1:
            return labels
        self.singles += 1
        if self.singles >= self.first and self.missed < self.misses:
            labels[:] = self.clean
        if self.missed < self.misses:
            self.missed = self.missed + 1 if labels[0] == self.clean else 0
        return labels


@pytest.mark.parametrize("first", [3, 4, 20, 60])
def test_a_run_that_would_never_end_is_stopped_and_censored(first, caplog):
    x, spec = points_in_the_box(10, 1), make_spec()
    model = Vanishing(10, x[0], first)
    result = attack(model, x, spec, seeds_for(1, 1), y=np.array([model.clean]))
    assert "was stopped in iteration" in caplog.text
    assert "misses in a row" in caplog.text
    assert np.isnan(result.x_adv).all()
    assert np.isnan(result.x_final_iterate).all()
    assert result.init_ok[0, 0]
    assert result.iterations[0, 0] < 10
    # It ends soon after: at most 9 search steps and 64 halvings, and a row or two around.
    assert model.singles <= first + 9 + 64 + 3


def test_a_stopped_run_falls_back_on_the_closest_adversarial_point(caplog):
    x, spec = points_in_the_box(10, 1), make_spec()
    misses = hopskipjump_art._Limits.of(spec, x[0]).misses + 1
    model = Vanishing(10, x[0], 60, misses)
    recorder = Recorder(model)
    result = attack(recorder, x, spec, seeds_for(1, 1), y=np.array([model.clean]))
    assert f"{misses} misses in a row" in caplog.text
    honest = Linear(10)
    assert honest.predict(result.x_adv[0])[0] != model.clean
    # Of the single rows that were called adversarial before the model changed, the closest.
    singles = [batch[0] for batch in recorder.batches if len(batch) == 1][:59]
    seen = [row for row in singles if honest.predict(row[None])[0] != model.clean]
    closest = min(seen, key=lambda row: np.linalg.norm(row - x[0]))
    assert result.x_final_iterate[0, 0].tobytes() == closest.tobytes()
    assert distances(result.x_adv, x)[0, 0] <= distances(result.x_final_iterate, x)[0, 0]


def test_all_queries_of_a_run_are_bounded(monkeypatch, caplog):
    model, x = Linear(10), points_in_the_box(10, 1)
    bound = hopskipjump_art._Limits(rows=300, misses=10**6)
    monkeypatch.setattr(hopskipjump_art._Limits, "of", classmethod(lambda *_: bound))
    result = attack(model, x, make_spec(), seeds_for(1, 1))
    assert "more than 300 queries" in caplog.text
    # Also: the clean check, one block of starts, the check of the fallback, its projection.
    assert result.queries[0, 0] <= 300 + 1 + 64 + 1 + 17
    assert model.predict(result.x_adv[0])[0] != model.predict(x)[0]


@pytest.mark.parametrize("norm", [2, "inf"])
@pytest.mark.parametrize("d", [1, 5, 187])
def test_the_bounds_never_stop_a_run_that_ends_by_itself(norm, d, caplog):
    model, x = Linear(d, seed=4), points_in_the_box(d, 1)
    model.b = -float(model.w @ x[0]) + 0.05
    spec = make_spec(norm=norm, max_iter=8, clip_min=-3.0, clip_max=4.0)
    recorder = Recorder(model)
    result = attack(recorder, x, spec, seeds_for(1, 1), y=model.predict(x))
    assert "stopped" not in caplog.text
    assert result.iterations[0, 0] == 8
    limits = hopskipjump_art._Limits.of(spec, x[0])
    estimates = sum(int(100 * np.sqrt(t)) for t in range(1, 9))
    assert estimates < limits.rows <= estimates + 8 * (64 + 25) + 8


def test_not_a_number_inside_art_is_never_distance_zero(caplog):
    # One dimension, one noise row: at a corner of the box all noise is clipped away, so ART
    # divides zero by zero. Bare ART then gives the point back unchanged: distance 0.
    class Corner(Constant):
        input_shape = (1,)

        def predict(self, rows):
            assert np.isfinite(rows).all()
            return (rows[:, 0] >= 1.0).astype(np.int64)

    x, start = np.full((1, 1), 0.25, dtype=np.float32), np.ones((1, 1), dtype=np.float32)
    spec = make_spec(init_eval=1, start="fixed", max_iter=20, restarts=8)
    with np.errstate(all="raise"):
        result = attack(Corner(), x, spec, seeds_for(1, 8), y=np.array([0]), x_start=start)
    assert "not finite" in caplog.text
    assert (result.x_adv == 1.0).all()
    assert (result.x_final_iterate == 1.0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_point_that_is_not_finite_is_refused(bad):
    model, x = Linear(4), points_in_the_box(4, 3)
    x[1, 2] = bad
    with pytest.raises(InputError, match=r"NaN or infinite(.|\n)*row\(s\) 1"):
        attack(model, x, make_spec(), seeds_for(3, 1), y=np.zeros(3, dtype=int))


# --- journal ----------------------------------------------------------------------------


def test_finished_units_are_taken_from_the_journal(tmp_path):
    model, x, seeds = Linear(9), points_in_the_box(9, 3), seeds_for(3, 2)
    y = model.predict(x)
    y[2] = 1 - y[2]
    spec = make_spec(max_iter=3, restarts=2)
    undisturbed = attack(model, x, spec, seeds, y=y)
    with Journal(tmp_path / "a.journal", "key") as journal:
        # Half of the work, in another grouping of the points.
        attack(model, x[[1]], spec, seeds[[1]], y=y[[1]], journal=journal)
        assert len(journal.finished()) == 2
        recorder, done = Recorder(model), []
        sink = type("Sink", (), {"update": lambda self, n, note="": done.append(n)})()
        again = attack(recorder, x, spec, seeds, y=y, journal=journal, progress=sink)
        assert_same(again, undisturbed)
        assert recorder.rows == undisturbed.queries[[0, 2]].sum()
        assert done == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]  # points, of two runs each
    with Journal(tmp_path / "a.journal", "key") as journal:
        assert_same(attack(Untouchable(9), x, spec, seeds, y=y, journal=journal), undisturbed)


@pytest.mark.parametrize("change", ["x", "y", "seed", "spec", "start"])
def test_a_journal_never_answers_for_other_work(tmp_path, change):
    model, x, seeds = Linear(9), points_in_the_box(9, 1), seeds_for(1, 1)
    start = adversarial_corner(model, x[0])[None]
    spec, y = make_spec(max_iter=2, start="fixed"), model.predict(x)
    with Journal(tmp_path / "a.journal", "key") as journal:
        attack(model, x, spec, seeds, y=y, x_start=start, journal=journal)
        x2, y2, seeds2, spec2, start2 = x.copy(), y.copy(), seeds.copy(), spec, start.copy()
        if change == "x":
            x2[0, 0] += 1e-3
        elif change == "y":
            y2 = 1 - y
        elif change == "seed":
            seeds2 += 1
        elif change == "spec":
            spec2 = make_spec(max_iter=3, start="fixed")
        else:
            start2 = start * np.float32(0.99)
        second = attack(model, x2, spec2, seeds2, y=y2, x_start=start2, journal=journal)
        assert len(journal.finished()) == 2
    assert_same(second, attack(model, x2, spec2, seeds2, y=y2, x_start=start2))


def test_a_job_killed_in_an_attack_ends_with_the_same_bytes(tmp_path):
    journal = tmp_path / "a.journal"
    program = textwrap.dedent("""
        import os, signal, sys
        sys.path[:0] = sys.argv[2:]
        from medrobust.runtime.journal import Journal
        from tests.unit.attacks.test_hopskipjump_art import *

        class Killer(Linear):
            rows = 0
            def predict(self, x):
                self.rows += len(x)
                if self.rows > 6000:
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().predict(x)

        model, x = Killer(9), points_in_the_box(9, 3)
        with Journal(sys.argv[1], "key") as journal:
            y = Linear(9).predict(x)
            attack(model, x, make_spec(restarts=2), seeds_for(3, 2), y=y, journal=journal)
    """)
    paths = [str(journal), str(SCRIPTS), str(ROOT), str(Path(__file__).parent)]
    killed = subprocess.run([sys.executable, "-c", program, *paths], check=False)
    assert killed.returncode == -9
    model, x = Linear(9), points_in_the_box(9, 3)
    with Journal(journal, "key") as again:
        finished = len(again.finished())
        assert 0 < finished < 6
        result = attack(model, x, make_spec(restarts=2), seeds_for(3, 2), journal=again)
    assert_same(result, attack(model, x, make_spec(restarts=2), seeds_for(3, 2)))


# --- what is refused --------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"max_iter": 0},
        {"max_iter": -1},
        {"max_iter": 1.5},
        {"restarts": 0},
        {"init_size": 0},
        {"init_eval": 200, "max_eval": 100},
        {"clip_min": 1.0, "clip_max": 1.0},
        {"clip_min": 1.0, "clip_max": 1.0 + 1e-12},
        {"clip_max": float("inf")},
        {"clip_max": 1e300},
        {"norm": 1},
        {"engine": "foolbox"},
        {"targeted": True},
        {"start": "elsewhere"},
        {"projection_tolerance": 0.0},
        {"unknown": 1},
    ],
)
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValidationError):
        make_spec(**options)


def test_settings_from_a_configuration_leave_the_box_open():
    options = {"name": "hopskipjump", "engine": "art", "norm": 2, "max_iter": 3, "restarts": 1}
    spec = parse_spec("attack", options, file="study.yaml", prefix="attacks.a")
    model, x = Linear(6), points_in_the_box(6, 1)
    with pytest.raises(InputError, match="open end"):
        attack(model, x, spec, seeds_for(1, 1))


def test_wrong_arrays_are_refused():
    model, x, seeds, spec = Linear(6), points_in_the_box(6, 2), seeds_for(2, 1), make_spec()
    cases = [
        ({"x": x.astype(np.float64)}, "type float32"),
        ({"x": x[:, :5]}, "expected shape"),
        ({"y": np.array([0, 2])}, "2 classes"),
        ({"y": np.array([0.0, 1.0])}, "integers"),
        ({"y": np.array([0])}, "integers"),
        ({"seeds": seeds[:1]}, "seeds have shape"),
        ({"seeds": -seeds}, r"\[0, 2\*\*63\)"),
        ({"seeds": np.repeat(seeds, 3, axis=1)}, "3 restarts"),
        ({"spec": object()}, "settings given"),
        ({"name": "hopskipjumb"}, "Did you mean 'hopskipjump'"),
        ({"x_start": x}, "draws its own"),
        ({"spec": make_spec(start="fixed")}, "needs a starting point"),
        ({"spec": make_spec(start="fixed"), "x_start": x[:1]}, "starting points have shape"),
        ({"spec": make_spec(start="fixed"), "x_start": x + 1}, "outside the clip box"),
    ]
    call = {"name": "hopskipjump", "model": model, "x": x, "y": model.predict(x)}
    for changed, message in cases:
        with pytest.raises(InputError, match=message):
            run_attack(**(call | {"spec": spec, "seeds": seeds} | changed))


def test_a_model_that_answers_in_another_shape_is_refused():
    class Broken(Linear):
        def predict(self, x):
            return super().predict(x)[:, None]

    x = points_in_the_box(6, 1)
    with pytest.raises(InputError, match="labels of shape"):
        attack(Broken(6), x, make_spec(), seeds_for(1, 1), y=np.array([0]))


def test_reading_settings_imports_nothing_heavy():
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from medrobust.core.registry import parse_spec\n"
        "parse_spec('attack', {'name': 'hopskipjump'}, file='f', prefix='p')\n"
        "print(sorted({'art', 'torch', 'pandas', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(SCRIPTS)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
