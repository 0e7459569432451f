"""Where attacks from given points begin: one start for all models, or a model's own."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from medrobust.attacks import run_attack
from medrobust.attacks.engine.spec import HopSkipJumpSpec
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.evaluation.given_starts import NO_START, choose_start, given_starts, with_starts
from medrobust.evaluation.records import read_records, records_from_result, save_chunk
from medrobust.jobs.evaluate import choose_cohort
from medrobust.reporting.attack_checks import warnings_of
from medrobust.reporting.request import Entry

CLASSES = 3
tables = st.integers(1, 8).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, CLASSES - 1), min_size=n, max_size=n),
        st.lists(
            st.lists(st.integers(0, CLASSES - 1), min_size=n, max_size=n), min_size=1, max_size=3
        ),
        st.permutations(range(n)),
        st.integers(0, CLASSES - 1),
        st.none() | st.integers(0, CLASSES - 1),
    )
)


@given(tables)
def test_a_start_is_the_first_of_the_best(table):
    labels, predictions, order, label, target = table
    found = choose_start(np.array(labels), np.array(predictions), np.array(order), label, target)

    def serves(row):
        return sum((p[row] != label) if target is None else (p[row] == target) for p in predictions)

    plain = [
        row
        for row in order
        if labels[row] != label
        and all(p[row] == labels[row] for p in predictions)
        and serves(row) == len(predictions)
    ]
    if plain:
        assert found == plain[0]
        return
    most = max(map(serves, order))
    best = [row for row in order if serves(row) == most]
    of_others = [row for row in best if labels[row] != label]
    assert found == (NO_START if most == 0 else (of_others or best)[0])


class Threshold:
    """Class 1 where the first value is above ``at``."""

    n_classes, input_shape, fixed_shape = 2, (3,), True

    def __init__(self, at):
        self.at = at

    def predict(self, x):
        return (x[:, 0] > self.at).astype(np.int64)


X = np.linspace(0.05, 0.95, 10, dtype=np.float32)[:, None] * np.ones(3, dtype=np.float32)
Y = (X[:, 0] > 0.5).astype(np.int64)
#: Test points are rows 2 to 9.
DATA = SimpleNamespace(
    test_index=np.arange(2, 10), x_test=X[2:], y_test=Y[2:], points=lambda ids: X[ids].copy()
)
COHORT = pd.DataFrame({"point_id": [2, 9, 3], "label": [0, 1, 0], "start_id": [6, 4, 6]})


def test_a_model_that_does_not_misclassify_the_common_start_takes_its_own():
    starts = given_starts(Threshold(0.5), DATA, COHORT)
    assert starts.ids.tolist() == [6, 4, 6] and starts.shared.all()
    # It calls row 6 (0.65) by class 0: the first of class 1 that it calls so is row 8.
    starts = given_starts(Threshold(0.8), DATA, COHORT)
    assert starts.ids.tolist() == [8, 4, 8] and starts.shared.tolist() == [False, True, False]
    np.testing.assert_array_equal(starts.x, X[[8, 4, 8]])
    # It calls everything class 0: nothing to begin at.
    starts = given_starts(Threshold(2.0), DATA, COHORT)
    assert starts.ids.tolist() == [NO_START, 4, NO_START]
    np.testing.assert_array_equal(starts.x[[0, 2]], X[[2, 3]])


def test_a_targeted_attack_begins_in_its_target():
    cohort = COHORT.assign(start_id=[6, 6, -1])
    starts = given_starts(Threshold(0.5), DATA, cohort.iloc[[0, 2]], target=1)
    assert starts.ids.tolist() == [6, 5] and starts.shared.tolist() == [True, False]


def attacked(model, tmp_path):
    spec = HopSkipJumpSpec(max_iter=2, restarts=2, clip_min=0.0, clip_max=1.0, start="fixed")
    ids = COHORT["point_id"].to_numpy()
    x, y = X[ids], COHORT["label"].to_numpy()
    starts = given_starts(model, DATA, COHORT)
    seeds = np.arange(6).reshape(3, 2)
    result = run_attack("hopskipjump", model, x, y, spec, seeds, x_start=starts.x)
    frame = records_from_result(model, x, y, ids, result, spec, (0, 1))
    frame = with_starts(frame, ids, starts)
    file = tmp_path / "records.parquet"
    save_chunk(file, tmp_path / "a", records=frame, x=x, point_ids=ids, result=result)
    return file, result


def test_records_say_where_an_attack_began(tmp_path):
    file, result = attacked(Threshold(0.8), tmp_path)
    records = read_records(file).set_index(["point_id", "restart"])
    assert records["start_id"].unstack().to_numpy().tolist() == [[8, 8], [8, 8], [4, 4]]
    assert records["start_shared"].groupby("point_id").all().tolist() == [False, False, True]
    assert records["success"].all()
    # Restarts differ by their seeds although they begin at one point.
    assert (result.x_adv[:, 0] != result.x_adv[:, 1]).any()


def test_a_model_without_a_start_is_censored(tmp_path):
    file, _ = attacked(Threshold(2.0), tmp_path)
    records = read_records(file)
    of_class_0 = records[records["label"] == 0]
    assert not of_class_0["success"].any() and not of_class_0["init_ok"].any()
    assert of_class_0[["l2", "start_id", "start_shared"]].isna().all().all()
    # It misclassifies the point of class 1 without attack.
    wrong = records[records["label"] == 1]
    assert (wrong["l2"] == 0).all() and wrong["start_id"].isna().all()


def test_records_of_drawn_starts_have_no_such_columns(tmp_path):
    spec = HopSkipJumpSpec(max_iter=1, restarts=1, clip_min=0.0, clip_max=1.0)
    model, ids = Threshold(0.5), np.array([2])
    result = run_attack("hopskipjump", model, X[ids], Y[ids], spec, np.array([[1]]))
    frame = records_from_result(model, X[ids], Y[ids], ids, result, spec, (0, 1))
    file = tmp_path / "r.parquet"
    save_chunk(file, tmp_path / "a", records=frame, x=X[ids], point_ids=ids, result=result)
    assert not {"start_id", "start_shared"} & set(io.read_table(file))
    assert read_records(file)["start_id"].isna().all()


@pytest.mark.parametrize("others", [False, True])
def test_captions_name_models_that_began_elsewhere(tmp_path, others):
    folder = tmp_path / "x"
    folder.mkdir()
    file, _ = attacked(Threshold(0.8), folder)
    entry = Entry("Chest X-ray", "MLP", "subset", 0, records=[str(file)])
    facts = {"name": "hopskipjump", "start": "blended", "others": {"tiles": {"start": "fixed"}}}
    facts = facts if others else {"name": "hopskipjump", "start": "fixed"}
    (said,) = warnings_of([entry], {"hopskipjump": facts})
    assert "start of their own: MLP on Chest X-ray at 2 points." in said
    assert warnings_of([entry], {"hopskipjump": {"name": "hopskipjump", "start": "random"}}) == ()


def cohort_of(tmp_path, predictions, labels, points=1, **settings):
    files = []
    for name, predicted in predictions.items():
        frame = {"point_id": np.arange(100, 100 + len(labels)), "label": labels}
        io.write_table(
            tmp_path / f"{name}.parquet", pd.DataFrame(frame | {"prediction": predicted})
        )
        files.append(str(tmp_path / f"{name}.parquet"))
    choose_cohort(
        predictions=files, models=list(predictions), cohort=str(tmp_path / "c.csv"), points=points,
        select="all_correct", names=["s", "tiles@standin", 0], seed=1, **settings,
    )  # fmt: skip
    return pd.read_csv(tmp_path / "c.csv")


def test_a_cohort_without_points_says_who_disagrees(tmp_path):
    answers = {"a": [0, 0, 1, 0], "b": [1, 1, 0, 1], "c": [0, 0, 1, 1]}
    with pytest.raises(
        InputError, match=r"by each: a 3, b 1, c 4\. a and b disagree the most"
    ) as e:
        cohort_of(tmp_path, answers, [0, 0, 1, 1], points=1)
    assert "both are right on 0" in str(e.value)


def test_where_no_point_is_a_start_for_all_the_most_decide(tmp_path, caplog):
    # Of class 1 each model but c knows a point; no point is called 1 by all.
    answers = {"a": [0, 1, 0, 1], "b": [0, 0, 1, 1], "c": [0, 0, 0, 0]}
    found = cohort_of(tmp_path, answers, [0, 1, 1, 1], fixed_starts=True)
    assert found[["point_id", "start_id"]].to_numpy().tolist() == [[100, 103]]
    assert "c will begin at starts of their own" in caplog.text


def test_no_start_at_all_stops_where_an_attack_needs_one(tmp_path):
    answers = {"a": [0, 0], "b": [0, 0]}
    assert cohort_of(tmp_path, answers, [0, 1])["start_id"].tolist() == [-1]
    with pytest.raises(InputError, match=r"No test point of tiles@standin(?s:.*)a, b call all"):
        cohort_of(tmp_path, answers, [0, 1], fixed_starts=True)
