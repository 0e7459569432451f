"""``medrobust.evaluate``: against exact distances and accuracies, and against a job's records."""

from __future__ import annotations

import subprocess
import sys

import medrobust
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.core.logs import logger
from medrobust.data.prepared.splits import write_split
from medrobust.data.prepared.store import load_dataset
from medrobust.evaluation import records as record_files
from medrobust.jobs.attack import attack_chunk
from medrobust.jobs.shared import load_ensemble
from medrobust.models import mlp

from tests.unit.attack_files import evaluated_by

QUICK = {"max_iter": 8, "init_eval": 20}
D = 6


def linear(d: int = D, seed: int = 0):
    """Returns a model of two classes on the two sides of a plane, its plane, and its score."""
    w = np.random.default_rng(seed).normal(size=d)
    b = -0.5 * w.sum() + 0.05

    def score(x):
        return (np.asarray(x, dtype=np.float64) * w).sum(axis=-1) + b

    return (lambda x: np.stack([-score(x), score(x)], axis=1)), w, score


def points(n: int, d: int = D, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.2, 0.8, (n, d)).astype(np.float32)


def module(w: np.ndarray, b: np.ndarray):
    import torch

    layer = torch.nn.Linear(w.shape[1], len(w))
    with torch.no_grad():
        layer.weight[:], layer.bias[:] = torch.from_numpy(w), torch.from_numpy(b)
    return layer


def plane_module(d: int = D, seed: int = 0):
    """Returns the torch module of :func:`linear`, its weights and its score."""
    _, w, score = linear(d, seed)
    return module(np.stack([-w, w]), np.array([-score(np.zeros(d)), score(np.zeros(d))])), w, score


# --- exact answers ----------------------------------------------------------------------


def test_distances_to_a_plane_are_found():
    model, w, score = linear()
    x = points(12)
    y = (score(x) > 0).astype(int)
    y[3] = 1 - y[3]
    result = medrobust.evaluate(model, x, y, restarts=2, settings={"max_iter": 25}, clip=(-9, 9))
    exact = np.abs(score(x)) / np.linalg.norm(w)
    exact[3] = 0
    found = result.records.groupby("point_id")["l2"].min().to_numpy()
    assert (found >= exact * (1 - 1e-5)).all() and (found <= exact * 1.05 + 1e-9).all()
    assert result.median_distance.value == pytest.approx(np.median(found))
    assert result.mean_distance.value == pytest.approx(found.mean())
    assert result.mean_distance.ci_low < found.mean() < result.mean_distance.ci_high
    options = {"restarts": 2, "settings": {"max_iter": 25}, "clip": (-9, 9), "confidence": 0.5}
    narrow = medrobust.evaluate(model, x, y, **options)
    for name in ("median_distance", "mean_distance"):
        ours, wide = (getattr(one, name) for one in (narrow, result))
        assert ours.value == wide.value
        assert ours.ci_high - ours.ci_low < 0.8 * (wide.ci_high - wide.ci_low)
    assert (result.n, result.misclassified, result.failed_points, result.norm) == (12, 1, 0, "l2")
    assert result.clean_accuracy.value == 11 / 12 and not result.robust_accuracy
    assert result.queries == result.records["queries"].sum() > 12 * 2 * 25


def test_distances_in_the_maximum_norm_are_found():
    model, w, score = linear()
    x = points(6)
    y = (score(x) > 0).astype(int)
    chosen = {"norm": "inf", "max_iter": 25}
    result = medrobust.evaluate(model, x, y, restarts=1, settings=chosen, clip=(-9, 9))
    exact = np.abs(score(x)) / np.abs(w).sum()
    assert result.norm == "linf" and "median distance, Linf" in str(result)
    assert 0.999 * np.median(exact) <= result.median_distance.value <= 1.3 * np.median(exact)


