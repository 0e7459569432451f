"""Starts of decision-based attacks: what is drawn, in which order, and what counts."""

from __future__ import annotations

import numpy as np
import pytest
from medrobust.attacks.engine import starts
from medrobust.attacks.engine.starts import draws, first_adversarial
from scipy import stats

from tests.attack_models import Constant, Linear, attack, distances, make_spec, seeds_for

BOX = np.float32(0.1), np.float32(0.4)


def all_draws(x, seed, size, *, blended, box=BOX) -> np.ndarray:
    blocks = list(draws(x, seed, size, box, blended=blended))
    assert all(0 < len(block) <= starts.DRAWS for block in blocks)
    return np.concatenate(blocks)


@pytest.mark.parametrize("blended", [False, True])
def test_draws_are_float32_in_the_box_and_as_many_as_asked(blended):
    x = np.random.default_rng(0).uniform(-1, 1, (3, 4)).astype(np.float32)
    for size in (1, 63, 64, 65, 1000):
        rows = all_draws(x, 7, size, blended=blended)
        assert rows.shape == (size * (1 + blended), 3, 4)
        assert rows.dtype == np.float32
        assert rows.min() >= BOX[0]
        assert rows.max() <= BOX[1]


@pytest.mark.parametrize("blended", [False, True])
@pytest.mark.parametrize("block", [1, 5, 1000])
def test_draws_depend_on_the_seed_alone_not_on_blocks(blended, block, monkeypatch):
    x = np.full((6,), 0.2, dtype=np.float32)
    expected = all_draws(x, 2**50, 90, blended=blended)
    other = all_draws(x, 2**50 + 1, 90, blended=blended)
    assert not (expected == other)[:90].all(axis=1).any()
    monkeypatch.setattr(starts, "DRAWS", block)
    assert all_draws(x, 2**50, 90, blended=blended).tobytes() == expected.tobytes()


def test_the_first_draws_are_uniform_with_and_without_blends():
    x = np.full((50,), 0.2, dtype=np.float32)
    random = all_draws(x, 3, 200, blended=False)
    assert all_draws(x, 3, 200, blended=True)[:200].tobytes() == random.tobytes()
    scaled = (random.astype(np.float64) - 0.1) / 0.3
    assert stats.kstest(scaled.ravel(), "uniform").pvalue > 1e-4
    # One draw does not tell about the next.
    assert abs(np.corrcoef(scaled[:-1].ravel(), scaled[1:].ravel())[0, 1]) < 0.05


def test_the_four_kinds_of_blended_draws():
    x = np.linspace(0.1, 0.4, 64, dtype=np.float32)
    low, high = BOX
    rows = all_draws(x, 5, 400, blended=True)[400:]
    ends, flat = rows[0::4], rows[1::4]
    assert np.isin(ends, [low, high]).all()
    shares = (ends == high).mean(axis=1)
    assert shares.min() < 0.1
    assert shares.max() > 0.9
    runs = 1 + (np.diff(flat, axis=1) != 0).sum(axis=1)
    assert set(runs) == {1, 2, 4, 8, 16, 32, 64}
    for row, count in zip(flat, runs, strict=True):
        assert (row.reshape(count, -1) == row.reshape(count, -1)[:, :1]).all()
    for rows_of_kind in (rows[2::4], rows[3::4]):
        distance = np.linalg.norm(rows_of_kind - x, axis=1)
        assert distance.min() < 0.1 * distance.max()


def test_a_blend_lies_on_the_segment_from_the_point_to_a_draw():
    x = np.full((64,), 0.2, dtype=np.float32)
    rows = all_draws(x, 5, 400, blended=True)[400:].astype(np.float64)
    for row in rows[2::4]:
        values = np.unique(row)
        assert len(values) <= 2
        if len(values) == 2:  # from 0.2 a part of the way to 0.1, and the same part to 0.4
            assert (0.2 - values[0]) / 0.1 == pytest.approx((values[1] - 0.2) / 0.2, abs=1e-5)
    lengths = {1 + (np.diff(row) != 0).sum() for row in rows[3::4]}
    assert lengths == {1, 2, 4, 8, 16, 32, 64}


