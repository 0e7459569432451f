"""Which points an attack broke at each level: what tallies do not keep.

They tell whether one attack broke points that another one did not
(:mod:`medrobust.reporting.attack_checks`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medrobust.core import io

if TYPE_CHECKING:
    import pandas as pd

#: Name of the file beside ``tally.csv``.
FILE = "outcomes.parquet"


def outcomes_of(records: pd.DataFrame) -> pd.DataFrame:
    """Returns which points were broken.

    Args:
        records: of an attack at several radii, as
            :func:`medrobust.evaluation.records.read_records` returns them.

    Returns:
        ``point_id``, ascending, ``correct`` (bool, without attack), and for each radius, ascending,
        a bool column of its name such as ``0.05``: whether any loss or restart succeeded there.
    """
    points = records.drop_duplicates("point_id").set_index("point_id").sort_index()
    broken = records.groupby(["point_id", "epsilon"])["success"].any().unstack("epsilon")
    broken.columns = [f"{epsilon:g}" for epsilon in broken.columns]
    correct = points["clean_prediction"] == points["label"]
    return broken.assign(correct=correct)[["correct", *broken.columns]].reset_index()


def broken_by_other(pgd: list[pd.DataFrame], other: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Returns how many points another attack broke and none by gradients did.

    Args:
        pgd: outcomes of attacks by gradients on the same model, at least one.
        other: of another attack.

    Returns:
        level to (such points, points that all of them attacked), levels at which there are any.
        Points that are misclassified without attack do not count.
    """
    theirs = other[other["correct"]].set_index("point_id")
    found = {}
    for level in [name for name in theirs.columns if name != "correct"]:
        parts = [one.set_index("point_id") for one in pgd if level in one]
        if not parts:
            continue
        ids = theirs.index
        for part in parts:
            ids = ids.intersection(part.index)
        by_gradients = np.any([part.loc[ids, level] for part in parts], axis=0)
        number = int((theirs.loc[ids, level] & ~by_gradients).sum())
        if number:
            found[level] = (number, len(ids))
    return found


def read_outcomes(path: str | os.PathLike[str]) -> pd.DataFrame | None:
    """Returns the outcomes in a file, None if there is none: older results have none."""
    return io.read_table(path) if Path(path).is_file() else None
