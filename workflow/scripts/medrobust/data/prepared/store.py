"""A prepared data set on disk: what an adapter gives, and what models and attacks read.

The folder ``results/data/<dataset>@<source>/`` holds ``x.npy`` (native dtype, memory-mapped),
``y.npy`` (int64), ``ids.csv``, ``split_fold<f>.csv``, ``card.json``, ``card.md`` and
``preview.png``; :mod:`medrobust.data.prepared.prepare` writes it, :func:`load_dataset` reads it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.data.prepared.splits import Fold, read_split

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Prepared:
    """What an adapter makes of raw files, ready to be checked and written.

    Attributes:
        x: ``[n, ...]`` in its native dtype (float32 signals, uint8 images).
        y: int64 ``[n]``, labels from 0.
        ids: one row per example, from which raw file it comes; column ``patient`` where known.
        folds: (train, val, test) row numbers, one per fold.
        class_names: name of each label.
        input_range: (low, high) of the scaled values that models see.
        synthetic: generated, not measured.
        complete: the whole release (else a subset).
        notes: sentences for the card: how rows and split were made.
        of_patients: rows come from patients (pictures of clothes do not).
    """

    x: np.ndarray
    y: np.ndarray
    ids: pd.DataFrame
    folds: Sequence[Fold]
    class_names: tuple[str, ...]
    input_range: tuple[float, float]
    synthetic: bool
    complete: bool
    notes: tuple[str, ...] = ()
    of_patients: bool = True


@dataclass(frozen=True)
class Dataset:
    """A prepared data set with one fold's split.

    Attributes:
        folder: where it lies.
        x: ``[n, ...]`` in native dtype, memory-mapped, not scaled.
        y: int64 ``[n]``.
        train_index, val_index, test_index: rows of each split, ascending; a row number is the
            point's id everywhere.
        card: the data card (``card.json``).
        fold: number of the fold.
    """

    folder: Path
    x: np.ndarray
    y: np.ndarray
    train_index: np.ndarray
    val_index: np.ndarray
    test_index: np.ndarray
    card: dict[str, Any]
    fold: int = 0

    @property
    def class_names(self) -> list[str]:
        """Name of each label."""
        return list(self.card["class_names"])

    @property
    def n_classes(self) -> int:
        """Number of classes, also of those that no row has."""
        return len(self.card["class_names"])

    @property
    def input_range(self) -> tuple[float, float]:
        """(low, high) of the scaled values."""
        low, high = self.card["input_range"]
        return float(low), float(high)

    def points(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns the examples with these ids as float32, scaled to ``input_range``.

        Raises:
            InputError: an id is not a row of this data set.
        """
        rows = np.asarray(ids, dtype=np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= len(self.y)):
            raise InputError(
                f"There is no point {rows.max() if rows.min() >= 0 else rows.min()}; the data set "
                f"has {len(self.y)} rows.",
                where=str(self.folder),
            )
        return self._scaled(self.x[rows])

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        if values.dtype == np.uint8:
            # A table: 0 and 255 become exactly the two ends, others the nearest float32.
            low, high = self.input_range
            return (low + (high - low) * np.arange(256) / 255).astype(np.float32)[values]
        return np.ascontiguousarray(values, dtype=np.float32)

    @functools.cached_property
    def x_train(self) -> np.ndarray:
        """Training examples, float32, scaled."""
        return self.points(self.train_index)

    @functools.cached_property
    def x_val(self) -> np.ndarray:
        """Validation examples, float32, scaled; may be empty."""
        return self.points(self.val_index)

    @functools.cached_property
    def x_test(self) -> np.ndarray:
        """Test examples, float32, scaled."""
        return self.points(self.test_index)

    @property
    def y_train(self) -> np.ndarray:
        """Training labels, int64."""
        return np.asarray(self.y[self.train_index])

    @property
    def y_val(self) -> np.ndarray:
        """Validation labels, int64."""
        return np.asarray(self.y[self.val_index])

    @property
    def y_test(self) -> np.ndarray:
        """Test labels, int64."""
        return np.asarray(self.y[self.test_index])

    def ids(self) -> pd.DataFrame:
        """Returns the table that traces every row to its raw file (read as text)."""
        path = self.folder / "ids.csv"
        try:
            return io.read_text_table(path)
        except (FileNotFoundError, ValueError) as error:
            raise _unusable(path, error) from None

    def hashes(self) -> dict[str, str]:
        """Returns the SHA-256 of the arrays and of the split, by file name."""
        names = ("x.npy", "y.npy", f"split_fold{self.fold}.csv")
        return {name: io.sha256_of_file(self.folder / name) for name in names}


def load_dataset(folder: str | Path, fold: int = 0) -> Dataset:
    """Opens a prepared data set.

    Args:
        folder: ``results/data/<dataset>@<source>``.
        fold: which split.

    Raises:
        InputError: a file is missing or truncated, or the files do not fit together.
    """
    folder = Path(folder)
    card = _card(folder / "card.json")
    x, y = _array(folder / "x.npy"), _array(folder / "y.npy")
    if y.dtype != np.int64 or y.ndim != 1 or len(x) != len(y):
        raise _unusable(
            folder / "y.npy", f"{y.dtype} of shape {y.shape} does not fit x.npy of shape {x.shape}"
        )
    if list(x.shape) != card["shape"] or str(x.dtype) != card["dtype"]:
        raise _unusable(folder / "x.npy", f"{x.dtype} {x.shape} is not what card.json states")
    if len(y) and not 0 <= y.min() <= y.max() < len(card["class_names"]):
        raise _unusable(folder / "y.npy", "a label has no class name in card.json")
    train, val, test = read_split(folder / f"split_fold{fold}.csv", len(y))
    return Dataset(folder, x, y, train, val, test, card, fold)


def _card(path: Path) -> dict[str, Any]:
    try:
        card = io.read_json(path)
    except FileNotFoundError:
        raise InputError(
            "There is no prepared data set here (no card.json).",
            where=str(path.parent),
            remedy="run `snakemake --cores 2 data` with the same --config.",
        ) from None
    needed = ("name", "class_names", "input_range", "shape", "dtype")
    missing = [key for key in needed if not isinstance(card, dict) or key not in card]
    if missing:
        raise _unusable(path, f"the key {missing[0]!r} is missing")
    return card


def _array(path: Path) -> np.ndarray:
    try:
        return io.read_array(path, mmap=True)
    except FileNotFoundError:
        raise _unusable(path, "it is missing") from None


def _unusable(path: Path, reason: object) -> InputError:
    return InputError(
        f"The file {path.name} of this data set cannot be used: {reason}.",
        where=str(path),
        remedy="delete the folder of the data set and run the same command again.",
    )
