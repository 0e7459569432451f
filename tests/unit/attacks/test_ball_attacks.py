"""What holds for every attack within a ball: limits, seeds, counts, journals, records."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.attacks import AttackResult, pgd, run_attack, spsa, uniform_noise
from medrobust.attacks.engine import ledger
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.evaluation.records import read_records, records_from_result, save_chunk
from medrobust.runtime.journal import Journal
from numpy.testing import assert_allclose
from pydantic import ValidationError

from tests.attack_models import assert_same, chosen_points
from tests.gradient_models import LinearLogits, ensemble_of, points_of, relu_module, seeds_for

D = 11
SPECS = {"pgd": pgd.Spec, "spsa": spsa.Spec, "uniform_noise": uniform_noise.Spec}
#: Few steps and directions.
SMALL = {"pgd": {"num_steps": 8}, "spsa": {"num_steps": 4, "directions": 9}, "uniform_noise": {}}
every_attack = pytest.mark.parametrize("name", SPECS)


def make_spec(name: str, **options):
    """Returns settings of a short attack; options that it does not have are left out."""
    values = {"epsilon": 0.1, "clip_min": 0.0, "clip_max": 1.0, "restarts": 1} | SMALL[name]
    known = {key: value for key, value in options.items() if key in SPECS[name].model_fields}
    return SPECS[name](**(values | known))


def run(name, model, x, y, spec, seeds=None, **options) -> AttackResult:
    seeds = seeds_for(len(x), spec.restarts) if seeds is None else seeds
    return run_attack(name, model, x, y, spec, seeds, **options)


def network(seed: int = 0):
    return ensemble_of(relu_module(D, 4, seed=seed), D, 4)


def labels_with_errors(model, x) -> np.ndarray:
    """Returns the model's labels, every fourth of them wrong."""
    y = model.predict(x).copy()
    y[::4] = (y[::4] + 1) % model.n_classes
    return y


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(sorted(SPECS)),
    st.integers(0, 10**6),
    st.sampled_from(["sign", "adam", "adamax"]),
    st.sampled_from(["cross_entropy", "margin"]),
    st.booleans(),
    st.booleans(),
    st.floats(1e-4, 0.9),
    st.sampled_from(["linf", "l2"]),
)
def test_what_holds_for_every_result(
    name, seed, optimizer, loss, early_stop, random_start, epsilon, norm
):
    if (name, norm) == ("pgd", "l2"):
        optimizer = "sign"
    model, x = network(seed % 3), points_of(9, D, seed)
    y = labels_with_errors(model, x)
    spec = make_spec(
        name, epsilon=epsilon, optimizer=optimizer, loss=loss, early_stop=early_stop,
        random_start=random_start, restarts=2, step_size=0.05, norm=norm,
    )  # fmt: skip
    result = run(name, model, x, y, spec)
    assert result.x_adv.dtype == np.float32 and result.x_adv.shape == (9, 2, D)
    # The difference of two float32 numbers is exact in float64, or nearly so.
    moves = result.x_adv.astype(np.float64) - x[:, None]
    assert np.abs(moves).max() <= epsilon
    if getattr(spec, "norm", "linf") == "l2":
        assert np.linalg.norm(moves, axis=2).max() <= epsilon
    assert result.x_adv.min() >= 0 and result.x_adv.max() <= 1
    wrong = model.predict(x) != y
    assert wrong[::4].all()
    assert (moves[wrong] == 0).all()
    assert (result.iterations[wrong] == 0).all() and (result.gradient_evaluations[wrong] == 0).all()
    np.testing.assert_array_equal(result.queries[wrong], np.tile([1, 0], (wrong.sum(), 1)))
    fooled = model.predict(result.x_adv.reshape(-1, D)).reshape(9, 2) != y[:, None]
    steps, most = result.iterations[~wrong], SMALL[name].get("num_steps", 1)
    assert (steps[~fooled[~wrong]] == most).all()
    if not early_stop:
        assert (steps == most).all()
    gradients = result.iterations if name == "pgd" else np.zeros_like(result.iterations)
    np.testing.assert_array_equal(result.gradient_evaluations, gradients)
    assert result.init_ok.all()
    np.testing.assert_array_equal(result.x_final_iterate, result.x_adv)
    np.testing.assert_array_equal(result.seeds, seeds_for(9, 2))


