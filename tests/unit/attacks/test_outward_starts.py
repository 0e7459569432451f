"""Starts searched outwards: the nearest of all rows asked about, counted, in any group."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.attacks.engine import outward_search, starts
from medrobust.attacks.engine.outward_search import Effort, nearest_on_lines
from medrobust.attacks.engine.starts import find_starts, line_ends
from scipy import stats

from tests.attack_models import (
    Ball,
    Constant,
    Linear,
    Planes,
    Recorder,
    assert_same,
    attack,
    chosen_points,
    distances,
    make_spec,
    points_in_the_box,
    seeds_for,
)
from tests.start_oracles import ORACLES, Balls, Checkerboard, Polytope

BOX = np.float32(0), np.float32(1)


# --- exact distances --------------------------------------------------------------------


def ratios(model, x, spec, restarts: int = 1) -> np.ndarray:
    """Returns found by exact distance, ``[n, restarts]``."""
    result = attack(model, x, spec, seeds_for(len(x), restarts))
    assert result.init_ok.all()
    return distances(result.x_adv, x) / model.distance(x)[:, None]


@pytest.mark.parametrize(
    ("name", "most_median", "most"),
    [
        ("polytope, 12 faces, d = 2", 1.01, 1.5),
        ("polytope, 30 faces, d = 10", 1.05, 2.0),
        ("8 balls, d = 2", 1.01, 1.5),
        ("8 balls, d = 5", 1.01, 2.0),
        ("checkerboard of 8 x 8, 0.001 from an edge", 1.01, 1.05),
    ],
)
def test_one_restart_ends_at_the_nearest_of_several_ways_out(name, most_median, most):
    model, spec = ORACLES[name], make_spec(start="outward", max_iter=25)
    found = ratios(model, model.points(10, 3), spec)
    assert found.min() >= 1 - 1e-6
    assert np.median(found) <= most_median
    assert found.max() <= most


@pytest.mark.parametrize(("d", "gap"), [(2, 1e-2), (2, 1e-3), (2, 1e-4), (20, 1e-3), (20, 1e-4)])
def test_at_the_edge_of_a_checkerboard_however_near(d, gap):
    """Where Foolbox's start ends 2.6 times too far, and a random one hundreds of times."""
    model = Checkerboard(d, 8, gap)
    x = model.points(6, 5)
    found = ratios(model, x, make_spec(start="outward", max_iter=10))
    # float32 moves a coordinate by up to 6e-8.
    assert found.min() >= 1 - 1e-7 / gap
    assert found.max() <= 1.1
    if d == 2:
        assert np.median(ratios(model, x, make_spec(start="random", max_iter=10))) > 2.6


def test_the_start_alone_is_near():
    """Before any iteration: what the trace shows first is the start, bisected."""
    model = Checkerboard(2, 8, 1e-3)
    x = model.points(8, 1)
    result = attack(model, x, make_spec(start="outward", max_iter=1), seeds_for(8, 1))
    start = result.traces.boundary[:, 0, 0] / model.distance(x)
    assert start.min() >= 1
    assert start.max() < 2.6


@pytest.mark.parametrize("d", [20, 50])
def test_where_there_is_one_way_out_it_is_found_as_before(d):
    model, x = Linear(d), points_in_the_box(d, 4)
    found = ratios(model, x, make_spec(start="outward", max_iter=30))
    assert found.min() >= 1 - 1e-5
    assert found.max() <= 1.02


def test_in_the_maximum_norm_too():
    model = Checkerboard(3, 8, 1e-3)
    x = model.points(6, 2)
    spec = make_spec(start="outward", norm="inf", max_iter=10)
    result = attack(model, x, spec, seeds_for(6, 1))
    found = distances(result.x_adv, x, "inf")[:, 0] / model.distance(x)
    assert found.min() >= 1 - 1e-4
    assert found.max() <= 1.1


