"""Generated ECG: the right shape, repeatable, learnable but not trivial, marked."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
from medrobust.core.errors import InputError
from medrobust.data.prepared.audit import audit
from medrobust.data.prepared.near_duplicates import duplicate_groups, row_hashes
from medrobust.data.prepared.store import Prepared
from medrobust.data.standins.ecg import ecg_standin

FIVE = ["N", "S", "V", "F", "Q"]


@pytest.fixture(scope="module")
def five() -> Prepared:
    return ecg_standin(1200, 400, FIVE, seed=3)


def test_shape_range_and_padding(five: Prepared) -> None:
    assert five.x.shape == (1600, 187) and five.x.dtype == np.float32 and five.synthetic
    assert five.x.min() == 0 and five.x.max() == 1
    assert (five.x.max(axis=1) == 1).all() and (five.x.min(axis=1) == 0).all()
    length = 187 - (five.x[:, ::-1] > 0).argmax(axis=1)
    assert length.min() >= 39 and np.median(length) < 150 and (length < 187).mean() > 0.9
    assert [len(part) for part in five.folds[0]] == [1200, 0, 400]
    for part in (five.folds[0][0], five.folds[0][2]):
        assert (np.bincount(five.y[part], minlength=5) > 0).all()


def test_the_seed_decides_everything(five: Prepared) -> None:
    same, other = (ecg_standin(1200, 400, FIVE, seed=s) for s in (3, 4))
    assert np.array_equal(five.x, same.x) and np.array_equal(five.y, same.y)
    assert not np.array_equal(five.x, other.x)
    assert not duplicate_groups(np.concatenate([five.x, other.x]))


def balanced_accuracy(data: Prepared) -> float:
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.neural_network import MLPClassifier

    train, _, test = data.folds[0]
    network = MLPClassifier(
        (20,), activation="logistic", learning_rate_init=0.01, max_iter=120, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.fit(data.x[train], data.y[train])
    return balanced_accuracy_score(data.y[test], network.predict(data.x[test]))


def test_learnable_but_not_trivial(five: Prepared) -> None:
    assert 0.75 < balanced_accuracy(five) < 0.99
    for classes in (["N", "S"], ["normal", "abnormal"]):
        assert 0.75 < balanced_accuracy(ecg_standin(1200, 400, classes, seed=3)) < 0.995


def test_classes_look_different(five: Prepared) -> None:
    mean = np.stack([five.x[five.y == c].mean(axis=0) for c in range(5)])
    distance = np.linalg.norm(mean[:, None] - mean[None], axis=2)
    assert distance[~np.eye(5, dtype=bool)].min() > 0.4


def test_patients_are_shared_or_disjoint_as_asked() -> None:
    codes = []
    for disjoint in (False, True):
        data = ecg_standin(300, 100, FIVE, seed=1, disjoint_patients=disjoint)
        codes.append({finding.code for finding in audit(data)})
    assert "patients_shared" in codes[0] and "patients_disjoint" in codes[1]


def test_impossible_requests() -> None:
    with pytest.raises(InputError, match="No ECG stand-in"):
        ecg_standin(100, 4, FIVE, seed=1)
    with pytest.raises(InputError, match="No ECG stand-in"):
        ecg_standin(100, 10, ["N", "Z"], seed=1)
    small = ecg_standin(10, 5, FIVE, seed=1)
    assert np.bincount(small.y[small.folds[0][2]]).tolist() == [1, 1, 1, 1, 1]


# ------------------------------------------------------------------------- the audit of them


def with_faults(five: Prepared) -> Prepared:
    x = five.x.copy()
    y = five.y.copy()
    x[3, 7] = np.nan
    x[4, 8] = 1.5
    x[5] = 0.25
    x[1500] = x[10]  # a training row repeated in test
    y[1500] = (y[10] + 1) % 5
    return Prepared(x, y, five.ids, five.folds, five.class_names, (0.0, 1.0), True, True)


def test_the_audit_finds_planted_faults(five: Prepared) -> None:
    found = {finding.code: finding for finding in audit(with_faults(five))}
    assert found["not_finite"].rows == (3,) and found["not_finite"].level == "error"
    assert found["out_of_range"].rows == (4,) and found["out_of_range"].level == "error"
    assert found["constant"].rows == (5,)
    assert found["duplicates"].rows == (10, 1500)
    assert found["duplicates_across_splits"].count == 2
    assert found["duplicate_labels_differ"].rows == (10, 1500)
    clean = {finding.code for finding in audit(five)}
    assert clean == {"no_duplicates", "patients_shared"}


def test_each_class_that_a_split_lacks_is_a_finding(five: Prepared) -> None:
    """Class F nowhere in test, S and Q nowhere in training; two folds; validation is empty."""
    train, _, test = five.folds[0]
    none = np.empty(0, np.int64)
    folds = [
        (train, none, test[five.y[test] != 3]),
        (train[~np.isin(five.y[train], (1, 4))], none, test),
    ]
    found = [f for f in audit(dataclasses.replace(five, folds=folds)) if "class" in f.code]
    assert [f.level for f in found] == 3 * ["warning"]
    of = np.bincount(five.y)
    assert [f.text.split(". ")[0] for f in found] == [
        f"Fold 0, test: no row of class F, of which there are {of[3]:,}",
        f"Fold 1, training: no row of class S, of which there are {of[1]:,}",
        f"Fold 1, training: no row of class Q, of which there are {of[4]:,}",
    ]
    # One that is nowhere is told once.
    rows = np.flatnonzero(five.y != 2)
    kept = dataclasses.replace(
        five, x=five.x[rows], y=five.y[rows], ids=five.ids.iloc[rows], folds=[(rows[:0],) * 3]
    )
    assert [f.code for f in audit(kept) if "class" in f.code] == ["empty_class"]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_hashes_see_every_value_and_its_place(dtype: type) -> None:
    random = np.random.default_rng(0)
    row = random.integers(0, 200, 21).astype(dtype)
    variants = [row]
    for i in range(len(row)):
        changed = row.copy()
        changed[i] += 1
        variants.append(changed)
    swapped = row.copy()
    swapped[[2, 9]] = swapped[[9, 2]] if swapped[2] != swapped[9] else [1, 2]
    hashes = row_hashes(np.stack([*variants, swapped, row]))
    assert len(set(hashes.tolist())) == len(variants) + 1 and hashes[0] == hashes[-1]


def test_duplicate_groups_against_plain_python() -> None:
    random = np.random.default_rng(1)
    x = random.integers(0, 3, (300, 4)).astype(np.uint8)
    plain: dict[bytes, list[int]] = {}
    for i, row in enumerate(x):
        plain.setdefault(row.tobytes(), []).append(i)
    expected = sorted(rows for rows in plain.values() if len(rows) > 1)
    assert sorted(group.tolist() for group in duplicate_groups(x)) == expected
