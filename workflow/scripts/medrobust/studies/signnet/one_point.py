"""One attacked point and what fools each model: what Figures 1 and 2 of the paper show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.evaluation import statistics
from medrobust.evaluation.records import read_records
from medrobust.reporting.plotting import model_label
from medrobust.studies.signnet.results import (
    AttackInput,
    cells_by_part,
    grouped,
    smallest_distances,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Adversary:
    """What fools one model; ``adversarial`` is None where there is nothing.

    Attributes:
        model: its name.
        restarts: of the attack.
        adversarial: float64, of the point's shape: the last iterate of the best restart.
        distance: its L2 distance to the original; 0 where the model misclassifies the original,
            infinite where the attack failed.
        distance_at_boundary: after projection to the decision boundary.
        prediction: the class that the model sees in it; -1 where the attack failed.
        started: whether the attack had a point to begin at that the model calls by another class.
        remark: what a reader must know of it, "" if nothing.
    """

    model: str
    restarts: int
    adversarial: np.ndarray | None
    distance: float
    distance_at_boundary: float
    prediction: int
    started: bool = True
    remark: str = ""

    @property
    def absent(self) -> str:
        """Why there is no adversarial point, in words."""
        if self.distance == 0:
            return "misclassified without attack"
        return "attack failed" if self.started else "no start for the attack"


@dataclass(frozen=True)
class ShownPoint:
    """One attacked point of a data set.

    Attributes:
        dataset: its name in results.
        point_id: row of the data set.
        choice: how it was chosen, in words.
        cohort: number of attacked points.
        label: its class.
        x: float64, the point.
        adversaries: one of each model, the paper's models first.
        not_run: models of the paper that were not attacked on it.
        inputs: the files that this is from.
    """

    dataset: str
    point_id: int
    choice: str
    cohort: int
    label: int
    x: np.ndarray
    adversaries: Sequence[Adversary]
    not_run: Sequence[str]
    inputs: Sequence[str]

    @property
    def n_text(self) -> str:
        """How many of the attacked points are shown, in words."""
        return f"1 of {self.cohort} attacked points"

    @property
    def remarks(self) -> list[str]:
        """What a reader must know of single models."""
        return [one.remark for one in self.adversaries if one.remark]

    @property
    def not_run_text(self) -> str:
        """A sentence on the models that were not run; "" if there is none."""
        names = ", ".join(map(model_label, self.not_run))
        return f" Not run: {names}." if names else ""

    @property
    def bounds_text(self) -> str:
        """How the distances relate to the smallest there are, in words."""
        return statistics.upper_bound_text(one.restarts for one in self.adversaries)


def read_point(
    inputs: Sequence[AttackInput],
    cohort: Sequence[int],
    figure: str,
    point_id: int | None = None,
    not_run: Sequence[str] | None = None,
) -> ShownPoint:
    """Reads one attacked point and what fools each model there.

    Args:
        inputs: attack records with arrays of the models to show, all on one data set, one
            replicate.
        cohort: the attacked points in their seeded order.
        figure: what asks for it, for messages.
        point_id: the point; by default the first of the cohort.
        not_run: models that a caption lists as not run; by default the paper's others.

    Raises:
        InputError: no input, several data sets or replicates, an unknown point, or arrays
            that disagree with the records.
    """
    groups = grouped(inputs)
    if not groups:
        raise InputError(f"{figure} needs the attack on at least one model.")
    datasets = list(dict.fromkeys(dataset for dataset, _ in groups))
    if len(datasets) > 1 or any(len(items) > 1 for items in groups.values()):
        raise InputError(f"{figure} shows one data set and one replicate.", where=str(datasets))
    point = _chosen(point_id, cohort)
    cells = cells_by_part(groups)
    items = [groups[key][0] for key in cells if key in groups]
    label, x, adversaries = _read_adversaries(items, point)
    paper = [m for (d, m), part in cells.items() if d == datasets[0] and m in part.models]
    ran = {model for _, model in groups}
    return ShownPoint(
        dataset=datasets[0],
        point_id=point,
        choice="the first of the cohort in its seeded random order"
        if point_id is None
        else "chosen by its number",
        cohort=len(cohort),
        label=label,
        x=x,
        adversaries=adversaries,
        not_run=[model for model in paper if model not in ran] if not_run is None else not_run,
        inputs=[path for item in items for path in (*item.chunks, *item.arrays)],
    )


def class_name(label: int, class_names: Sequence[str]) -> str:
    """Returns the name of a class, or its number where it has none."""
    return str(class_names[label]) if 0 <= label < len(class_names) else str(label)


def _chosen(point_id: int | None, cohort: Sequence[int]) -> int:
    if not len(cohort):
        raise InputError("The cohort has no points.")
    if point_id is None:
        return int(cohort[0])
    if point_id not in set(cohort):
        raise InputError(
            f"Point {point_id} is not among the {len(cohort)} attacked points.",
            remedy="leave the point out to show the first of the cohort.",
        )
    return int(point_id)


def _read_adversaries(
    items: Sequence[AttackInput], point: int
) -> tuple[int, np.ndarray, list[Adversary]]:
    """Returns the point's label, the point, and what fools each model."""
    label, x, found = None, None, []
    for item in items:
        points = smallest_distances(item).set_index("point_id")
        if point not in points.index:
            raise InputError(f"{item.model} was not attacked at point {point}.")
        row = points.loc[point]
        arrays = _read_arrays(item, point)
        if x is None:
            label, x = int(row["label"]), arrays["x"]
        elif not np.array_equal(x, arrays["x"]) or label != int(row["label"]):
            raise InputError(
                f"The models disagree about the original of point {point}.", where=item.model
            )
        found.append(_adversary(item, row, arrays, point))
    return label, x, found