@every_attack
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_results_depend_on_no_other_point(name, norm):
    if norm == "l2" and name != "pgd":
        pytest.skip("has one norm")
    model, x = network(), points_of(50, D)
    y, seeds = labels_with_errors(model, x), seeds_for(50, 2)
    epsilon = {"linf": 0.1, "l2": 0.3}[norm]
    spec = make_spec(
        name, epsilon=epsilon, restarts=2, step_size=0.04, directions=40, norm=norm,
        optimizer="sign" if name == "pgd" else "adamax",
    )  # fmt: skip
    everything = run(name, model, x, y, spec, seeds)
    assert_same(run(name, model, x, y, spec, seeds), everything)
    if name != "uniform_noise":
        assert len(np.unique(everything.iterations)) > 3
    for chosen in ([3], [40, 2, 17], list(range(23, 50))):
        part = run(name, model, x[chosen], y[chosen], spec, seeds[chosen])
        assert_same(part, chosen_points(everything, chosen))
    one = run(name, model, x, y, spec.model_copy(update={"restarts": 1}), seeds[:, 1:])
    np.testing.assert_array_equal(one.x_adv, everything.x_adv[:, 1:])
    assert (everything.x_adv[1, 0] != everything.x_adv[1, 1]).any()


@every_attack
@pytest.mark.parametrize("block", [1, 3, 50])
def test_results_do_not_depend_on_the_size_of_blocks(name, block):
    x = points_of(20, D)
    models = [LinearLogits(D, 3, block=size) for size in (block, 8)]
    y = models[0].predict(x)
    spec = make_spec(name, epsilon=0.05)
    assert_same(*(run(name, model, x, y, spec) for model in models))


@pytest.mark.parametrize("name", ["pgd", "spsa"])
def test_counts_are_those_of_the_rows_asked_about(name):
    model = LinearLogits(D, 3, block=1)
    x = points_of(15, D)
    y = labels_with_errors(model, x)
    right = model.predict(x) == y
    model.predicted = 0
    result = run(name, model, x, y, make_spec(name, epsilon=0.05, restarts=2))
    # Blocks of one row: none is padding.
    assert result.queries.sum() == model.passed + model.predicted
    if name == "pgd":
        assert model.passed == (result.gradient_evaluations + 1)[right].sum()
    else:
        assert model.passed == 2 * 9 * result.iterations.sum()
        assert model.predicted == 15 + (result.iterations + 1)[right].sum()


@every_attack
def test_plans_expect_what_a_run_can_cost(name):
    class Firm(LinearLogits):
        def predict(self, x: np.ndarray) -> np.ndarray:
            return np.zeros(len(x), dtype=np.int64)

    model, x = Firm(D), points_of(3, D)
    spec = make_spec(name, restarts=2, early_stop=name != "pgd")
    result = run(name, model, x, np.zeros(3, dtype=np.int64), spec)
    spent = (result.queries + result.gradient_evaluations).sum(axis=1)
    assert spent.tolist() == [spec.expected_queries()] * 3


@every_attack
def test_a_point_outside_the_box_goes_no_farther_out(name):
    model = LinearLogits(D)
    x = np.full((1, D), 1.2, dtype=np.float32)
    spec = make_spec(name, epsilon=0.5, restarts=20, early_stop=False)
    result = run(name, model, x, model.predict(x), spec)
    assert result.x_adv.max() == np.float32(1.2)
    assert 0.7 - 1e-6 < result.x_adv.min() < 0.9


class Killed(BaseException):
    pass


