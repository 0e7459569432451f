"""Splits of a data set into training, validation and test rows, and their files.

Validation may be empty: the sign network study (signnet) uses none.

A split of all rows at random, as scikit-learn draws it (:func:`shuffled_split`), and two splits
of MIT-BIH live here:

* **official size**: Kaggle's training and test file are a random split within each class.
  Which beats went where is not known for rows rebuilt from records, so they are drawn anew,
  with exactly the official number per class.
* **patient**: no patient on both sides. Records are divided as DS1 (training) and DS2 (test)
  by de Chazal, O'Dwyer and Reilly, IEEE Transactions on Biomedical Engineering 51(7), 2004,
  Section II, with two changes. Records 201 and 202, one in DS1 and one in DS2, are the same
  man: 202 is moved to training, so the test set holds nothing but DS2 and paced records. The
  paced records 102, 104, 107 and 217, which de Chazal leaves out, hold nearly all of class Q:
  104 and 107 go to training, 102 and 217 to test, so that both sides have paced beats (/) and
  fusions with paced beats (f).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medrobust.core.errors import InputError
from medrobust.core.io import read_table, write_table
from medrobust.core.seeds import generator

if TYPE_CHECKING:
    import pandas as pd

Fold = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Row numbers of training, validation and test, each int64 and ascending."""

SPLITS = ("train", "val", "test")
SPLIT_TITLES = {"train": "training", "val": "validation", "test": "test", "all": "all"}

MITBIH_OFFICIAL_TRAIN = (72471, 2223, 5788, 641, 6431)
MITBIH_OFFICIAL_TEST = (18118, 556, 1448, 162, 1608)
"""Rows per class N, S, V, F, Q of mitbih_train.csv and mitbih_test.csv."""

DE_CHAZAL_DS1 = (
    "101", "106", "108", "109", "112", "114", "115", "116", "118", "119", "122",
    "124", "201", "203", "205", "207", "208", "209", "215", "220", "223", "230",
)  # fmt: skip
DE_CHAZAL_DS2 = (
    "100", "103", "105", "111", "113", "117", "121", "123", "200", "202", "210",
    "212", "213", "214", "219", "221", "222", "228", "231", "232", "233", "234",
)  # fmt: skip
PATIENT_TRAIN = tuple(sorted((*DE_CHAZAL_DS1, "202", "104", "107")))
PATIENT_TEST = tuple(sorted((*(r for r in DE_CHAZAL_DS2 if r != "202"), "102", "217")))


