"""What an attack at several levels did, counted: small enough to keep with the evidence.

A tally holds the number of test points for each level, true class and prediction, from which
accuracy and precision on the balanced test set and their intervals follow
(:mod:`medrobust.evaluation.balanced`). One row counts the points that agree in all columns of
:data:`KEY`. A reading says which outcome counts:

* ``clean`` (epsilon 0): without attack;
* ``attack``: each level as it was attacked. The worst of several attack runs (losses, restarts)
  counts: a point is misclassified if any of them succeeded, with the prediction of the first
  that did, in the order of losses and restarts;
* ``worst_case``: a point is misclassified at a level if any level up to it succeeded, with the
  prediction found at the smallest of these, because a small perturbation is within the larger
  radius too;
* ``each_run`` (only with several attack runs of each point and level): every one counts on its own,
  so shares are means over attack runs.

**Which points.** ``selection`` says it in every row. ``test_set``: all test points, and
``tile_count`` is how often the balanced set repeats each. ``first_per_class``: the first
``per_class`` test points of each class, not tiled, ``tile_count`` 1; the clean rows are then of
these points too. A tally never mixes the two.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core.errors import InputError
from medrobust.evaluation.balanced import Cells, rank_in_class, tile_counts

if TYPE_CHECKING:
    import pandas as pd

CLEAN, ATTACK, WORST_CASE, EACH_RUN = "clean", "attack", "worst_case", "each_run"
TEST_SET, FIRST_PER_CLASS = "test_set", "first_per_class"
#: Rows of a tally differ in at least one of these.
KEY = ("epsilon", "loss", "reading", "label", "prediction", "tile_count", "in_subset")
#: Column names of a tally, in order, with their types.
SCHEMA = {
    "epsilon": "float64",  # radius of the attack; 0: clean
    "loss": "str",  # the attack's losses joined by "+"; empty where it has none, and clean
    "reading": "str",
    "label": "int64",
    "prediction": "int64",
    "tile_count": "int64",
    "in_subset": "bool",  # among the first `subset_per_class` test points of its class
    "points": "int64",  # number of points; of predictions in the reading each_run
    "runs": "int64",  # predictions counted of each point (1 but in each_run)
    "attacked": "int64",  # of these points, correct without attack, so that it had to move them
    "non_monotone": "int64",  # of these, with success at a smaller level but not at this one
    "queries": "int64",  # of all attack runs on these points; all levels so far in worst_case
    "gradient_evaluations": "int64",
    "selection": "str",
    "per_class": "int64",  # points per class of the selection, 0: all test points
    "subset_per_class": "int64",  # 0: no subset was marked
    "test_points": "int64",  # of the test set, attacked or not
    "clean_mismatches": "int64",  # points whose clean prediction differs from the record's
}
#: Columns behind these, of attacks by gradients or their estimates, if a step had none: steps of
#: all runs on these points, as ``queries``, and of these the steps without a gradient.
LATER = {"iterations": "int64", "steps_without_gradient": "int64"}
#: Largest share of points whose clean prediction may differ between evaluation and attack:
#: rounding of another processor, not another model.
LARGEST_MISMATCH = 0.001


@dataclass(frozen=True)
class Tally:
    """A tally that was read.

    Attributes:
        frame: the rows, as :data:`SCHEMA` and, where the file has them, :data:`LATER`.
        levels: attacked radii, ascending, without 0.
        readings: those that the rows have.
        selection: :data:`TEST_SET` or :data:`FIRST_PER_CLASS`.
        per_class: points per class of the selection, 0 for all.
        subset_per_class: points per class of the marked subset, 0 for none.
        test_points: size of the test set.
    """

    frame: pd.DataFrame
    levels: tuple[float, ...]
    readings: tuple[str, ...]
    selection: str
    per_class: int
    subset_per_class: int
    test_points: int

    def rows(self, epsilon: float, reading: str = ATTACK, *, subset: bool = False) -> pd.DataFrame:
        """Returns the rows of a level; clean ones for epsilon 0, whatever the reading."""
        wanted = CLEAN if epsilon == 0 else reading
        frame = self.frame
        chosen = (frame["reading"] == wanted) & np.isclose(frame["epsilon"], epsilon, atol=1e-12)
        return frame[chosen & frame["in_subset"]] if subset else frame[chosen]

    def cells(self, epsilon: float, reading: str = ATTACK, *, subset: bool = False) -> Cells | None:
        """Returns the counted points of a level, None if it was not attacked.

        Args:
            epsilon: radius; 0 for clean.
            reading: one of the readings.
            subset: only points of the marked subset, each with weight 1.
        """
        rows = self.rows(epsilon, reading, subset=subset)
        if rows.empty:
            return None
        weight = np.ones(len(rows)) if subset else rows["tile_count"]
        keys = np.stack([rows["label"], rows["prediction"], weight]).astype(np.int64)
        # Rows that only the mark of the subset tells apart are one cell.
        distinct, cell = np.unique(keys, axis=1, return_inverse=True)
        count = np.zeros(distinct.shape[1], dtype=np.int64)
        np.add.at(count, cell.ravel(), rows["points"].to_numpy(np.int64))
        return Cells(*distinct, count=count, runs=int(rows["runs"].iloc[0]))


def make_tally(
    clean: pd.DataFrame, records: pd.DataFrame, subset_per_class: int | None = None
) -> pd.DataFrame:
    """Counts clean predictions and the records of an attack.

    Args:
        clean: ``point_id, label, prediction`` of every test point; the order of the test set
            is that of the ids.
        records: as :func:`medrobust.evaluation.records.read_records` returns them, with every
            level, loss and restart for each of its points: all test points, or the first k of
            each class (all of a class that has fewer).
        subset_per_class: marks the first so many test points of each class; None marks none.

    Returns:
        The columns of :data:`SCHEMA`, sorted by :data:`KEY`; those of :data:`LATER` too if a step
        had no gradient.

    Raises:
        InputError: the records are incomplete, have no level, are of other points, or
            contradict the clean predictions.
    """
    import pandas as pd

    clean = _checked_clean(clean)
    runs = _complete(records)
    records = _with_steps(records)
    ids = np.unique(records["point_id"].to_numpy())
    per_class = _selection(clean, ids)
    points = clean[clean["point_id"].isin(ids)].reset_index(drop=True)
    if per_class:
        points["tile_count"] = np.int64(1)
    points["in_subset"] = points["rank"] < (subset_per_class or 0)
    mismatches = _clean_mismatches(points, records)
    outcomes = _outcomes(points, records)
    blocks = [_block(points, points["prediction"], reading=CLEAN)]
    blocks += [block for name in (ATTACK, WORST_CASE) for block in _levels(points, outcomes, name)]
    if runs > 1:
        blocks += _each_run(points, records, outcomes, runs)
    frame = pd.concat(blocks, ignore_index=True)
    frame.loc[frame["reading"] != CLEAN, "loss"] = "+".join(sorted(set(records["loss"].dropna())))
    frame["selection"] = FIRST_PER_CLASS if per_class else TEST_SET
    frame["per_class"] = per_class
    frame["subset_per_class"] = subset_per_class or 0
    frame["test_points"] = len(clean)
    frame["clean_mismatches"] = mismatches
    types = SCHEMA | (LATER if frame["steps_without_gradient"].any() else {})
    frame = frame.astype({n: kind for n, kind in types.items() if kind != "str"})
    return frame[list(types)].sort_values(list(KEY), kind="stable", ignore_index=True)


def no_tally() -> pd.DataFrame:
    """Returns the columns of a tally without rows, of a model whose training failed."""
    import pandas as pd

    return pd.DataFrame(columns=list(SCHEMA))


def read_tally(path: str | os.PathLike[str]) -> Tally:
    """Reads a tally.

    Raises:
        InputError: the file is missing, or is not a tally that this version writes.
    """
    import pandas as pd

    path = Path(path)
    if not path.is_file():
        raise InputError("This tally of an attack does not exist.", where=str(path))
    text = {name: str for name, kind in SCHEMA.items() if kind == "str"}
    frame = pd.read_csv(path, dtype=text, keep_default_na=False)
    again = "count the attack's records again (delete the file and run the same command)."
    if list(frame.columns) not in (list(SCHEMA), list(SCHEMA | LATER)) or frame.empty:
        raise InputError("This is not a tally of an attack.", where=str(path), remedy=again)
    try:
        types = {n: kind for n, kind in (SCHEMA | LATER).items() if n in frame and kind != "str"}
        frame = frame.astype(types)
    except ValueError as error:
        raise InputError(
            f"A number of this tally is wrong ({error}).", where=str(path), remedy=again
        ) from error
    facts = frame[["selection", "per_class", "subset_per_class", "test_points"]].drop_duplicates()
    if len(facts) != 1 or frame.duplicated(list(KEY)).any() or (frame["points"] < 1).any():
        raise InputError("This tally contradicts itself.", where=str(path), remedy=again)
    fact = facts.iloc[0]
    return Tally(
        frame=frame,
        levels=tuple(sorted({float(level) for level in frame["epsilon"]} - {0.0})),
        readings=tuple(dict.fromkeys(frame["reading"])),
        selection=str(fact["selection"]),
        **{name: int(fact[name]) for name in ("per_class", "subset_per_class", "test_points")},
    )


# --- checks -----------------------------------------------------------------------------


def _checked_clean(clean: pd.DataFrame) -> pd.DataFrame:
    """Returns the test points in their order, with tile count and rank in their class."""
    missing = {"point_id", "label", "prediction"} - set(clean.columns)
    if missing or clean.empty or clean["point_id"].duplicated().any():
        raise InputError(
            "The clean predictions need a point_id (each once), a label and a prediction."
        )
    points = clean[["point_id", "label", "prediction"]].sort_values("point_id", ignore_index=True)
    labels = points["label"].to_numpy()
    return points.assign(tile_count=tile_counts(labels), rank=rank_in_class(labels))


def _complete(records: pd.DataFrame) -> int:
    """Returns the attack runs (losses times restarts) of each point and level."""
    if records.empty or records["epsilon"].isna().any() or (records["epsilon"] <= 0).any():
        raise InputError(
            "A tally needs records of an attack at given radii above 0.",
            remedy="attacks without a radius (boundary attacks) have distances instead.",
        )
    levels = records["epsilon"].nunique()
    points = records["point_id"].nunique()
    runs = records[["loss", "restart"]].drop_duplicates().shape[0]
    if len(records) != points * levels * runs:
        raise InputError(
            f"The records are incomplete: {len(records):,} of {points:,} points, {levels} levels "
            f"and {runs} runs each.",
            remedy="run the attack again for all points and levels.",
        )
    return runs


def _with_steps(records: pd.DataFrame) -> pd.DataFrame:
    """Returns the records with whole numbers in :data:`LATER`; 0 where nobody counted."""
    if "steps_without_gradient" not in records:
        return records.assign(**dict.fromkeys(LATER, 0))
    lost = records["steps_without_gradient"]
    return records.assign(
        iterations=records["iterations"].where(lost.notna(), 0),
        steps_without_gradient=lost.fillna(0).astype("int64"),
    )


def _selection(clean: pd.DataFrame, ids: np.ndarray) -> int:
    """Returns the points per class that were attacked, 0 for all test points."""
    attacked = clean["point_id"].isin(ids)
    if int(attacked.sum()) != len(ids):
        raise InputError("The attack's records hold points that are not in the test set.")
    if attacked.all():
        return 0
    per_class = int(clean[attacked]["rank"].max()) + 1
    if not np.array_equal(attacked.to_numpy(), (clean["rank"] < per_class).to_numpy()):
        raise InputError(
            f"The {len(ids):,} attacked points are neither all test points nor the first of each "
            "class: their shares would say nothing about a balanced test set.",
            remedy="attack the whole test set, or the first points of each class.",
        )
    return per_class


def _clean_mismatches(points: pd.DataFrame, records: pd.DataFrame) -> int:
    seen = records.drop_duplicates("point_id").set_index("point_id").loc[points["point_id"]]
    if not np.array_equal(seen["label"].to_numpy(), points["label"].to_numpy()):
        raise InputError(
            "The attack's records and the clean predictions have different labels.",
            remedy="they are of different data; run both again.",
        )
    differing = int((seen["clean_prediction"].to_numpy() != points["prediction"].to_numpy()).sum())
    if differing > max(1, LARGEST_MISMATCH * len(points)):
        raise InputError(
            f"The clean predictions of {differing:,} of {len(points):,} points differ between the "
            "evaluation and the attack.",
            remedy="they are of different models; run both again.",
        )
    return differing


# --- counting ---------------------------------------------------------------------------


_SPENT = ("queries", "gradient_evaluations", *LATER)


@dataclass(frozen=True)
class _Outcomes:
    """What the attack reached, points in test order, levels ascending; arrays ``[n, levels]``."""

    levels: np.ndarray
    attacked: np.ndarray  # bool [n]: correct when the attack began
    success: np.ndarray
    prediction: np.ndarray
    spent: Mapping[str, np.ndarray]


def _outcomes(points: pd.DataFrame, records: pd.DataFrame) -> _Outcomes:
    by_level = records.groupby(["point_id", "epsilon"], sort=True)
    order = points["point_id"]

    def grid(column: pd.Series) -> np.ndarray:
        return column.unstack("epsilon").loc[order].to_numpy()

    hits = records[records["success"]].sort_values(["loss", "restart"], kind="stable")
    first = hits.drop_duplicates(["point_id", "epsilon"])
    found = first.set_index(["point_id", "epsilon"])["adversarial_prediction"]
    success = by_level["success"].any()
    predicted = found.reindex(success.index).astype("float64")
    label = points["label"].to_numpy()[:, None]
    known = grid(predicted)
    clean = records.drop_duplicates("point_id").set_index("point_id")["clean_prediction"]
    return _Outcomes(
        levels=np.sort(records["epsilon"].unique()),
        attacked=clean.loc[order].to_numpy() == label[:, 0],
        success=grid(success).astype(bool),
        prediction=np.where(np.isnan(known), label, np.nan_to_num(known)).astype(np.int64),
        spent={name: grid(by_level[name].sum()) for name in _SPENT},
    )


def _levels(points: pd.DataFrame, outcomes: _Outcomes, reading: str) -> list[pd.DataFrame]:
    """Returns the counted points of each level in a reading."""
    success, prediction, spent = outcomes.success, outcomes.prediction, outcomes.spent
    so_far = np.logical_or.accumulate(success, axis=1)
    lost = so_far & ~success
    if reading == WORST_CASE:
        first = success.argmax(axis=1)
        at_first = np.take_along_axis(prediction, first[:, None], axis=1)
        prediction = np.where(so_far, at_first, points["label"].to_numpy()[:, None])
        lost = np.logical_or.accumulate(lost, axis=1)
        spent = {name: values.cumsum(axis=1) for name, values in spent.items()}
    return [
        _block(
            points,
            prediction[:, j],
            reading=reading,
            epsilon=level,
            attacked=outcomes.attacked,
            non_monotone=lost[:, j],
            **{name: values[:, j] for name, values in spent.items()},
        )
        for j, level in enumerate(outcomes.levels)
    ]


def _each_run(
    points: pd.DataFrame, records: pd.DataFrame, outcomes: _Outcomes, runs: int
) -> list[pd.DataFrame]:
    """Returns the counted attack runs of each level."""
    label = records["label"].to_numpy()
    found = records["adversarial_prediction"].astype("float64").to_numpy()
    hit = records["success"].to_numpy()
    prediction = np.where(hit, np.nan_to_num(found), label).astype(np.int64)
    place = points.set_index("point_id").index.get_indexer(records["point_id"])
    at = {level: (records["epsilon"] == level).to_numpy() for level in outcomes.levels}
    return [
        _block(
            points.iloc[place[rows]].reset_index(drop=True),
            prediction[rows],
            reading=EACH_RUN,
            epsilon=level,
            runs=runs,
            attacked=outcomes.attacked[place[rows]],
            **{name: records[name].to_numpy()[rows] for name in _SPENT},
        )
        for level, rows in at.items()
    ]


def _block(points: pd.DataFrame, prediction: Any, **columns: Any) -> pd.DataFrame:
    """Counts points that agree in label, prediction, tile count and subset."""
    sums = ("attacked", "non_monotone", *_SPENT)
    facts = {"epsilon": 0.0, "loss": "", "runs": 1} | dict.fromkeys(sums, 0) | columns
    rows = points[["label", "tile_count", "in_subset"]].assign(
        prediction=np.asarray(prediction),
        points=1,
        **{name: np.asarray(facts[name], dtype=np.int64) for name in sums},
    )
    keys = ["label", "prediction", "tile_count", "in_subset"]
    counted = rows.groupby(keys, as_index=False)[["points", *sums]].sum()
    return counted.assign(**{name: facts[name] for name in ("epsilon", "loss", "runs", "reading")})
