"""Probabilities beside predictions: of ensembles, in records, and what follows from them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from medrobust.attacks import pgd, run_attack
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.evaluation import binary
from medrobust.evaluation.outcomes import broken_by_other, outcomes_of, read_scores
from medrobust.evaluation.probabilities import (
    check_probabilities,
    class_probabilities,
    kept_probabilities,
    probability_columns,
)
from medrobust.evaluation.records import read_records, records_from_result, save_records
from medrobust.models.ensembles import Ensemble
from sklearn.metrics import roc_auc_score

from tests.gradient_models import ensemble_of, points_of, relu_module, seeds_for
from tests.unit.attack_records import clean_table, level_records

D = 9


def ensemble(scores, *, kind="logits", vote="soft") -> Ensemble:
    """Returns members whose scores are the same everywhere, float32 ``[M, c]``."""
    scores = np.asarray(scores, dtype=np.float32)
    return Ensemble(
        lambda x: np.repeat(scores[:, None], len(x), axis=1), kind=kind, vote=vote,
        input_shape=(D,), n_classes=scores.shape[1], input_range=(0.0, 1.0),
    )  # fmt: skip


X = points_of(3, D)
LOGITS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def test_of_a_soft_vote_it_is_the_mean_probability():
    expected = torch.softmax(torch.from_numpy(LOGITS).double(), 1).mean(0).numpy()
    found = class_probabilities(ensemble(LOGITS), X)
    assert found.shape == (3, 3) and found.dtype == np.float64
    np.testing.assert_allclose(found, np.tile(expected, (3, 1)), rtol=1e-6)
    assert (found.argmax(axis=1) == ensemble(LOGITS).predict(X)).all()


def test_of_a_majority_it_is_the_share_of_the_members():
    found = class_probabilities(ensemble(LOGITS, vote="majority"), X)
    expected = np.bincount(LOGITS.argmax(axis=1), minlength=3) / 5
    np.testing.assert_array_equal(found, np.tile(expected, (3, 1)))
    # A single member has probabilities of its own, whatever the vote.
    alone = class_probabilities(ensemble(LOGITS[:1], vote="majority"), X)
    np.testing.assert_array_equal(alone, class_probabilities(ensemble(LOGITS[:1]), X))
    assert not np.isin(alone, [0, 1]).any()


def test_members_may_vote_for_several_classes():
    votes = np.array([[1, 1], [0, 1], [0, 0], [1, 0]])
    found = class_probabilities(ensemble(votes, kind="votes", vote="majority"), X)
    np.testing.assert_array_equal(found, np.full((3, 2), 0.5))
    one = class_probabilities(ensemble(votes[:1], kind="votes", vote="majority"), X)
    np.testing.assert_array_equal(one, np.ones((3, 2)))


def attacked(epsilon: float, *, early_stop: bool = False, restarts: int = 1):
    model = ensemble_of(relu_module(D, 2, seed=1), D, 2)
    x = points_of(60, D)
    y = model.predict(x)
    y[::6] = 1 - y[::6]  # misclassified without attack
    spec = pgd.Spec(
        epsilon=epsilon, num_steps=5, step_share=0.3, clip_min=0.0, clip_max=1.0,
        early_stop=early_stop, restarts=restarts,
    )  # fmt: skip
    result = run_attack("pgd", model, x, y, spec, seeds_for(60, restarts))
    ids = np.arange(60) + 100
    records = records_from_result(model, x, y, ids, result, spec, (0, 1), probabilities=True)
    clean = clean_table(y, model.predict(x), ids)
    clean[probability_columns(2)] = class_probabilities(model, x)
    return model, x, y, result, records, clean


def test_records_have_those_of_the_last_row_and_clean_ones_of_wrong_points(tmp_path):
    model, x, y, result, records, clean = attacked(0.1)
    rows = np.where((model.predict(x) != y)[:, None], x, result.x_adv[:, 0])
    expected = class_probabilities(model, rows)
    np.testing.assert_array_equal(records[["probability_0", "probability_1"]], expected)
    assert (expected.argmax(axis=1) == records["adversarial_prediction"]).all()
    assert 5 < records["success"].sum() < 55
    np.testing.assert_array_equal(records["probability_1"][::6], clean["probability_1"][::6])
    # The area under the curve follows from records alone.
    auc = binary.auc((records["label"] == 1).to_numpy(), records["probability_1"].to_numpy())
    assert auc == pytest.approx(roc_auc_score(y, expected[:, 1]))
    save_records(tmp_path / "r.parquet", records)
    pd.testing.assert_frame_equal(read_records(tmp_path / "r.parquet"), records)
    io.write_table(tmp_path / "r.csv", records)
    pd.testing.assert_frame_equal(read_records(tmp_path / "r.csv"), records)


def test_without_being_asked_nothing_is_kept(tmp_path):
    model, x, y, result, records, _ = attacked(0.1)
    spec = pgd.Spec(epsilon=0.1, clip_min=0.0, clip_max=1.0)
    plain = records_from_result(model, x, y, np.arange(60) + 100, result, spec, (0, 1))
    assert kept_probabilities(plain) == [] and kept_probabilities(records) == probability_columns(2)
    pd.testing.assert_frame_equal(records.drop(columns=probability_columns(2)), plain)
    save_records(tmp_path / "r.parquet", plain)
    assert not {"target", *probability_columns(2)} & set(io.read_table(tmp_path / "r.parquet"))


def test_a_run_without_a_row_has_none():
    model, x, y, result, _, _ = attacked(0.1)
    result.x_adv[7, 0, 2] = np.nan
    spec = pgd.Spec(epsilon=0.1, clip_min=0.0, clip_max=1.0)
    records = records_from_result(
        model, x, y, np.arange(60), result, spec, (0, 1), probabilities=True
    )
    assert records["probability_1"].isna().tolist() == [k == 7 for k in range(60)]


def test_outcomes_hold_what_the_area_under_the_curve_needs(tmp_path):
    _, _, y, _, small, clean = attacked(0.05, restarts=3)
    *_, large, _ = attacked(0.2, restarts=3)
    records = pd.concat([small, large], ignore_index=True)
    outcomes = outcomes_of(records, clean)
    plain = outcomes_of(records)
    pd.testing.assert_frame_equal(outcomes[list(plain)], plain)
    io.write_table(tmp_path / "o.parquet", outcomes)
    for level, table in ((0.05, small), (0.2, large)):
        positive, probability = read_scores(tmp_path / "o.parquet", level, 1)
        np.testing.assert_array_equal(positive, y == 1)
        # Of three runs the one that leaves the label the least.
        of_one = table.pivot(index="point_id", columns="restart", values="probability_1")
        expected = np.where(y == 1, of_one.min(axis=1), of_one.max(axis=1))
        np.testing.assert_array_equal(probability, expected)
        broken = (probability > 0.5) != (y == 1)
        np.testing.assert_array_equal(broken, outcomes[f"{level:g}"])
    _, probability = read_scores(tmp_path / "o.parquet", 0.0, 1)
    np.testing.assert_array_equal(probability, clean["probability_1"])
    _, other = read_scores(tmp_path / "o.parquet", 0.2, 0)
    np.testing.assert_allclose(other, 1 - read_scores(tmp_path / "o.parquet", 0.2, 1)[1])
    assert read_scores(tmp_path / "o.parquet", 0.3, 1) is None
    # Comparing attacks knows the columns of levels from those of probabilities.
    assert broken_by_other([outcomes], outcomes) == broken_by_other([plain], plain) == {}
    none = outcomes.assign(**{"0.05": False, "0.2": False})
    found, expected = (broken_by_other([none], one) for one in (outcomes, plain))
    assert found == expected and set(found) == {"0.05", "0.2"}


def test_outcomes_without_probabilities_are_as_they_were(tmp_path):
    y = np.arange(8) % 2
    clean = clean_table(y, y)
    records = level_records(clean, {0.1: 1 - y})
    outcomes = outcomes_of(records, clean)
    assert list(outcomes) == ["point_id", "correct", "0.1"]
    io.write_table(tmp_path / "o.parquet", outcomes)
    for path in (tmp_path / "o.parquet", tmp_path / "none.parquet"):
        with pytest.raises(InputError, match="no probabilities") as error:
            read_scores(path, 0.1, 1)
        assert "keep_probabilities: true" in error.value.remedy


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"probability_1": [0.1, 0.2]}, "none of probability_0"),
        ({"probability_0": [0.1, 1.2], "probability_1": [0.1, 0.2]}, "probability_0 holds others"),
        ({"probability_0": ["a", "b"]}, "probability_0 holds others"),
    ],
)
def test_columns_that_are_no_probabilities_are_refused(columns, message):
    with pytest.raises(InputError, match=message) as error:
        check_probabilities(pd.DataFrame(columns), where="file")
    assert error.value.where == "file"
    *_, records, _ = attacked(0.1)
    wrong = records.drop(columns=probability_columns(2)).head(2).assign(**columns)
    with pytest.raises(InputError, match="not complete"):
        save_records("nowhere.parquet", wrong)
