"""Which points an attack broke at each level, and how sure the model then was.

Tallies keep neither. The one tells whether an attack broke points that another one did not
(:mod:`medrobust.reporting.attack_checks`); the other, where a study keeps probabilities, gives the
area under the curve and calibration under attack (:mod:`medrobust.evaluation.binary`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.evaluation.probabilities import kept_probabilities

if TYPE_CHECKING:
    import pandas as pd

#: Name of the file beside ``tally.csv``.
FILE = "outcomes.parquet"


def outcomes_of(records: pd.DataFrame, clean: pd.DataFrame | None = None) -> pd.DataFrame:
    """Returns which points were broken.

    Args:
        records: of an attack at several radii, as
            :func:`medrobust.evaluation.records.read_records` returns them.
        clean: clean predictions of the same points, and others; None: only the attack counts.

    Returns:
        ``point_id``, ascending, ``correct`` (bool, without attack), and for each radius, ascending,
        a bool column of its name such as ``0.05``: whether any loss or restart succeeded there.
        Where both tables have probabilities, also ``label``, and for each level (0: without attack)
        and class k a column such as ``probability_1 at 0.05``. Of several losses and restarts it is
        of the one that leaves the label the least probability.
    """
    points = records.drop_duplicates("point_id").set_index("point_id").sort_index()
    broken = records.groupby(["point_id", "epsilon"])["success"].any().unstack("epsilon")
    broken.columns = [f"{epsilon:g}" for epsilon in broken.columns]
    correct = points["clean_prediction"] == points["label"]
    outcomes = broken.assign(correct=correct)[["correct", *broken.columns]]
    if clean is not None and kept_probabilities(records) and kept_probabilities(clean):
        outcomes = outcomes.join(_scores(records, clean.set_index("point_id").loc[points.index]))
    return outcomes.reset_index()


def _scores(records: pd.DataFrame, clean: pd.DataFrame) -> pd.DataFrame:
    """Returns label and probabilities by point, see :func:`outcomes_of`."""
    import pandas as pd

    columns = kept_probabilities(records)
    places = np.arange(len(records)), records["label"].to_numpy()
    of_label = records[columns].to_numpy()[places]
    worst = records.assign(of_label=of_label).sort_values(
        ["point_id", "epsilon", "of_label", "loss", "restart"], kind="stable"
    )
    levels = {
        float(epsilon): of_level.drop_duplicates("point_id").set_index("point_id")
        for epsilon, of_level in worst.groupby("epsilon")
    }
    parts = [clean["label"]] + [
        table[columns].rename(columns=lambda name, level=level: _named(name, level))
        for level, table in {0.0: clean, **levels}.items()
    ]
    return pd.concat(parts, axis=1)


def _named(probability: str, level: float) -> str:
    return f"{probability} at {level:g}"


def read_scores(
    path: str | os.PathLike[str], level: float, positive: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the labels of points and the probability of a class at a level.

    Args:
        path: an ``outcomes.parquet``.
        level: radius of the attack; 0: without attack.
        positive: the class.

    Returns:
        bool ``[n]``, whether a point is of the class, and float64 ``[n]``, its probability; None
        where the level was not attacked.

    Raises:
        InputError: there is no such file, it has no probabilities, or one is null.
    """
    outcomes, name = read_outcomes(path), _named(f"probability_{positive}", level)
    if outcomes is None or _named(f"probability_{positive}", 0.0) not in outcomes:
        raise InputError(
            "There are no probabilities of the attacked points.",
            where=str(path),
            remedy="set `keep_probabilities: true` in the study, and run the attack again.",
        )
    if name not in outcomes:
        return None
    if outcomes[name].isna().any():
        raise InputError("Some attacked points have no probabilities.", where=str(path))
    return (outcomes["label"] == positive).to_numpy(), outcomes[name].to_numpy(np.float64)


def levels_of(outcomes: pd.DataFrame) -> Sequence[str]:
    """Returns the names of the columns that tell of a radius, ascending."""
    told = ("point_id", "correct", "label")
    return [name for name in outcomes if name not in told and " at " not in name]


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
    for level in levels_of(theirs):
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