def test_a_radial_boundary_is_found_from_images_and_labels():
    radius, shape = 0.45, (2, 3, 4)

    def model(x):
        assert x.shape[1:] == shape
        return (np.sqrt(((x.astype(float) - 0.5) ** 2).sum(axis=(1, 2, 3))) > radius).astype(int)

    random = np.random.default_rng(0)
    away = random.normal(size=(8, *shape))
    length = np.linspace(0.05, 0.4, 8)
    away *= (length / np.sqrt((away**2).sum(axis=(1, 2, 3))))[:, None, None, None]
    x = (0.5 + away).astype(np.float32)
    result = medrobust.evaluate(
        model, x, model(x), settings={"max_iter": 25}, restarts=1, clip=(-1, 2), n_classes=2
    )
    found = result.records.set_index("point_id")["l2"]
    exact = np.abs(length - radius)
    assert (found >= exact - 1e-5).all() and (found <= 1.08 * exact + 1e-3).all()


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6), epsilon=st.floats(0.01, 0.2))
def test_robust_accuracy_of_a_plane_is_exact(seed, epsilon):
    layer, w, score = plane_module(seed=seed)
    x = points(20, seed=seed)
    y = (score(x) > 0).astype(int)
    y[::9] = 1 - y[::9]
    result = medrobust.evaluate(
        layer, x, y, attack="pgd", epsilon=[epsilon, 2 * epsilon], clip=(-9, 9),
        settings={"num_steps": 12, "step_share": 0.25},
    )  # fmt: skip
    right = (score(x) > 0) == y
    margin = np.abs(score(x)) / np.abs(w).sum()
    for level in (epsilon, 2 * epsilon):
        exact = right & (margin > level)
        decided = np.abs(margin - level) > 1e-4 * level  # rounding decides the others
        found = round(result.robust_accuracy[level].value * len(x))
        assert abs(found - exact.sum()) <= (~decided).sum()
    assert result.median_distance is None and result.mean_distance is None


def test_spsa_breaks_what_the_plane_says_by_scores_alone():
    model, w, score = linear()
    x = points(25)
    y = (score(x) > 0).astype(int)
    chosen = {"num_steps": 15, "step_size": 0.02, "optimizer": "sign", "directions": 128}
    result = medrobust.evaluate(
        model, x, y, attack="spsa", epsilon=0.08, clip=(-9, 9), settings=chosen
    )
    margin = np.abs(score(x)) / np.abs(w).sum()
    share = result.robust_accuracy[0.08].value
    assert (margin > 0.08).mean() <= share <= (margin > 0.07).mean()
    assert 0 < share < 1 and result.gradient_evaluations == 0


def test_noise_breaks_a_point_as_often_as_probability_says():
    x = np.full((40, 1), 0.5, dtype=np.float32)
    result = medrobust.evaluate(
        lambda rows: (rows[:, 0] > 0.58).astype(int), x, np.zeros(40, int),
        attack="uniform_noise", epsilon=0.1, restarts=25, clip=(0, 1),
    )  # fmt: skip
    assert abs(result.records["success"].mean() - 0.1) < 4 * np.sqrt(0.09 / 1000)


# --- estimates --------------------------------------------------------------------------


def test_intervals_are_of_shares_and_the_worst_case_counts_smaller_radii():
    from statsmodels.stats.proportion import proportion_confint

    def ring(x):  # wrong in a ring around the points only: a large step jumps over it
        away = np.abs(x[:, 0].astype(np.float64) - 0.5)
        return ((away > 0.05) & (away < 0.1)).astype(int)

    x = np.full((30, 1), 0.5, dtype=np.float32)
    y = np.zeros(30, int)
    y[:3] = 1
    result = medrobust.evaluate(
        ring, x, y, attack="uniform_noise", epsilon=[0.8, 0.1], restarts=2, clip=(-1, 2),
        confidence=0.9,
    )  # fmt: skip
    assert list(result.robust_accuracy) == [0.1, 0.8]
    broken = result.records.groupby(["epsilon", "point_id"])["success"].any().unstack("epsilon")
    assert (broken[0.1] & ~broken[0.8]).any()
    for accuracies, counts in (
        (result.robust_accuracy, ~broken), (result.worst_case_accuracy, ~broken.cummax(axis=1))
    ):  # fmt: skip
        for level in (0.1, 0.8):
            one, right = accuracies[level], int(counts[level].sum())
            low, high = proportion_confint(right, 30, alpha=0.1, method="agresti_coull")
            assert (one.value, one.ci_low, one.ci_high) == pytest.approx((right / 30, low, high))
    assert "worst case up to epsilon" in str(result) and "90 % interval" in str(result)
    table = result.table()
    assert list(table["measure"]) == [
        "clean accuracy", *["robust accuracy"] * 2, *["worst case up to epsilon"] * 2
    ]  # fmt: skip
    np.testing.assert_array_equal(table["epsilon"], [np.nan, 0.1, 0.8, 0.1, 0.8])
    assert table["value"][0] == 0.9 and (table["n"] == 30).all()