def test_the_first_adversarial_draw_is_taken_and_blocks_are_counted_whole():
    x, asked = np.zeros((2,), dtype=np.float32), []

    def asks(block):
        asked.append(block)
        return block[:, 0] > 0.3995  # one in six hundred

    found = first_adversarial(draws(x, 11, 1000, BOX, blended=False), asks)
    rows = np.concatenate(asked)
    assert len(rows) > starts.DRAWS  # the search went beyond one block
    assert (found == rows[np.flatnonzero(rows[:, 0] > 0.3995)[0]]).all()
    assert not (rows[: -starts.DRAWS, 0] > 0.3995).any()
    assert first_adversarial(draws(x, 11, 100, BOX, blended=True), lambda b: b[:, 0] > 1) is None


@pytest.mark.parametrize("engine", ["native", "art"])
def test_a_drawn_start_is_as_good_as_the_same_start_given(engine):
    """The first adversarial uniform draw, whatever else the engine draws from the seed."""

    class Rare(Constant):
        fixed_shape = True

        def predict(self, rows):
            return (rows[:, 0] > 0.985).astype(np.int64)

    x, seeds = np.full((1, 5), 0.5, dtype=np.float32), seeds_for(1, 1)
    box = np.float32(0), np.float32(1)
    candidates = np.concatenate(list(draws(x[0], int(seeds[0, 0]), 1000, box, blended=False)))
    first = np.flatnonzero(candidates[:, 0] > 0.985)[0]
    drawn = attack(Rare(), x, make_spec(engine=engine), seeds, y=np.array([0]))
    given = attack(
        Rare(),
        x,
        make_spec(engine=engine, start="fixed"),
        seeds,
        x_start=candidates[[first]],
    )
    assert drawn.x_adv.tobytes() == given.x_adv.tobytes()
    assert drawn.x_final_iterate.tobytes() == given.x_final_iterate.tobytes()
    blocks = first // starts.DRAWS + 1
    assert drawn.queries[0, 0] - given.queries[0, 0] == blocks * starts.DRAWS - 1


class Ends(Constant):
    """Class 1 where most values lie at the ends of the box: no uniform noise does."""

    input_shape = (60,)

    def predict(self, rows):
        return (np.abs(rows.astype(np.float64) - 0.5).mean(axis=1) > 0.4).astype(np.int64)


class Smooth(Constant):
    """Class 1 where neighbours are alike and the mean is high: no noise is so smooth."""

    input_shape = (60,)

    def predict(self, rows):
        rows = rows.astype(np.float64)
        rough = np.abs(np.diff(rows, axis=1)).mean(axis=1)
        return ((rough < 0.02) & (rows.mean(axis=1) > 0.7)).astype(np.int64)


class Shell(Constant):
    """Class 1 in a shell around the middle that is closer than any noise."""

    input_shape = (60,)

    def predict(self, rows):
        distance = np.linalg.norm(rows.astype(np.float64) - 0.5, axis=1)
        return ((distance > 0.3) & (distance < 1.2)).astype(np.int64)


@pytest.mark.parametrize("engine", ["native", "art"])
@pytest.mark.parametrize("kind", [Ends, Smooth, Shell])
def test_blends_find_a_start_where_all_uniform_noise_has_the_clean_name(kind, engine):
    model, x, seeds = kind(), np.full((1, 60), 0.5, dtype=np.float32), seeds_for(1, 3)
    options = {"engine": engine, "restarts": 3, "max_iter": 4, "init_size": 200}
    random = attack(model, x, make_spec(**options), seeds)
    assert not random.init_ok.any()
    assert (random.queries == 201).all()
    for start in ("blended", "outward"):
        found = attack(model, x, make_spec(**options, start=start), seeds)
        assert found.init_ok.all()
        assert (model.predict(found.x_adv[0]) == 1).all()
    assert (attack(model, x, make_spec(**options, start="blended"), seeds).queries > 201).all()


@pytest.mark.parametrize("engine", ["native", "art"])
def test_blended_equals_random_wherever_random_finds_a_start(engine):
    model, seeds = Linear(7), seeds_for(3, 2)
    x = np.random.default_rng(2).uniform(0.25, 0.75, (3, 7)).astype(np.float32)
    options = {"engine": engine, "restarts": 2, "max_iter": 3}
    random = attack(model, x, make_spec(**options), seeds)
    blended = attack(model, x, make_spec(**options, start="blended"), seeds)
    assert random.init_ok.all()
    assert random.x_adv.tobytes() == blended.x_adv.tobytes()
    assert random.queries.tobytes() == blended.queries.tobytes()
    assert (distances(random.x_adv, x) > 0).all()
