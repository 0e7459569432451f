"""HopSkipJump's estimates on tensors: against sums written out, and against those on arrays."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from medrobust.attacks import run_attack
from medrobust.attacks.engine import hopskipjump_native, tensor_draws, tensor_normals
from medrobust.attacks.engine.lockstep import Normals, Setting
from medrobust.attacks.engine.queries import Queries
from medrobust.attacks.engine.tensor_normals import TensorNormals
from medrobust.core.errors import NotFiniteError
from medrobust.core.registry import parse_spec
from medrobust.models.on_device import OnDevice
from medrobust.runtime.journal import Journal

from tests.gradient_models import seeds_for
from tests.unit.attacks.test_on_tensors import SHAPE, ensemble


class Halves:
    """A model of two classes, the sign of ``w x + b``, on arrays and on tensors of the CPU."""

    fixed_shape = True
    n_classes = 2

    def __init__(self, d: int, block: int = 64, seed: int = 0) -> None:
        self.w = np.random.default_rng(seed).normal(size=d)
        self.b, self.input_shape, self.asked = -0.5 * self.w.sum(), (d,), []
        self.on_device = OnDevice(
            self._scores, kind="logits", vote="soft", device="cpu", block=block, gradients=None
        )

    def _scores(self, x):
        self.asked.append(len(x))
        # Row by row: the same in blocks of any size.
        score = (x.double() * torch.from_numpy(self.w)).sum(dim=1) + self.b
        return torch.stack([torch.zeros_like(score), score], dim=1)[None].float()

    def predict(self, x):
        return ((x.astype(np.float64) * self.w).sum(axis=1) + self.b > 0).astype(np.int64)


def setting_of(model, runs, norm=2, *, targeted=False, seed=1):
    """Returns an attack's setting, and rows on the model's boundary."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.2, 0.8, (runs, *model.input_shape)).astype(np.float32)
    off = (x @ model.w + model.b) / (model.w @ model.w)
    centres = (x - off[:, None] * model.w).clip(0, 1).astype(np.float32)
    queries = Queries(model, runs, 1024)
    queries.goal, queries.targeted = np.arange(runs) % 2, targeted
    return Setting(x, queries, norm, np.float32(0), np.float32(1)), centres


@pytest.mark.parametrize("norm", [2, "inf"])
@pytest.mark.parametrize("d", [3, 8])
@pytest.mark.parametrize("orthogonal", [False, True])
def test_an_estimate_is_the_sum_written_out(norm, d, orthogonal):
    model, runs = Halves(d), 5
    setting, centres = setting_of(model, runs, norm, targeted=norm == "inf")
    seeds, counts = [7, 8, 9, 2**62, 3], np.array([1, 70, 64, 33, 2])
    radii = np.array([0.5, 0.02, 0.1, 0.3, 1e-4])
    normals = np.random.default_rng(3).normal(size=(runs, d))
    normals = (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32)
    given = normals if orthogonal else None
    found = TensorNormals(setting, seeds, model.on_device).estimate(
        centres, radii, counts, 4, given
    )
    assert found.dtype == np.float64 and setting.queries.counts.tolist() == counts.tolist()
    mixed = 0
    for run, (seed, count) in enumerate(zip(seeds, counts, strict=True)):
        key = tensor_draws.stream_keys(torch.tensor([seed]), tensor_normals._STREAMS + 4)
        words = tensor_draws.words(key, 0, count * math.ceil(d / 2)).view(count, -1)
        draw = tensor_draws.normal if norm == 2 else tensor_draws.signed
        noise = draw(words, d).numpy().astype(np.float64)
        if orthogonal:
            noise -= (noise @ normals[run])[:, None] * normals[run]
        moves = radii[run] * noise / np.linalg.norm(noise, axis=1, keepdims=True)
        rows = (centres[run] + moves).clip(0, 1).astype(np.float32)
        reached = model.predict(rows) == setting.queries.goal[run]
        answers = np.where(reached if setting.queries.targeted else ~reached, 1.0, -1.0)
        mixed += abs(answers.mean()) < 1
        weights = answers - answers.mean() if abs(answers.mean()) < 1 else answers
        expected = (weights[:, None] * (rows.astype(np.float64) - centres[run])).sum(axis=0)
        np.testing.assert_allclose(found[run], expected, rtol=1e-5, atol=2e-6 * radii[run] * count)
    assert mixed >= 2


def test_an_estimate_knows_no_neighbour_and_no_block():
    counts, radii = np.array([100, 1, 37, 300]), np.array([0.1, 0.2, 0.3, 0.05])
    seeds, found = [5, 6, 7, 8], {}
    for block in (16, 64, 4096):
        model = Halves(9, block)
        setting, centres = setting_of(model, 4)
        whole = TensorNormals(setting, seeds, model.on_device)
        found[block] = whole.estimate(centres, radii, counts, 2)
        assert set(model.asked) == {block}
        for some in ([2], [3, 0]):
            part, _ = setting_of(model, 4)
            queries = Queries(model, len(some), 1024)
            queries.goal = part.queries.goal[some]
            alone = Setting(part.x[some], queries, 2, part.low, part.high)
            own = TensorNormals(alone, [seeds[i] for i in some], model.on_device)
            one = own.estimate(centres[some], radii[some], counts[some], 2)
            assert one.tobytes() == found[block][some].tobytes()
    assert found[16].tobytes() == found[64].tobytes() == found[4096].tobytes()
    model = Halves(9, 64)
    setting, centres = setting_of(model, 4)
    other = TensorNormals(setting, seeds, model.on_device).estimate(centres, radii, counts, 3)
    assert not np.isclose(other, found[64]).all(axis=1).any()  # another iteration, other draws