def test_points_without_an_adversarial_example_are_censored_not_dropped():
    def model(x):  # class 1 cannot be left; of class 0, half of the box is on the other side
        return np.where(x[:, 1] > 0.9, 1, (x[:, 0] > 0.5).astype(int) * 2)

    x = points(9)
    x[:, 1] = 0.5
    x[:4] = [0.2, *[0.5] * (D - 1)]
    y = np.array([0] * 4 + [2] * 5)
    x[4:, 0] = 0.7
    unbreakable = medrobust.evaluate(
        lambda rows: np.zeros(len(rows), int), x, np.zeros(9, int), settings=QUICK, restarts=2
    )
    assert unbreakable.failed_points == 9 and unbreakable.failed_runs == 18
    assert unbreakable.median_distance.value is None and unbreakable.mean_distance.value is None
    text = " ".join(str(unbreakable).split())
    assert "no starting point for 18 of 18 runs" in text and "{'start'" not in text
    assert "9 points (18 of 18 runs failed); they count as farther than all others" in text
    assert "above 0.000" in text and "undefined" in text and "unbounded" in text
    broken = medrobust.evaluate(model, x, y, settings=QUICK, restarts=1, clip=(0, 1))
    assert broken.failed_points == 0 and "0 points (0 of 9 runs failed)." in str(broken)
    assert not broken.notes
    assert np.isnan(unbreakable.table()["value"][1:]).all()
    assert (unbreakable.table()["censored"] == [0, 9, 9]).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_nearest_adversarial_examples_are_kept_in_the_order_of_the_points(norm):
    layer, _, score = plane_module()
    x = points(20)
    y = (score(x) > 0).astype(int)
    y[3] = 1 - y[3]
    ids = np.random.default_rng(0).permutation(20) + 5
    radii = [0.12, 0.02, 0.06] if norm == "linf" else [0.3, 0.05, 0.15]
    result = medrobust.evaluate(
        layer, x, y, attack="pgd", epsilon=radii, restarts=2, clip=(-9, 9), point_ids=ids,
        settings={"norm": norm, "num_steps": 6, "step_share": 0.4},
    )  # fmt: skip
    smallest = result.records.groupby("point_id")[norm].min().loc[ids].to_numpy()
    lost = np.isnan(smallest)
    assert 0 < lost.sum() < 19 and np.isnan(result.x_adv[lost]).all()
    step = np.abs(result.x_adv.astype(np.float64) - x)
    found = step.max(axis=1) if norm == "linf" else np.sqrt((step**2).sum(axis=1))
    np.testing.assert_allclose(found[~lost], smallest[~lost], rtol=1e-12)
    assert (result.x_adv[3] == x[3]).all() and result.x_adv.dtype == np.float32
    kept = result.x_adv[~lost]
    assert ((score(kept) > 0) != y[~lost])[np.abs(score(kept)) > 1e-5].all()
    boundary = medrobust.evaluate(layer, x, y, settings=QUICK, restarts=2, clip=(-9, 9))
    step = np.sqrt(((boundary.x_adv.astype(np.float64) - x) ** 2).sum(axis=1))
    assert np.median(step) == pytest.approx(boundary.median_distance.value)