def _read_arrays(item: AttackInput, point: int) -> dict[str, np.ndarray]:
    for path in item.arrays:
        if not Path(path).is_file():
            raise InputError("This file of adversarial arrays does not exist.", where=str(path))
        tensors = io.read_tensors(path)
        missing = {"point_id", "x", "x_adv", "x_final_iterate"} - set(tensors)
        if missing:
            raise InputError(f"Arrays are missing: {', '.join(sorted(missing))}.", where=str(path))
        found = np.flatnonzero(tensors["point_id"] == point)
        if found.size:
            return {
                name: tensors[name][found[0]].astype(np.float64)
                for name in ("x", "x_adv", "x_final_iterate")
            }
    raise InputError(
        f"The adversarial arrays of point {point} are missing.",
        where=item.model,
        remedy="run the attack again with its arrays kept.",
    )


def _started(item: AttackInput, point: int) -> bool:
    """Tells whether a run on a point had an adversarial start."""
    records = read_records(item.chunks)
    return bool(records.loc[records["point_id"] == point, "init_ok"].any())


def _adversary(
    item: AttackInput, row: pd.Series, arrays: Mapping[str, np.ndarray], point: int
) -> Adversary:
    model = item.model
    name, restarts = model_label(model), int(row["restarts"])
    if row["clean_prediction"] != row["label"]:
        remark = f"{name}: misclassified without attack."
        wrong = int(row["clean_prediction"])
        return Adversary(model, restarts, None, 0.0, 0.0, wrong, remark=remark)
    if not np.isfinite(row["l2"]):
        remark, started = f"{name}: no adversarial example in {restarts} restarts.", True
        if not _started(item, point):
            remark = (
                f"{name}: no start for the attack: the model gives nothing that it could begin at "
                "another class than the point's, and perhaps one answer to everything."
            )
            started = False
        return Adversary(model, restarts, None, np.inf, np.inf, -1, started, remark)
    if not np.isfinite(arrays["x_adv"]).all():
        raise InputError(f"The adversarial array of point {point} is not finite.", where=model)
    final = float(np.linalg.norm(arrays["x_final_iterate"] - arrays["x"]))
    projected = float(np.linalg.norm(arrays["x_adv"] - arrays["x"]))
    # Equal where the arrays are those of the best restart; the last iterate of another
    # restart may be nearer, never the one drawn.
    agrees = np.isclose(projected, row["l2"], rtol=1e-3, atol=1e-6)
    lost = not np.isfinite(row["l2_final_iterate"])
    nearer = final < row["l2_final_iterate"] * (1 - 1e-3) - 1e-6
    if not agrees or (nearer and not lost):
        raise InputError(
            f"Arrays and records disagree at point {point}: distances {projected:.6g} and "
            f"{row['l2']:.6g}.",
            where=model,
            remedy="run the attack again.",
        )
    prediction = int(row["adversarial_prediction"])
    if lost or not np.isfinite(final):
        remark = f"{name}: no last iterate is adversarial; drawn is the projected point."
        projection = arrays["x_adv"]
        drawn = (projection, projected, projected, prediction)
        return Adversary(model, restarts, *drawn, remark=remark)
    return Adversary(model, restarts, arrays["x_final_iterate"], final, projected, prediction)