def test_rows_of_many_values_are_fewer_at_a_time(monkeypatch):
    monkeypatch.setattr(tensor_normals, "_WORD_BYTES", 8 * 5 * 20)
    model = Halves(10, 64)
    setting, centres = setting_of(model, 2)
    some = TensorNormals(setting, [1, 2], model.on_device)
    assert some._rows == 16  # 20 rows of 5 words
    counts, radii = np.array([50, 3]), np.full(2, 0.1)
    found = some.estimate(centres, radii, counts, 0)
    assert model.asked == [64] * 4  # whole blocks all the same
    monkeypatch.undo()
    setting, _ = setting_of(model, 2)
    whole = TensorNormals(setting, [1, 2], model.on_device)
    assert whole.estimate(centres, radii, counts, 0).tobytes() == found.tobytes()


@pytest.mark.parametrize("norm", [2, "inf"])
def test_estimates_are_as_good_as_those_on_arrays(norm):
    """The angle to the true normal has the same mean, within what chance explains."""
    d, runs, count = 30, 200, 150
    model = Halves(d, 4096)
    cosines = []
    for engine in ("arrays", "tensors"):
        setting, centres = setting_of(model, runs, norm)
        setting.queries.goal[:] = 0
        seeds = list(range(runs))
        estimates = (
            Normals(setting, seeds, 1024)
            if engine == "arrays"
            else TensorNormals(setting, seeds, model.on_device)
        )
        found = estimates.estimate(centres, np.full(runs, 0.01), np.full(runs, count), 1)
        length = np.linalg.norm(found, axis=1) * np.linalg.norm(model.w)
        cosines.append(found @ model.w / length)
    one, other = cosines
    error = math.hypot(one.std(), other.std()) / runs**0.5
    assert abs(one.mean() - other.mean()) < 4 * error and one.mean() > 0.8
    assert 0.7 < one.std() / other.std() < 1.4


def test_rows_without_an_answer_are_refused():
    model = Halves(4)
    setting, centres = setting_of(model, 2)
    model.w[:] = np.nan
    with pytest.raises(NotFiniteError, match="12 of 12 rows"):
        TensorNormals(setting, [1, 2], model.on_device).estimate(
            centres, np.full(2, 0.1), np.array([5, 7]), 0
        )


# Whole attacks


def attacked(model, x, seeds, *, journal=None, **given):
    settings = {
        "name": "hopskipjump", "max_iter": 6, "max_eval": 200, "init_eval": 60, "init_size": 50,
        "restarts": seeds.shape[1], "clip_min": 0.0, "clip_max": 1.0, **given,
    }  # fmt: skip
    spec = parse_spec("attack", settings, file="test", prefix="attack")
    return run_attack("hopskipjump", model, x, model.predict(x), spec, seeds, journal=journal)


def network_points(n):
    return np.random.default_rng(2).uniform(0.1, 0.9, (n, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("given", [{}, {"refinement": 0.5}, {"norm": "inf"}])
def test_attacks_find_the_distances_that_they_find_on_arrays(given):
    x, seeds = network_points(8), seeds_for(8, 3)
    smallest = []
    for on_tensors in (False, True):
        model = ensemble(on_tensors=on_tensors)
        found = attacked(model, x, seeds, **given)
        labels = model.predict(found.x_adv.reshape(-1, *SHAPE)).reshape(8, 3)
        assert (labels != model.predict(x)[:, None]).all()
        order = np.inf if given.get("norm") == "inf" else 2
        distance = np.linalg.norm((found.x_adv - x[:, None]).reshape(24, -1), order, axis=1)
        smallest.append(distance.reshape(8, 3).min(axis=1))
    ratio = smallest[1] / smallest[0]
    assert 0.95 < np.median(ratio) < 1.05 and ratio.max() < 1.3 and ratio.min() > 0.7


def test_a_linear_boundary_is_met_at_its_distance():
    model = Halves(12, 256)
    x = np.random.default_rng(2).uniform(0.3, 0.7, (4, 12)).astype(np.float32)
    found = attacked(model, x, seeds_for(4, 2), max_iter=15, refinement=0.5)
    exact = np.abs(x @ model.w + model.b) / np.linalg.norm(model.w)
    distance = np.linalg.norm(found.x_adv - x[:, None], axis=2).min(axis=1)
    assert (distance >= exact * (1 - 1e-5)).all()
    np.testing.assert_allclose(distance, exact, rtol=0.03)


def test_a_run_knows_no_neighbour_and_no_interruption(tmp_path, monkeypatch):
    x, seeds = network_points(5), seeds_for(5, 2)
    model = ensemble(on_tensors=True)
    whole = attacked(model, x, seeds)
    part = attacked(model, x[3:4], seeds[3:4])
    assert part.x_adv.tobytes() == whole.x_adv[3:4].tobytes()
    assert part.queries.tolist() == whole.queries[3:4].tolist()
    monkeypatch.setattr(hopskipjump_native, "_CHECKPOINT_SECONDS", 0.0)
    take, steps = hopskipjump_native._Steps.take, []

    def dies(self, t):
        steps.append(t)
        if len(steps) == 4:
            raise KeyboardInterrupt
        take(self, t)

    with Journal(tmp_path / "j", "key") as journal:
        monkeypatch.setattr(hopskipjump_native._Steps, "take", dies)
        with pytest.raises(KeyboardInterrupt):
            attacked(model, x, seeds, journal=journal)
        found = attacked(model, x, seeds, journal=journal)
    assert steps == [0, 1, 2, 3, 3, 4, 5]  # it went on where it was
    assert found.x_adv.tobytes() == whole.x_adv.tobytes()
    assert found.queries.tolist() == whole.queries.tolist()
