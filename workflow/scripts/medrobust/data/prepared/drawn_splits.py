"""Splits that a paper draws at random: so many per class, folds, and whole patients.

Every class (or data set, for patients) has its own random stream, named in the seed, so a draw
does not depend on which other classes there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medrobust.core.errors import InputError
from medrobust.core.seeds import derive_seed, generator
from medrobust.data.prepared.splits import Fold


def sized_fold(
    y: np.ndarray, sizes: Mapping[int, tuple[int, int]], *, seed: int, name: str
) -> Fold:
    """Draws validation and test rows of each class; the others are for training.

    Args:
        y: labels ``[n]``.
        sizes: class -> (validation rows, test rows).
        seed: root seed.
        name: name of the split, part of the seed.

    Raises:
        InputError: a class would have no row left for training.
    """
    part = np.zeros(len(y), np.int64)
    for label, (n_val, n_test) in sizes.items():
        rows = np.flatnonzero(y == label)
        if n_val + n_test >= len(rows):
            raise InputError(
                f"Class {label} has {len(rows)} rows; {n_val} validation and {n_test} test rows "
                "would leave none for training.",
                remedy="use the complete release.",
            )
        order = generator(seed, "split", name, label).permutation(rows)
        part[order[:n_test]] = 2
        part[order[n_test : n_test + n_val]] = 1
    train, val, test = (np.flatnonzero(part == code) for code in range(3))
    return train, val, test


def shares(y: np.ndarray, share: float, least: int = 1) -> dict[int, tuple[int, int]]:
    """Returns the sizes of :func:`sized_fold` for a share of test rows and no validation rows.

    The number per class is rounded to the nearest (a half to the even one), but at least ``least``.
    """
    count = np.bincount(y)
    return {c: (0, max(least, round(share * n))) for c, n in enumerate(count.tolist()) if n}


def stratified_folds(y: np.ndarray, folds: int, *, seed: int, name: str) -> list[Fold]:
    """Divides rows into folds with nearly equal numbers of each class; each is the test set once.

    Sizes of a class in two folds differ by at most one; so do the sizes of folds, because a class
    goes on where the one before it ended. There are no validation rows.

    Args:
        y: labels ``[n]``.
        folds: number of folds, at least 2.
        seed: root seed.
        name: name of the split, part of the seed.

    Raises:
        InputError: a class has fewer rows than there are folds.
    """
    fold = np.empty(len(y), np.int64)
    dealt = 0
    for label in np.unique(y).tolist():
        rows = np.flatnonzero(y == label)
        if len(rows) < folds:
            raise InputError(
                f"Class {label} has {len(rows)} rows; {folds} folds cannot be made of it.",
                remedy="use the complete release.",
            )
        order = generator(seed, "folds", name, label).permutation(rows)
        fold[order] = (dealt + np.arange(len(rows))) % folds
        dealt += len(rows)
    nothing = np.empty(0, np.int64)
    return [(np.flatnonzero(fold != f), nothing, np.flatnonzero(fold == f)) for f in range(folds)]


def folds_of_groups(
    y: np.ndarray, groups: Sequence[np.ndarray], folds: int, *, seed: int, name: str
) -> list[Fold]:
    """Divides rows into folds as :func:`stratified_folds` does, and keeps groups in one fold each.

    By scikit-learn's ``StratifiedGroupKFold``, shuffled: the larger the groups, the less equal the
    folds. There are no validation rows.

    Args:
        y: labels ``[n]``.
        groups: rows that belong together; a row is in one group at most, others stand alone.
        folds: number of folds, at least 2.
        seed: root seed.
        name: name of the split, part of the seed.

    Raises:
        InputError: a fold would have no row of a class for training or testing.
    """
    import warnings

    from sklearn.model_selection import StratifiedGroupKFold

    group = np.arange(len(y))
    for rows in groups:
        group[rows] = rows[0]
    state = derive_seed(seed, "folds", name, "groups") % 2**32
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=state)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of small classes: refused below
            parts = list(splitter.split(np.empty(len(y)), y, group))
    except ValueError:  # more folds than rows of each class
        parts = []
    classes = len(np.unique(y))
    if not parts or any(len(np.unique(y[rows])) < classes for part in parts for rows in part):
        raise InputError(
            f"{len(np.unique(group)):,} groups of rows that belong together cannot be divided into "
            f"{folds} folds of which each has every class.",
            remedy="use the complete release, or fewer folds.",
        )
    nothing = np.empty(0, np.int64)
    return [(np.sort(train), nothing, np.sort(test)) for train, test in parts]


def patient_fold(
    y: np.ndarray, patient: Sequence[str], share: float, *, seed: int, name: str
) -> Fold:
    """Draws whole patients for testing, until no more fit into a share of each class.

    Patients come in random order; one is for testing unless a class would then have more test rows
    than its share. The test set is thus at most as large as the share, and hardly smaller where
    most patients have few rows.

    Args:
        y: labels ``[n]``.
        patient: patient of each row.
        share: share of each class for testing, in (0, 1).
        seed: root seed.
        name: name of the split, part of the seed.

    Raises:
        InputError: a class would have no training or no test row.
    """
    names, number = np.unique(np.asarray(patient, dtype=str), return_inverse=True)
    rows_of = np.zeros((len(names), int(y.max()) + 1), np.int64)
    np.add.at(rows_of, (number, y), 1)
    room = np.floor(share * rows_of.sum(axis=0) + 0.5).astype(np.int64)
    chosen = np.zeros(len(names), bool)
    for candidate in generator(seed, "split", name, "patients").permutation(len(names)):
        if (rows_of[candidate] <= room).all():
            chosen[candidate] = True
            room -= rows_of[candidate]
    tested = rows_of[chosen].sum(axis=0)
    present = rows_of.sum(axis=0) > 0
    if (tested[present] == 0).any() or (rows_of.sum(axis=0) - tested)[present].min() == 0:
        raise InputError(
            f"The rows of {len(names)} patients cannot be divided so that every class is in "
            "training and in test.",
            remedy="use the complete release.",
        )
    test = chosen[number]
    return np.flatnonzero(~test), np.empty(0, np.int64), np.flatnonzero(test)