def test_a_targeted_start_belongs_to_the_target():
    """Class 1 is nearer, class 2 is asked for."""
    model = Planes([[1.0, 0.0], [-1.0, 0.0]], [-0.6, 0.2])
    x = np.array([[0.5, 0.5]], dtype=np.float32)
    for target, distance in ((1, 0.1), (2, 0.3)):
        spec = make_spec(start="outward", targeted=True, target=target, max_iter=8)
        result = attack(model, x, spec, seeds_for(1, 1))
        assert model.predict(result.x_adv[0])[0] == target
        assert distances(result.x_adv, x)[0, 0] == pytest.approx(distance, rel=1e-3)


def test_by_art_as_well():
    model = Checkerboard(2, 8, 1e-3)
    x = model.points(4, 4)
    found = ratios(model, x, make_spec(engine="art", start="outward", max_iter=5))
    assert found.min() >= 1 - 1e-4
    assert found.max() <= 2.6


def test_both_engines_begin_at_the_same_start():
    model, seeds = Polytope(6, 20, 1), seeds_for(3, 1)
    x = model.points(3, 0)
    asked = []
    for engine in ("native", "art"):
        recorder = Recorder(model)
        spec = make_spec(engine=engine, start="outward", init_size=100, max_iter=1)
        attack(recorder, x[:1], spec, seeds[:1], y=np.array([0]))
        rows = np.concatenate(recorder.batches)
        asked.append(rows[: 1 + 10 * Effort.within(100).distances // 2])
    assert (asked[0] == asked[1]).all()


# --- the search -------------------------------------------------------------------------


@st.composite
def searches(draw):
    """Draws a model, points of class 0, lines, effort and norm."""
    d, seed = draw(st.integers(1, 6)), draw(st.integers(0, 2**20))
    model = draw(
        st.sampled_from(
            [
                Linear(d, seed),
                Polytope(d, 9, seed),
                Balls(d, 5, seed, (0.05, 0.3)),
                Checkerboard(d, draw(st.integers(2, 40)), 0.01),
            ]
        )
    )
    random = np.random.default_rng(seed)
    x = random.uniform(0, 1, (200, d)).astype(np.float32)
    x = x[model.predict(x) == 0][: draw(st.integers(1, 4))]
    ends = random.uniform(0, 1, (len(x), draw(st.integers(1, 6)), d)).astype(np.float32)
    # Lines of no length, and several to one end.
    ends[random.uniform(size=ends.shape[:2]) < 0.1] = 0.25
    if len(x):
        ends[0, 0] = x[0]
    effort = Effort(ends.shape[1], draw(st.integers(1, 12)), draw(st.integers(0, 5)))
    return model, x, ends, effort, draw(st.sampled_from([2, "inf"]))


@settings(deadline=None, max_examples=200)
@given(case=searches())
def test_a_start_is_the_nearest_adversarial_row_of_all_that_were_asked(case):
    model, x, ends, effort, norm = case
    if not len(x):
        return
    asked: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def asks(rows, runs):
        assert rows.dtype == np.float32
        assert (np.diff(runs) >= 0).all()
        hit = model.predict(rows) == 1
        asked.append((rows, runs, hit))
        return hit

    found, nearest = nearest_on_lines(x, ends, effort, norm, BOX, asks)
    rows, runs, hit = (
        np.concatenate([one[k] for one in asked]) if asked else np.empty((0, *x.shape[1:]))
        for k in range(3)
    )
    for run in range(len(x)):
        mine, adversarial = rows[runs == run], hit[runs == run].astype(bool)
        assert len(mine) <= effort.lines * (effort.distances + effort.halvings)
        assert found[run] == adversarial.any()
        if not found[run]:
            assert (nearest[run] == x[run]).all()
            # Every line of some length was asked to its end.
            for end in ends[run]:
                assert (end == x[run]).all() or np.isclose(mine, end, atol=1e-6).all(axis=1).any()
            continue
        assert model.predict(nearest[[run]])[0] == 1
        assert (mine[adversarial] == nearest[run]).all(axis=1).any()
        order = 2 if norm == 2 else np.inf
        away = np.linalg.norm(mine.astype(np.float64) - x[run], order, axis=1)
        best = np.linalg.norm(nearest[run].astype(np.float64) - x[run], order)
        assert best <= away[adversarial].min() + 1e-6
        # Rows lie on the lines of their own run, within the box.
        assert mine.min() >= 0 and mine.max() <= 1
        line = ends[run].astype(np.float64) - x[run]
        length = np.linalg.norm(line, axis=1)
        units = line[length > 0] / length[length > 0, None]
        moved = mine.astype(np.float64) - x[run]
        part = np.einsum("kd,ld->kl", moved, units)
        off = np.linalg.norm(moved[:, None] - part[..., None] * units, axis=2)
        assert (np.where(part > -1e-6, off, np.inf).min(axis=1) < 1e-5).all()


@settings(deadline=None, max_examples=40)
@given(case=searches(), data=st.data())
def test_a_run_is_searched_as_if_it_were_alone(case, data):
    model, x, ends, effort, norm = case
    if not len(x):
        return

    def asks(rows, _):
        return model.predict(rows) == 1

    found, nearest = nearest_on_lines(x, ends, effort, norm, BOX, asks)
    run = data.draw(st.integers(0, len(x) - 1))
    alone = nearest_on_lines(x[[run]], ends[[run]], effort, norm, BOX, asks)
    assert alone[0][0] == found[run]
    assert alone[1][0].tobytes() == nearest[run].tobytes()


def test_a_near_region_is_found_before_a_far_one_on_the_same_line():
    """A plain bisection of the line [0, 1] from its end would stop at 0.9."""

    def asks(rows, _):
        return ((rows[:, 0] > 0.2) & (rows[:, 0] < 0.45)) | (rows[:, 0] > 0.9)

    x, end = np.zeros((1, 1), dtype=np.float32), np.ones((1, 1, 1), dtype=np.float32)
    found, nearest = nearest_on_lines(x, end, Effort(1, 27, 5), 2, BOX, asks)
    assert found[0]
    assert 0.2 < nearest[0, 0] < 0.45


def test_lines_are_halved_together_to_the_nearest():
    """Three ways at 0.50, 0.55 and 0.60, all within one of the distances."""
    ways = np.array([0.60, 0.50, 0.55])

    def asks(rows, _):
        return (rows > ways.astype(np.float32)).any(axis=1)

    x, ends = np.zeros((1, 3), dtype=np.float32), np.eye(3, dtype=np.float32)[None]
    _, coarse = nearest_on_lines(x, ends, Effort(3, 2, 0), 2, BOX, asks)
    assert coarse.max() == 1
    _, fine = nearest_on_lines(x, ends, Effort(3, 2, 5), 2, BOX, asks)
    assert np.flatnonzero(fine[0]) == [1]
    assert 0.5 < fine.max() < 0.55


def test_an_effort_spends_at_most_its_queries():
    for queries in range(1, 3000):
        effort = Effort.within(queries)
        assert effort.lines * (effort.distances + effort.halvings) <= queries
        assert min(effort.lines, effort.distances) >= 1
        assert effort.halvings >= 0
    assert Effort.within(1000) == Effort(31, 27, 5)
    assert Effort.within(64, lines=1) == Effort(1, 59, 5)
    shares = Effort.within(1000).shares()
    assert shares[0] == pytest.approx(outward_search.NEAREST)
    assert shares[-1] == 1
    assert (np.diff(shares) > 0).all()
    assert Effort(1, 1, 0).shares().tolist() == [1.0]


# --- the lines --------------------------------------------------------------------------


def test_lines_end_in_uniform_and_in_structured_draws_of_the_box():
    x, box = np.full((8, 8), 0.2, dtype=np.float32), (np.float32(0.1), np.float32(0.4))
    ends = line_ends(x, 2**60, 200, box)
    assert ends.shape == (200, 8, 8)
    assert ends.dtype == np.float32
    assert ends.min() >= box[0]
    assert ends.max() <= box[1]
    uniform = (ends[0::2].astype(np.float64) - 0.1) / 0.3
    assert stats.kstest(uniform.ravel(), "uniform").pvalue > 1e-4
    assert np.isin(ends[1::4], box).all()
    pieces = 1 + (np.diff(ends[3::4].reshape(50, -1), axis=1) != 0).sum(axis=1)
    assert {1, 2, 64} < set(pieces)
    # More lines are the same ones and others; another seed has others.
    assert line_ends(x, 2**60, 31, box).tobytes() == ends[:31].tobytes()
    assert not (line_ends(x, 5, 31, box) == ends[:31]).all(axis=(1, 2)).any()


# --- queries and failures ---------------------------------------------------------------


@pytest.mark.parametrize("engine", ["native", "art"])
def test_every_query_is_counted_and_none_is_spent_beyond_the_budget(engine):
    model = Recorder(Polytope(5, 12, 0))
    x = model.model.points(3, 0)
    spec = make_spec(engine=engine, start="outward", restarts=2, init_size=150, max_iter=2)
    y = np.array([0, 0, 1])
    result = attack(model, x, spec, seeds_for(3, 2), y=y)
    assert result.queries.sum() == model.rows
    assert (result.queries[2] == 1).all()
    if engine == "native":
        assert (result.traces.queries[:2, :, 0] > 1).all()
        # The point, the lines, and a bisection to 0.01 / sqrt(5).
        assert (result.traces.queries[:2, :, 0] <= 1 + 150 + 8).all()


@pytest.mark.parametrize("engine", ["native", "art"])
def test_without_a_start_a_run_is_null_after_the_lines_and_the_draws_of_blended(engine):
    model = Recorder(Constant())
    model.fixed_shape = True
    spec = make_spec(engine=engine, start="outward", restarts=2, init_size=100)
    result = attack(model, points_in_the_box(5, 1), spec, seeds_for(1, 2), y=np.array([0]))
    assert not result.init_ok.any()
    assert np.isnan(result.x_adv).all()
    assert np.isnan(result.x_final_iterate).all()
    assert result.queries.sum() == model.rows
    # Ten lines at eight distances; lines that are shorter end before.
    assert (result.queries <= 1 + 80 + 200).all()
    assert (result.queries > 1 + 10 + 200).all()


def test_where_no_line_finds_one_the_line_to_the_draw_is_searched_too():
    """Class 1 around a diagonal: few lines are near it, and the draw that is has it twice."""

    def asks(rows, _):
        away = rows.astype(np.float64) - 0.5
        length = np.linalg.norm(away, axis=1)
        along = away.sum(axis=1) > 0.985 * math.sqrt(3) * length
        return along & (((length > 0.1) & (length < 0.3)) | (length > 0.5))

    x, spec = np.full((1, 3), 0.5, dtype=np.float32), make_spec(start="outward", init_size=30)
    effort, met = Effort.within(30), 0
    for seed in range(300):
        lines = line_ends(x[0], seed, effort.lines, BOX)
        drawn = next(starts.draws(x[0], seed, 30, BOX, blended=False))
        hits = np.flatnonzero(asks(drawn, None))
        if hits.size and not nearest_on_lines(x, lines[None], effort, 2, BOX, asks)[0][0]:
            met += 1
            found = find_starts(x, [seed], spec, asks)[0].astype(np.float64) - 0.5
            end = drawn[hits[0]].astype(np.float64) - 0.5
            part = np.linalg.norm(found) / np.linalg.norm(end)
            assert np.allclose(found, part * end, atol=1e-6)
            assert np.linalg.norm(found) < 0.3
    assert met >= 5


@pytest.mark.parametrize("block", [1, 2**25])
def test_neither_groups_nor_batches_nor_blocks_change_a_start(block, monkeypatch):
    model, x = Ball(), points_in_the_box(24, 5).reshape(5, 2, 3, 4)
    spec = make_spec(start="outward", restarts=3, init_size=100, max_iter=3)
    seeds = seeds_for(5, 3)
    whole = attack(model, x, spec, seeds)
    monkeypatch.setattr(starts, "_LINE_BYTES", block)
    for size in (1, 17, 1024):
        other = make_spec(**(spec.model_dump() | {"batch_size": size}))
        assert_same(attack(model, x, other, seeds), whole)
    for part in ([0], [3, 1], [4, 2, 0]):
        found = attack(model, x[part], spec, seeds[part])
        assert_same(found, chosen_points(whole, part))
