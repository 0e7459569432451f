"""Splits drawn at random: sizes, no row twice, patients kept whole, draws that do not interact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.data.prepared.drawn_splits import (
    folds_of_groups,
    patient_fold,
    shares,
    sized_fold,
    stratified_folds,
)

COUNTS = st.lists(st.integers(5, 60), min_size=2, max_size=4)


def labels(counts: list[int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


@given(COUNTS, st.integers(0, 2), st.integers(1, 2), st.integers(0, 2**32))
def test_sized_folds_have_their_sizes(counts, n_val, n_test, seed) -> None:
    y = labels(counts)
    sizes = dict.fromkeys(range(len(counts)), (n_val, n_test))
    train, val, test = sized_fold(y, sizes, seed=seed, name="x")
    assert sorted([*train, *val, *test]) == list(range(len(y)))
    for part, expected in ((val, n_val), (test, n_test)):
        assert np.bincount(y[part], minlength=len(counts)).tolist() == [expected] * len(counts)
        assert (np.diff(part) > 0).all()


def test_the_seed_and_the_name_decide_and_classes_do_not_interact() -> None:
    y = labels([50, 50])
    sizes = {0: (5, 10), 1: (5, 10)}
    first, same = (sized_fold(y, sizes, seed=1, name="x") for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    for seed, name in ((2, "x"), (1, "y")):
        assert not np.array_equal(first[2], sized_fold(y, sizes, seed=seed, name=name)[2])
    alone = sized_fold(y, {0: (5, 10)}, seed=1, name="x")[2]
    assert np.array_equal(alone, first[2][y[first[2]] == 0])


def test_every_row_is_drawn_as_often_as_any_other() -> None:
    """200 draws of 10 of 40: each row 50 times, give or take."""
    y = np.zeros(40, np.int64)
    times = np.zeros(40)
    for seed in range(200):
        times[sized_fold(y, {0: (0, 10)}, seed=seed, name="x")[2]] += 1
    assert times.sum() == 2000 and times.min() > 28 and times.max() < 74


def test_a_class_without_training_rows_is_refused() -> None:
    with pytest.raises(InputError, match="Class 1 has 4 rows"):
        sized_fold(labels([9, 4]), {0: (1, 3), 1: (1, 3)}, seed=1, name="x")


def test_shares_are_those_of_the_papers() -> None:
    y = np.repeat([0, 1], [1583, 1583])
    assert shares(y, 0.2) == {0: (0, 317), 1: (0, 317)}
    assert shares(np.repeat([0, 1], [625, 625]), 0.2) == {0: (0, 125), 1: (0, 125)}
    assert shares(np.array([0, 0, 2]), 0.2) == {0: (0, 1), 2: (0, 1)}


@given(COUNTS, st.integers(2, 5), st.integers(0, 2**32))
def test_folds_are_even(counts, folds, seed) -> None:
    y = labels(counts)
    parts = stratified_folds(y, folds, seed=seed, name="x")
    assert sorted(np.concatenate([test for _, _, test in parts])) == list(range(len(y)))
    sizes = [len(test) for _, _, test in parts]
    assert max(sizes) - min(sizes) <= 1
    for label in range(len(counts)):
        of_class = [int((y[test] == label).sum()) for _, _, test in parts]
        assert max(of_class) - min(of_class) <= 1
    for train, val, test in parts:
        assert len(val) == 0 and sorted([*train, *test]) == list(range(len(y)))


def test_folds_of_too_few_rows_are_refused() -> None:
    with pytest.raises(InputError, match="Class 1 has 4 rows; 5 folds"):
        stratified_folds(labels([9, 4]), 5, seed=1, name="x")


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(1, 4)), min_size=12, max_size=60),
    st.integers(0, 2**32),
)
def test_patients_are_never_divided(people: list[tuple[int, int]], seed: int) -> None:
    """Patients with one class each, one to four rows; enough of both classes."""
    people = [(0, 1), (0, 1), (0, 1), (1, 1), (1, 1), (1, 1), *people]
    y = np.repeat([label for label, _ in people], [n for _, n in people])
    patient = np.repeat([f"p{i}" for i in range(len(people))], [n for _, n in people])
    train, _, test = patient_fold(y, patient, 0.34, seed=seed, name="x")
    assert sorted([*train, *test]) == list(range(len(y)))
    assert not set(patient[train]) & set(patient[test])
    room = np.floor(0.34 * np.bincount(y) + 0.5)
    missing = room - np.bincount(y[test], minlength=2)
    # Whoever is in training would not have fitted.
    for name in set(patient[train]):
        assert (np.bincount(y[patient == name], minlength=2) > missing).any()
    assert (missing >= 0).all()


def test_a_patient_with_two_classes_is_kept_whole() -> None:
    y = np.array([0, 1] * 20 + [0, 0, 1, 1])
    patient = [f"both{i // 2}" for i in range(40)] + ["a", "b", "c", "d"]
    train, _, test = patient_fold(y, patient, 0.25, seed=4, name="x")
    names = np.array(patient)
    assert not set(names[train]) & set(names[test]) and len(test) == 2 * round(0.25 * 22)


def test_one_patient_cannot_be_divided() -> None:
    with pytest.raises(InputError, match="The rows of 2 patients"):
        patient_fold(np.array([0, 0, 1, 1]), ["a", "a", "b", "b"], 0.5, seed=1, name="x")


# --- folds that keep groups together ---


@given(st.integers(0, 2**32), st.integers(2, 5), st.integers(0, 12))
def test_a_group_lies_in_one_fold_and_every_row_is_tested_once(seed, folds, n_groups) -> None:
    y = labels([60, 30], seed)
    rows = np.random.default_rng(seed).permutation(len(y))[: 3 * n_groups]
    groups = [np.sort(group) for group in rows.reshape(n_groups, 3)]
    parts = folds_of_groups(y, groups, folds, seed=seed, name="x")
    fold = np.full(len(y), -1)
    for number, (train, val, test) in enumerate(parts):
        assert sorted([*train, *test]) == list(range(len(y))) and len(val) == 0
        assert (np.diff(test) > 0).all() and (fold[test] == -1).all()
        fold[test] = number
        # Classes in about their shares.
        assert np.abs(np.bincount(y[test]) - np.array([60, 30]) / folds).max() <= 4
    assert all(len(set(fold[group])) == 1 for group in groups) and (fold >= 0).all()


def test_folds_of_groups_follow_seed_and_name() -> None:
    y, groups = labels([30, 30]), [np.array([1, 5, 9])]
    first, same, other = (folds_of_groups(y, groups, 3, seed=seed, name="x") for seed in (1, 1, 2))
    assert all(np.array_equal(a[2], b[2]) for a, b in zip(first, same, strict=True))
    assert not all(np.array_equal(a[2], b[2]) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("folds", [3, 20])
def test_groups_that_cannot_be_divided_are_refused(folds: int) -> None:
    y = labels([9, 4])
    group = np.flatnonzero(y == 1)
    with pytest.raises(InputError, match="cannot be divided"):
        folds_of_groups(y, [group], folds, seed=1, name="x")