class Fragile(LinearLogits):
    """Is killed after some answers."""

    left = 10**9

    def _answer(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    def loss_gradients(self, x, y, loss):
        self._answer()
        return super().loss_gradients(x, y, loss)

    def logits(self, x):
        self._answer()
        return super().logits(x)


@pytest.mark.parametrize("name", ["pgd", "spsa"])
def test_a_killed_attack_goes_on_from_its_journal(name, tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "_JOURNAL_SECONDS", 0.0)
    x = points_of(40, D)
    model = Fragile(D, 3)
    y, seeds = labels_with_errors(model, x), seeds_for(40, 2)
    spec = make_spec(name, epsilon=0.05, restarts=2)
    model.left = start = 10**6
    expected = run(name, model, x, y, spec, seeds)
    answers = start - model.left
    model.left = answers // 2
    with Journal(tmp_path / "j", "key") as journal, pytest.raises(Killed):
        run(name, model, x, y, spec, seeds, journal=journal)
    model.left = start
    with Journal(tmp_path / "j", "key") as journal:
        kept = sum(len(group["rows"]) for group in journal.finished().values())
        assert 30 < kept < 80
        order = np.random.default_rng(0).permutation(40)
        again = run(name, model, x[order], y[order], spec, seeds[order], journal=journal)
    assert_same(again, chosen_points(expected, list(order)))
    assert 0 < start - model.left < 0.75 * answers
    model.left = 0
    with Journal(tmp_path / "j", "key") as journal:
        assert_same(run(name, model, x, y, spec, seeds, journal=journal), expected)
    # Another radius is other work.
    other = make_spec(name, epsilon=0.06, restarts=2)
    with Journal(tmp_path / "j", "key") as journal, pytest.raises(Killed):
        run(name, model, x, y, other, seeds, journal=journal)


def test_a_finished_attack_asks_nothing_again_not_even_for_equal_points(tmp_path):
    model, x = LinearLogits(D), points_of(2, D)[[0, 0, 1]]
    y, seeds = model.predict(x), seeds_for(2)[[0, 0, 1]]
    spec = make_spec("pgd")
    expected = run("pgd", model, x, y, spec, seeds)
    for asked in (True, False):
        model.passed = model.predicted = 0
        with Journal(tmp_path / "j", "key") as journal:
            found = run("pgd", model, x, y, spec, seeds, journal=journal)
        assert (model.passed + model.predicted > 0) is asked
        assert_same(found, expected)


@every_attack
def test_progress_is_told_in_points(name):
    told: list[float] = []
    sink = SimpleNamespace(update=lambda done, note="": told.append(done))
    model, x = LinearLogits(D, 3), points_of(20, D)
    spec = make_spec(name, restarts=3, early_stop=False)
    run(name, model, x, model.predict(x), spec, progress=sink)
    assert told[-1] == 20 and (np.diff(told) >= -1e-9).all()


@every_attack
def test_shaped_points_are_attacked_as_flat_ones(name):
    class Shaped(LinearLogits):
        def __init__(self) -> None:
            super().__init__(12, 3)
            self.input_shape = (3, 2, 2)

        def scores(self, x):
            return super().scores(x.reshape(len(x), 12))

        def loss_gradients(self, x, y, loss):
            logits, slopes = super().loss_gradients(x, y, loss)
            return logits, slopes.reshape(x.shape)

    flat, shaped, x = LinearLogits(12, 3), Shaped(), points_of(6, 12)
    y, spec = flat.predict(x), make_spec(name)
    expected = run(name, flat, x, y, spec)
    found = run(name, shaped, x.reshape(6, 3, 2, 2), y, spec)
    np.testing.assert_array_equal(found.x_adv.reshape(6, 1, 12), expected.x_adv)


@every_attack
def test_records_tell_what_came_of_it(name, tmp_path):
    model, x = LinearLogits(D, 3), points_of(40, D)
    y = labels_with_errors(model, x)
    spec = make_spec(name, epsilon=0.1, restarts=2, directions=200, num_steps=20)
    result = run(name, model, x, y, spec)
    frame = records_from_result(model, x, y, np.arange(40), result, spec, (0.0, 1.0))
    labels = model.predict(result.x_adv.reshape(80, D))
    np.testing.assert_array_equal(frame["success"], labels != np.repeat(y, 2))
    np.testing.assert_array_equal(frame["adversarial_prediction"].astype(int), labels)
    assert (frame["epsilon"] == 0.1).all() and not frame["box_violation"].any()
    assert set(frame["loss"].fillna("none")) == {"cross_entropy" if name == "pgd" else "none"}
    failed = ~frame["success"]
    wrong = frame["clean_prediction"] != frame["label"]
    assert 4 < failed.sum() < 70
    assert frame.loc[failed, ["l1", "l2", "linf", "l2_final_iterate"]].isna().all(axis=None)
    assert (frame.loc[failed, "adversarial_prediction"] == frame.loc[failed, "label"]).all()
    assert (frame.loc[~failed & ~wrong, "linf"] <= 0.1).all()
    assert (frame.loc[~failed & ~wrong, "linf"] > 0).all()
    assert (frame.loc[wrong, "linf"] == 0).all()
    paths = tmp_path / "a.parquet", tmp_path / "a.safetensors"
    save_chunk(*paths, records=frame, x=x, point_ids=np.arange(40), result=result)
    assert len(read_records(paths[0])) == 80
    kept, best = io.read_tensors(paths[1]), io.read_tensors(paths[1])["best_restart"]
    none = best < 0
    assert none.any() and np.isnan(kept["x_adv"][none]).all()
    assert (np.abs(kept["x_adv"][~none] - x[~none]) <= np.float32(0.1) + 1e-7).all()


@every_attack
def test_bad_input_is_refused(name):
    model, x = LinearLogits(D), points_of(3, D)
    y = model.predict(x)
    with pytest.raises(InputError, match="seeds for 2 restarts"):
        run(name, model, x, y, make_spec(name), seeds_for(3, 2))
    with pytest.raises(InputError, match="starts at the points"):
        run(name, model, x, y, make_spec(name), x_start=x)
    with pytest.raises(InputError, match="open end"):
        run(name, model, x, y, make_spec(name, clip_max=None))
    for wrong in ({"epsilon": 0.0}, {"epsilon": np.inf}, {"clip_max": 0.0}, {"restarts": 0}):
        with pytest.raises(ValidationError):
            make_spec(name, **wrong)
    if name == "uniform_noise":
        return
    model.has_gradients = False
    lacks = "needs gradients.*spsa" if name == "pgd" else "needs scores.*hopskipjump"
    with pytest.raises(InputError, match=f"(?s){lacks}"):
        run(name, model, x, y, make_spec(name))
    model.has_logits = True
    if name == "pgd":
        with pytest.raises(InputError, match="needs gradients"):
            run(name, model, x, y, make_spec(name))
    else:  # spsa climbs by the values of logits alone
        model.loss_gradients = None
        assert run(name, model, x, y, make_spec(name)).queries.min() > 0


def test_noise_flips_as_often_as_probability_says():
    model = LinearLogits(1)
    (threshold,) = -np.diff(model.b) / np.diff(model.w[:, 0])
    x = np.array([[threshold - 0.03], [threshold + 0.06], [threshold + 0.2]], dtype=np.float32)
    y = model.predict(x)
    spec = make_spec("uniform_noise", restarts=4000, clip_min=-5.0, clip_max=5.0)
    result = run("uniform_noise", model, x, y, spec)
    frame = records_from_result(model, x, y, np.arange(3), result, spec, (-5.0, 5.0))
    share = frame.groupby("point_id")["success"].mean()
    assert_allclose(share, [0.35, 0.2, 0.0], atol=4 * np.sqrt(0.25 / 4000))
    assert share[2] == 0