def stratified_split(
    y: np.ndarray, n_test: Mapping[int, int], *, seed: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Draws ``n_test[c]`` rows of each class c for testing; the others are for training.

    Each class has its own random stream, so a class's membership does not depend on which
    other classes there are.

    Args:
        y: int64 ``[n]`` labels.
        n_test: class -> number of test rows, at most as many as the class has.
        seed: root seed.
        name: name of the split, part of the seed.

    Returns:
        Training rows and test rows, ascending int64.

    Raises:
        InputError: a class has fewer rows than are to be drawn.
    """
    in_test = np.zeros(len(y), dtype=bool)
    for label, wanted in n_test.items():
        rows = np.flatnonzero(y == label)
        if wanted > len(rows):
            raise InputError(
                f"Class {label} has {len(rows)} rows; {wanted} test rows cannot be drawn from it.",
                remedy="use the complete release.",
            )
        drawn = generator(seed, "split", name, label).permutation(len(rows))[:wanted]
        in_test[rows[drawn]] = True
    return np.flatnonzero(~in_test), np.flatnonzero(in_test)


def shuffled_split(
    n_rows: int, *, train_share: float, random_state: int
) -> tuple[np.ndarray, np.ndarray]:
    """Divides rows as scikit-learn's ``train_test_split`` does, not stratified.

    The rows are those of ``train_test_split(..., train_size=train_share,
    random_state=random_state)``; NumPy keeps the stream of its legacy generator, which draws
    them, unchanged.

    Args:
        n_rows: number of rows.
        train_share: share of training rows, rounded down, in (0, 1).
        random_state: seed of the draw.

    Returns:
        Training rows and test rows, ascending int64.

    Raises:
        InputError: training or test would be empty.
    """
    n_train = math.floor(train_share * n_rows)
    n_test = n_rows - n_train
    if min(n_train, n_test) < 1:
        raise InputError(
            f"{n_rows} rows cannot be divided into {n_train} for training and {n_test} for test.",
            remedy="use the complete release.",
        )
    order = np.random.RandomState(random_state).permutation(n_rows)
    return np.sort(order[n_test:]), np.sort(order[:n_test])


def official_size_split(
    y: np.ndarray, *, seed: int
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Draws a random split of MIT-BIH rows with the official number per class.

    Where the rows are not the whole release, each class is divided in the official proportion.

    Args:
        y: int64 ``[n]``, labels 0 to 4.
        seed: root seed; the split depends on it alone, not on the variant of the data set.

    Returns:
        Training rows, test rows, and notes for the card.
    """
    totals = np.add(MITBIH_OFFICIAL_TRAIN, MITBIH_OFFICIAL_TEST)
    found = np.bincount(y, minlength=5)
    if (found == totals).all():
        sizes, how = np.array(MITBIH_OFFICIAL_TEST), "exactly the official number of rows per class"
    else:
        sizes = np.rint(found * np.array(MITBIH_OFFICIAL_TEST) / totals).astype(int)
        how = "the official share of each class"
    train, test = stratified_split(
        y, dict(enumerate(sizes.tolist())), seed=seed, name="mitbih-official-size"
    )
    note = (
        f"Split: drawn at random within each class (seed {seed}) with {how}. The official files "
        "are such a random split too, but which heartbeat is in which file is not known here."
    )
    return train, test, (note,)


def patient_split(records: Sequence[str]) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Divides MIT-BIH rows between patients: see the top of this module.

    Args:
        records: record name of each row.

    Returns:
        Training rows, test rows, and notes for the card.

    Raises:
        InputError: rows have no record name, or an unknown one.
    """
    record = np.asarray(records, dtype=object)
    if not all(isinstance(name, str) and name for name in record):
        raise no_patients("without record names")
    unknown = sorted(set(record) - {*PATIENT_TRAIN, *PATIENT_TEST})
    if unknown:
        raise InputError(
            f"Record {unknown[0]!r} is not in the patient split of MIT-BIH.",
            remedy="use the records of release 1.0.0.",
        )
    in_test = np.isin(record.astype(str), PATIENT_TEST)
    notes = (
        "Split: by patient, after de Chazal et al. 2004 (DS1 for training, DS2 for testing), with "
        "two changes: 202 was moved to training because 201 and 202 are the same patient; of the "
        "paced records, left out by de Chazal, 104 and 107 are in training, 102 and 217 in test.",
    )
    return np.flatnonzero(~in_test), np.flatnonzero(in_test), notes


def no_patients(source: str) -> InputError:
    """Returns the error for a split by patient where patients are not known."""
    return InputError(
        f"A split by patient needs to know the patient of each row, which source {source!r} does "
        "not tell.",
        where="config/datasets.yaml, option split: patient",
        remedy="use source physionet (the records, no account needed), or split: official.",
    )


def write_split(
    path: str | Path, train_idx: Sequence[int], val_idx: Sequence[int], test_idx: Sequence[int]
) -> None:
    """Writes ``split_fold<f>.csv``: columns ``index`` (row of x.npy, ascending) and ``split``.

    Args:
        path: file to write, atomically.
        train_idx, val_idx, test_idx: row numbers, without repetition; validation may be empty.

    Raises:
        InputError: a row is in two splits or twice in one, or training or test is empty.
    """
    import pandas as pd

    parts = [np.asarray(part, dtype=np.int64) for part in (train_idx, val_idx, test_idx)]
    index = np.concatenate(parts)
    split = np.repeat(SPLITS, [len(part) for part in parts])
    check_fold((parts[0], parts[1], parts[2]), where=str(path))
    order = np.argsort(index, kind="stable")
    write_table(path, pd.DataFrame({"index": index[order], "split": split[order]}))


def read_split(path: str | Path, n_rows: int) -> Fold:
    """Reads a file of :func:`write_split`.

    Args:
        path: the file.
        n_rows: number of rows of the data set.

    Raises:
        InputError: the file is damaged, or does not fit a data set of ``n_rows`` rows.
    """
    table = _read_columns(path)
    index = table["index"].to_numpy()
    split = table["split"].to_numpy(dtype=object)
    if index.dtype.kind not in "iu" or not set(split) <= set(SPLITS):
        raise _damaged(path, f"rows must be whole numbers, splits one of {', '.join(SPLITS)}")
    fold = tuple(np.sort(index[split == name].astype(np.int64)) for name in SPLITS)
    check_fold(fold, where=str(path))
    if index.min() < 0 or index.max() >= n_rows:
        raise _damaged(path, f"it names row {index.max()}, but there are {n_rows} rows")
    if len(index) != n_rows:
        raise _damaged(path, f"it has {len(index)} rows, the data set {n_rows}")
    return fold


def check_fold(fold: Fold, *, where: str) -> None:
    """Raises an InputError unless the three parts are disjoint and train and test not empty."""
    index = np.concatenate(fold)
    if len(np.unique(index)) != len(index):
        raise InputError("A row is in the split more than once.", where=where)
    if len(fold[0]) == 0 or len(fold[2]) == 0:
        raise InputError("Training and test must not be empty.", where=where)


def _read_columns(path: str | Path) -> pd.DataFrame:
    try:
        table = read_table(path)
    except FileNotFoundError:
        raise _damaged(path, "it is missing") from None
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    if list(table.columns) != ["index", "split"] or table.isna().to_numpy().any():
        raise _damaged(path, "it needs the columns index and split, without gaps")
    return table


def _damaged(path: str | Path, reason: str) -> InputError:
    return InputError(
        f"This split file cannot be used: {reason}.",
        where=str(path),
        remedy="delete it and run the same command again.",
    )