# --- the same as the workflow -----------------------------------------------------------


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A data set, a network, and a function that runs the attack job on them."""
    folder = tmp_path_factory.mktemp("job")
    random = np.random.default_rng(0)
    x = random.random((40, 4)).astype(np.float32)
    x[0], x[1] = 0, 1
    parameters = mlp.initial_parameters(mlp.Spec(hidden_units=8), (4,), 3, [0])
    members = [str(folder / "members.safetensors")]
    io.write_tensors(members[0], {name: 6 * values for name, values in parameters.items()})
    io.write_array(folder / "x.npy", x)
    io.write_array(folder / "y.npy", np.arange(len(x)) % 3)
    write_split(folder / "split_fold0.csv", range(5), range(5, 10), range(10, len(x)))
    card = {"name": "d", "class_names": list("abc"), "input_range": [0, 1], "shape": list(x.shape)}
    io.write_json(folder / "card.json", card | {"dtype": "float32"})
    model = {"architecture": {"name": "mlp", "hidden_units": 8}, "vote": "soft"}
    ensemble = load_ensemble(members, model, load_dataset(folder), "cpu")
    ids = np.array([31, 12, 25, 14, 39, 20])
    y = ensemble.predict(x)
    y[12] = (y[12] + 1) % 3
    cohort = pd.DataFrame({"position": range(6), "point_id": ids, "label": y[ids], "start_id": -1})
    io.write_table(folder / "cohort.csv", cohort)

    def run(**attack):
        attack_chunk(
            data=str(folder), members=members,
            evaluated=evaluated_by(folder / "clean.json", members),
            cohort=str(folder / "cohort.csv"),
            records=str(folder / "r.parquet"), arrays=str(folder / "a.safetensors"),
            timing=str(folder / "t.json"), model=model,
            attack={**attack, "clip_min": 0.0, "clip_max": 1.0}, points=(0, 6), names=[], seed=7,
            device="cpu", compute_threads=1, code="c", progress_dir=str(folder / "progress"),
        )  # fmt: skip
        return record_files.read_records(folder / "r.parquet")

    return run, ensemble, {"x": x[ids], "y": y[ids], "point_ids": ids, "seed": 7, "clip": (0, 1)}


def read_again(frame: pd.DataFrame, tmp_path) -> pd.DataFrame:
    record_files.save_records(tmp_path / "own.parquet", frame)
    return record_files.read_records(tmp_path / "own.parquet")


def test_records_of_hopskipjump_are_those_of_a_job(job, tmp_path):
    run, ensemble, given_points = job
    expected = run(name="hopskipjump", restarts=2, **QUICK)
    for model in (ensemble, ensemble.predict):
        result = medrobust.evaluate(model, **given_points, settings=QUICK, restarts=2)
        pd.testing.assert_frame_equal(read_again(result.records, tmp_path), expected)
    assert expected["success"].sum() > 0 and result.misclassified == 1


def test_records_of_pgd_are_those_of_a_job(job, tmp_path):
    run, ensemble, given_points = job
    expected = run(
        name="pgd", num_steps=5, restarts=2, keep_arrays=0,
        grid={"epsilon": [0.05, 0.2], "loss": ["cross_entropy", "margin"]},
    )  # fmt: skip
    result = medrobust.evaluate(
        ensemble, **given_points, attack="pgd", epsilon=[0.05, 0.2], restarts=2,
        settings={"num_steps": 5, "loss": ["cross_entropy", "margin"]},
    )  # fmt: skip
    pd.testing.assert_frame_equal(read_again(result.records, tmp_path), expected)
    assert set(expected["success"]) == {True, False}


def test_a_point_has_the_same_records_whatever_the_other_points_and_radii(job):
    _, ensemble, given_points = job
    options = {"attack": "uniform_noise", "restarts": 5, "n_classes": 3}
    whole = medrobust.evaluate(
        ensemble.predict, **given_points, **options, epsilon=[0.1, 0.3]
    ).records
    few = {**given_points, **{name: given_points[name][2:4] for name in ("x", "y", "point_ids")}}
    alone = medrobust.evaluate(ensemble.predict, **few, **options, epsilon=np.float64(0.3)).records
    chosen = whole[whole["point_id"].isin(few["point_ids"]) & (whole["epsilon"] == 0.3)]
    pd.testing.assert_frame_equal(alone, chosen.reset_index(drop=True))
    other = medrobust.evaluate(
        ensemble.predict, **{**few, "seed": 8}, **options, epsilon=0.3
    ).records
    assert (other["seed"] != alone["seed"]).all()


# --- one model in several forms ---------------------------------------------------------


def test_a_classifier_is_its_own_callable():
    from sklearn.linear_model import LogisticRegression

    x = points(40)
    truth = (linear()[2](x) > 0).astype(int)
    numbers = LogisticRegression(C=100).fit(x, truth)
    names = LogisticRegression(C=100).fit(x, np.array(["N", "V"])[truth])
    options = {"settings": QUICK, "restarts": 1, "clip": (0, 1)}
    results = [
        medrobust.evaluate(numbers, x[:8], truth[:8], **options),
        medrobust.evaluate(numbers.predict, x[:8], truth[:8], **options),
        medrobust.evaluate(names, x[:8], np.array(["N", "V"])[truth[:8]], **options),
    ]
    for result in results[1:]:
        pd.testing.assert_frame_equal(result.records, results[0].records)
    assert results[2].classes == ("N", "V") and "0 is N, 1 is V" in str(results[2])
    with pytest.raises(InputError, match="labels are none of the classifier's classes"):
        medrobust.evaluate(names, x[:2], truth[:2], **options)


def test_a_module_is_its_copy_in_numpy():
    import torch

    torch.manual_seed(0)
    hidden, last = torch.nn.Linear(D, 12), torch.nn.Linear(12, 3)
    network = torch.nn.Sequential(hidden, torch.nn.ReLU(), last)
    arrays = [p.detach().numpy().astype(np.float64) for p in network.parameters()]

    def copy(x):
        return np.maximum(x @ arrays[0].T + arrays[1], 0) @ arrays[2].T + arrays[3]

    x = points(10)
    y = copy(x).argmax(axis=1)
    # Rounding of a label turns a run's way: distances are near, not equal.
    results = [
        medrobust.evaluate(model, x, y, settings={"max_iter": 15}, restarts=1, clip=(-3, 4))
        for model in (network, copy)
    ]
    first, second = (result.records["l2"].to_numpy() for result in results)
    np.testing.assert_allclose(first, second, rtol=0.1)
    assert np.median(first) == pytest.approx(np.median(second), rel=0.03)


def test_a_module_is_left_as_it_was():
    import torch

    layer, _, score = plane_module()
    network = torch.nn.Sequential(torch.nn.Dropout(0.9), layer)
    x = points(10)
    y = (score(x) > 0).astype(int)
    options = {"attack": "pgd", "epsilon": 0.05, "clip": (0, 1)}
    result = medrobust.evaluate(network, x, y, **options)
    assert network.training and network[0].training
    assert result.clean_accuracy.value == 1.0
    assert result.gradient_evaluations == result.records["gradient_evaluations"].sum() > 0
    with pytest.raises(InputError):
        medrobust.evaluate(network, x, y + 1, **options)
    assert network.training and network[0].training
    network.eval()
    with torch.inference_mode():
        again = medrobust.evaluate(network, torch.from_numpy(x), torch.from_numpy(y), **options)
        assert torch.is_inference_mode_enabled()
    assert not network.training
    with torch.no_grad():
        medrobust.evaluate(network, x, y, **options)
        assert not torch.is_grad_enabled()
    pd.testing.assert_frame_equal(again.records, result.records)


def test_gradients_that_vanish_are_told():
    import torch

    class Steps(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = plane_module()[0]

        def forward(self, rows):
            scores = self.layer(rows)
            return scores.sign() + 0 * scores

    x, score = points(10), linear()[2]
    y = (score(x) > 0).astype(int)
    result = medrobust.evaluate(Steps(), x, y, attack="pgd", epsilon=0.3, clip=(-9, 9))
    lost = int(result.records["steps_without_gradient"].sum())
    assert lost == result.records["iterations"].sum() > 0
    assert f"exactly 0, or not finite, at {lost:,} of {lost:,} steps" in result.notes[0]
    assert "Note: The gradient" in str(result)
    sound = medrobust.evaluate(plane_module()[0], x, y, attack="pgd", epsilon=0.3, clip=(-9, 9))
    assert not sound.notes and sound.robust_accuracy[0.3].value < result.robust_accuracy[0.3].value


# --- what is refused --------------------------------------------------------------------


def never(x):
    raise AssertionError("the model was asked although the input is wrong")


BAD_NUMBER = points(4)
BAD_NUMBER[2, 1] = np.nan
BEFORE_THE_MODEL_IS_ASKED = [
    ({"x": BAD_NUMBER}, r"NaN or infinite values.*row\(s\) 2"),
    ({"x": np.full((4, D), 1e39)}, "NaN or infinite"),
    ({"x": points(4)[:, 0]}, r"points of one value each are x\[:, None\]"),
    ({"x": points(4)[:0]}, "at least one point"),
    ({"x": points(4).astype(str)}, "expected real numbers"),
    ({"x": np.ones((4, D))}, "give clip="),
    ({"clip": (0.3, 0.6)}, "outside the clip box"),
    ({"clip": (1, 0)}, "outside the clip box"),
    ({"clip": 1}, "must be two numbers"),
    ({"clip": (0, np.nan)}, "outside the clip box"),
    ({"attack": "hopskipjumpp"}, "Did you mean 'hopskipjump'"),
    ({"settings": {"max_itr": 3}}, "unknown key 'max_itr'. Did you mean 'max_iter'"),
    ({"settings": {"restarts": 3}, "restarts": 2}, "restarts is given by the argument"),
    ({"settings": {"clip_min": 0.0}}, "clip_min is given by the argument `clip`"),
    ({"settings": ["max_iter"]}, "must be names and values"),
    ({"epsilon": 0.1}, "hopskipjump has no radius.*leave epsilon out"),
    ({"attack": "pgd"}, "pgd needs the radius.*give epsilon"),
    ({"attack": "pgd", "epsilon": []}, "one value, or a list"),
    ({"attack": "pgd", "epsilon": [[0.1], [0.2]]}, "one value, or a list"),
    ({"attack": "pgd", "epsilon": {"a": 0.1}}, "valid number"),
    ({"attack": "pgd", "epsilon": np.nan}, "finite number"),
    ({"attack": None}, "Unknown attack None"),
    ({"attack": "pgd", "epsilon": [0.1, 0.1]}, "each once"),
    ({"attack": "pgd", "epsilon": [0.1, -0.1]}, "greater than 0"),
    ({"attack": "pgd", "epsilon": "big"}, "valid number"),
    ({"restarts": 0}, "restarts: .*greater than or equal to 1"),
    ({"confidence": 95}, "confidence must lie between 0 and 1"),
    ({"seed": -1}, "integer from 0 on"),
    ({"seed": True}, "integer from 0 on"),
    ({"batch_size": 0}, "integer from 1 on"),
    ({"n_classes": "3"}, "integer from 2 on"),
    ({"point_ids": [0, 1, 1, 2]}, "4 different integers"),
    ({"point_ids": [0, 1, 2]}, "4 different integers"),
]


@pytest.mark.parametrize(("change", "told"), BEFORE_THE_MODEL_IS_ASKED)
def test_wrong_input_is_refused_before_the_model_is_asked(change, told):
    arguments = {"x": points(4), "y": [0, 1, 0, 1]} | change
    with pytest.raises(InputError, match=f"(?s){told}"):
        medrobust.evaluate(never, **arguments)


@pytest.mark.parametrize(
    ("y", "told"),
    [
        ([0, 1, 0], r"labels have shape \(3,\); there are 4 points"),
        (np.eye(4), r"of one-hot rows y.argmax\(axis=1\)"),
        ([0.0, 1.0, 0.0, 1.0], "labels are of type float64"),
        (["N", "V", "N", "N"], "labels are of type"),
        ([0, 1, 2, 1], "labels run from 0 to 2; the model's classes are 0 to 1"),
        ([0, 1, -1, 1], "labels run from -1 to 1"),
    ],
)
def test_wrong_labels_are_refused(y, told):
    with pytest.raises(InputError, match=told):
        medrobust.evaluate(linear()[0], points(4), y)


def test_attacks_say_what_a_model_lacks():
    x, score = points(4), linear()[2]
    y = (score(x) > 0).astype(int)
    with pytest.raises(InputError, match=r"(?s)pgd needs gradients.*spsa.*hopskipjump"):
        medrobust.evaluate(linear()[0], x, y, attack="pgd", epsilon=0.1)
    with pytest.raises(InputError, match=r"(?s)spsa needs scores.*hopskipjump"):
        medrobust.evaluate(lambda r: (score(r) > 0) * 1, x, y, attack="spsa", epsilon=0.1)


# --- what is shown ----------------------------------------------------------------------


def test_the_text_says_what_the_numbers_rest_on():
    layer, _, score = plane_module()
    x = points(30)
    y = (score(x) > 0).astype(int)
    y[0] = 1 - y[0]
    result = medrobust.evaluate(layer, x, y, attack="pgd", epsilon=[0.02, 0.1], seed=3)
    text = " ".join(str(result).split())
    for said in (
        "pgd, 1 restart: 30 points of 6 values",
        "Misclassified without attack: 1 of 30 points, counted as broken at every epsilon.",
        "over the 30 points given; one model, not trained again.",
        f"Spent: {result.queries:,} queries and {result.gradient_evaluations:,} gradients",
        "the range of the points (`clip` was not given)",
        "loss cross_entropy, seed 3.",
    ):
        assert said in text
    assert f"clean accuracy {29 / 30:.3f}" in text and repr(result) == str(result)
    assert max(map(len, str(result).splitlines())) <= 100
    one = medrobust.evaluate(layer, x[1:2], y[1:2], settings=QUICK, clip=(0, 1))
    assert "10 restarts: 1 point of 6 values" in str(one) and "one point" in str(one)
    assert "[0, 1]." in str(one)


def test_probabilities_are_told_where_an_attack_asks_for_logits():
    model, _, score = linear()
    x = points(5)
    y = (score(x) > 0).astype(int)

    def shares(rows):
        return 1 / (1 + np.exp(-2 * model(rows)))

    options = {"attack": "spsa", "epsilon": 0.1, "settings": {"num_steps": 2, "directions": 8}}
    told = medrobust.evaluate(shares, x, y, **options)
    assert "scores are probabilities; their logarithms" in " ".join(told.notes)
    assert not medrobust.evaluate(model, x, y, **options).notes
    assert not medrobust.evaluate(shares, x, y, attack="uniform_noise", epsilon=0.1).notes


def test_the_model_is_first_asked_about_the_points_themselves():
    asked = []

    def model(rows):
        asked.append(rows.copy())
        return (linear()[2](rows) > 0).astype(int)

    x = points(3)
    medrobust.evaluate(model, x, model(x), attack="uniform_noise", epsilon=0.1, clip=(0.1, 0.9))
    first = asked[1]
    assert (first[:3] == x).all() and first.shape == (64, D)
    assert first.min() >= np.float32(0.1) and first.max() <= np.float32(0.9)
    assert len(np.unique(first, axis=0)) == 64


def test_a_notebook_shows_the_same_and_escapes_names():
    from sklearn.linear_model import LogisticRegression

    x = points(20)
    y = np.array(["a<b>", "c&d"])[(linear()[2](x) > 0).astype(int)]
    model = LogisticRegression(C=100).fit(x, y)
    result = medrobust.evaluate(model, x, y, attack="uniform_noise", epsilon=0.1)
    page = result._repr_html_()
    assert "0 is a&lt;b&gt;, 1 is c&amp;d" in page and "<b>" not in page.replace("<p><b>", "")
    for number in ("robust accuracy", f"{result.robust_accuracy[0.1].value:.3f}", "95 % interval"):
        assert number in page


def test_progress_is_told_and_the_log_is_left_as_it_was(capsys):
    class Sink:
        done = ()

        def update(self, done, note=""):
            self.done += (done,)

    x, score = points(5), linear()[2]
    y = (score(x) > 0).astype(int)
    options = {"attack": "uniform_noise", "epsilon": [0.1, 0.2], "restarts": 2}
    sink = Sink()
    quiet = medrobust.evaluate(linear()[0], x, y, **options, progress=sink)
    assert sink.done[-1] == 10 and list(sink.done) == sorted(sink.done)
    assert capsys.readouterr() == ("", "")
    handlers, level = list(logger.handlers), logger.level
    told = medrobust.evaluate(linear()[0], x, y, **options, progress=True)
    assert "5 points, up to about 30 queries" in capsys.readouterr().err
    assert (logger.handlers, logger.level) == (handlers, level)
    pd.testing.assert_frame_equal(told.records, quiet.records)


def test_importing_the_package_is_cheap():
    code = (
        "import sys, medrobust; heavy = {'numpy', 'pandas', 'torch', 'numba', 'scipy', 'sklearn'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules);"
        "assert callable(medrobust.evaluate) and 'torch' not in sys.modules;"
        "assert 'numba' not in sys.modules; medrobust.evaluat"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert "AttributeError: module 'medrobust' has no attribute 'evaluat'" in done.stderr
