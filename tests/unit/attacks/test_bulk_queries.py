"""Estimates of HopSkipJump: rows and sums against plain NumPy, rows asked about in bulk."""

from __future__ import annotations

import numpy as np
import pytest
from medrobust.attacks import run_attack
from medrobust.attacks.engine import hopskipjump_kernels as kernels
from medrobust.attacks.engine import lockstep, noise_kernels
from medrobust.attacks.engine.queries import BLOCK, Queries
from medrobust.attacks.engine.spec import HopSkipJumpSpec
from medrobust.core.errors import InputError
from medrobust.models import mlp
from medrobust.models.blocks import WIDE
from medrobust.models.contract import architecture_of
from medrobust.models.ensembles import build_ensemble

from tests.attack_models import Linear

NONE = np.empty(0, dtype=np.float32)


def state(seed=4):
    return np.random.SFC64(seed).state["state"]["state"].copy()


@pytest.mark.parametrize("d", [1, 6, 2500])
@pytest.mark.parametrize("normal_values", [True, False])
@pytest.mark.parametrize("flat", [True, False])
def test_rows_are_perturbed_as_written_down(d, normal_values, flat):
    random = np.random.default_rng(d)
    centre = random.random(d).astype(np.float32)
    normal = random.standard_normal(d)
    normal = (normal / np.linalg.norm(normal)).astype(np.float32) if flat else NONE
    rows = np.empty((9, d), dtype=np.float32)
    kernels.perturbed(state(), normal_values, rows, centre, 0.4, normal, 0.0, 1.0)
    draw = noise_kernels.draw_normal if normal_values else noise_kernels.draw_signed
    noise, words, stream = np.empty((9, d), dtype=np.float32), np.empty(8, np.uint64), state()
    for row in noise:
        draw(stream, words, row)
    noise = noise.astype(np.float64)
    if flat:
        noise -= (noise @ normal)[:, None] * normal
    if flat and d == 1:
        return  # nothing but rounding is left
    moves = 0.4 * noise / np.linalg.norm(noise, axis=1)[:, None]
    np.testing.assert_allclose(rows, np.clip(centre + moves, 0, 1), atol=2e-6)


@pytest.mark.parametrize("d", [1, 5, 1024, 2500])
def test_sums_are_those_of_numpy_in_the_order_of_rows(d):
    random = np.random.default_rng(d)
    rows, centre = random.random((7, d), dtype=np.float32), random.random(d, dtype=np.float32)
    answers = np.array([True, False, True, True, False, False, True])
    total, hits = np.zeros(d), np.zeros(d)
    for part in (slice(0, 3), slice(3, 7)):  # how rows are divided changes no bit
        kernels.accumulate(rows[part], centre, answers[part], total, hits)
    moves = (rows - centre).astype(np.float64)
    assert total.tobytes() == sum(moves, np.zeros(d)).tobytes()
    assert hits.tobytes() == sum(moves[answers], np.zeros(d)).tobytes()


class Bulk(Linear):
    """Keeps of each call whether it was one of many rows, and how many."""

    fixed_shape, bulk_block = True, 2 * BLOCK

    def __init__(self, d):
        super().__init__(d)
        self.single, self.many = [], []

    def predict(self, x):
        self.single.append(len(x))
        return super().predict(x)

    def predict_bulk(self, x):
        self.many.append(len(x))
        return super().predict(x)


def attacked(model, points=3, **options):
    spec = HopSkipJumpSpec(
        clip_min=0.0, clip_max=1.0, start="random", max_iter=3, restarts=2, **options
    )
    x = np.full((points, 12), 0.5, dtype=np.float32)
    x += np.linspace(-0.02, 0.02, points, dtype=np.float32)[:, None]
    seeds = np.arange(2 * points).reshape(points, 2)
    return run_attack("hopskipjump", model, x, model.predict(x), spec, seeds)


def test_estimates_alone_are_asked_in_bulk():
    model = Bulk(12)
    result = attacked(model, init_eval=100)
    estimates = sum(6 * int(100 * np.sqrt(t)) for t in (1, 2, 3))
    assert sum(model.many) == estimates
    # Of the first call the labels of the points; the rest is counted for the runs.
    assert sum(model.single[1:]) + estimates == result.queries.sum()


def test_how_many_rows_are_asked_at_once_changes_nothing():
    few, many = (attacked(Bulk(12), batch_size=size) for size in (1, 4096))
    assert few.x_adv.tobytes() == many.x_adv.tobytes()
    model = Bulk(12)
    attacked(model, batch_size=1)
    assert max(model.many) == model.bulk_block  # whole blocks, even of one row at a time


def test_rows_too_long_for_a_bulk_in_memory_are_asked_as_others(monkeypatch):
    monkeypatch.setattr(lockstep, "_BUFFER_BYTES", 4 * 12 * (2 * BLOCK - 1))
    model = Bulk(12)
    attacked(model)
    assert not model.many


def test_a_bulk_answers_by_classes():
    class Broken(Bulk):
        def predict_bulk(self, x):
            return super().predict_bulk(x) + 1

    queries = Queries(Broken(4), 1, 8)
    rows = np.random.default_rng(0).random((200, 4), dtype=np.float32)
    with pytest.raises(InputError, match="from 1 to 2, outside the 2 classes"):
        queries.adversarial(rows, np.zeros(200, dtype=int), bulk=True)


def ensemble(d, members=3):
    parameters = mlp.initial_parameters(mlp.Spec(), (d,), 2, list(range(members)))
    return build_ensemble(
        "mlp", mlp.Spec(), [parameters], vote="soft", input_shape=(d,), n_classes=2,
        input_range=(0.0, 1.0),
    )  # fmt: skip


def test_ensembles_of_wide_points_answer_in_larger_blocks(monkeypatch):
    wide = ensemble(WIDE)
    rows = np.random.default_rng(0).random((300, WIDE), dtype=np.float32)
    shapes, scores = [], wide._scores

    def seen(x):
        shapes.append(len(x))
        return scores(x)

    monkeypatch.setattr(wide, "_scores", seen)
    labels = wide.predict_bulk(rows)
    assert shapes == [wide.bulk_block] * 2 and wide.bulk_block > BLOCK
    assert (labels == wide.predict(rows)).mean() > 0.99
    # A row's label does not depend on the rows beside it.
    np.testing.assert_array_equal(labels[:5], wide.predict_bulk(rows[:5]))


def test_ensembles_of_short_points_have_no_bulks():
    short = ensemble(WIDE - 1)
    rows = np.random.default_rng(0).random((70, WIDE - 1), dtype=np.float32)
    assert short.bulk_block == 0
    np.testing.assert_array_equal(short.predict_bulk(rows), short.predict(rows))


@pytest.mark.parametrize("name", ["mlp", "sign_network", "bnn"])
def test_a_bulk_of_images_lies_in_the_buffer(name):
    assert architecture_of(name).bulk_block * 4 * 27_648 <= lockstep._BUFFER_BYTES
