"""The single runs of an attack: distances of every restart, and traces where there are some.

Tables of an attack's outcome look at the best restart of a point
(:func:`medrobust.evaluation.statistics.point_distances`); what the effort of an attack gains
can only be seen in all of them. Distances follow the convention of
:mod:`medrobust.evaluation.statistics`: 0 where the model is wrong without any attack, +inf
where a restart failed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from medrobust.core.errors import InputError
from medrobust.evaluation.intervals import MIN_REPLICATES
from medrobust.evaluation.traces import StoredTraces, read_traces
from medrobust.reporting import artefacts
from medrobust.reporting.plotting import model_label

if TYPE_CHECKING:
    import pandas as pd

Norm = Literal[2, "inf"]
NORM_LABELS: dict[Norm, str] = {2: "L₂", "inf": "L∞"}
#: The two distances of a run, and how they are printed.
TERMS = {"iterate": "as printed", "boundary": "at the boundary"}


@dataclass(frozen=True)
class AttackFiles:
    """Files of the attack on one model on one data set.

    Attributes:
        dataset: the data set as printed.
        model: the model's name.
        source: where the data came from (:data:`medrobust.reporting.artefacts.SOURCES`).
        records: for each replicate, its files of records.
        arrays: for each replicate, the files of arrays beside them.
    """

    dataset: str
    model: str
    source: str
    records: Sequence[Sequence[str]]
    arrays: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Runs:
    """The runs of an attack on n points with R restarts, one replicate.

    Attributes:
        point_id: int64 ``[n]``, ascending.
        iterate: float64 ``[n, R]``, distance of the last iterate, before projection.
        boundary: float64 ``[n, R]``, distance after projection to the decision boundary.
        misclassified: number of points that the model misclassifies without attack.
        iterations: the most iterations that a run did.
        traces: the runs' traces, None where the engine kept none.
    """

    point_id: np.ndarray
    iterate: np.ndarray
    boundary: np.ndarray
    misclassified: int
    iterations: int
    traces: StoredTraces | None


def by_dataset(models: Sequence[AttackFiles]) -> dict[str, list[AttackFiles]]:
    """Groups models by data set, both in the order given.

    Raises:
        InputError: there is no model, a model stands twice on a data set, a data set has two
            sources, or a source is not known.
    """
    groups: dict[str, list[AttackFiles]] = {}
    for files in models:
        group = groups.setdefault(files.dataset, [])
        where = f"{files.model} on {files.dataset}"
        if any(other.model == files.model for other in group):
            raise InputError("The attack on a model is given twice.", where=where)
        if group and group[0].source != files.source:
            raise InputError("The results on one data set come from two sources.", where=where)
        group.append(files)
    if not groups:
        raise InputError("There is no attack on any model to draw.")
    artefacts.check_sources({name: group[0].source for name, group in groups.items()})
    return groups


def read_runs(files: AttackFiles, norm: Norm) -> list[Runs] | None:
    """Reads the runs of each replicate.

    Records hold last iterates in L2 alone. For another norm the distances are the last entries of
    the traces.

    Args:
        files: of one model on one data set.
        norm: the norm that the attack minimised.

    Returns:
        The runs, or None where the norm is not 2 and there are no traces.

    Raises:
        InputError: records or traces are not valid, do not belong to each other, or differ in
            their points or numbers of restarts.
    """
    where = f"{files.model} on {files.dataset}"
    pairs = zip(files.records, files.arrays, strict=True)
    runs = [_read_replicate(records, arrays, where) for records, arrays in pairs]
    if len({one.boundary.shape[1] for one in runs}) > 1:
        raise InputError("The replicates have different numbers of restarts.", where=where)
    if len(runs) < MIN_REPLICATES and any(
        not np.array_equal(one.point_id, runs[0].point_id) for one in runs
    ):
        raise InputError(
            "The replicates attacked different points.",
            where=where,
            remedy="attack one cohort in all replicates, or run at least "
            f"{MIN_REPLICATES} of them.",
        )
    if norm == 2:
        return runs
    if any(one.traces is None for one in runs):
        return None
    return [
        dataclasses.replace(
            one, iterate=one.traces.iterate[..., -1], boundary=one.traces.boundary[..., -1]
        )
        for one in runs
    ]


def _read_replicate(records: Sequence[str], arrays: Sequence[str], where: str) -> Runs:
    from medrobust.evaluation.records import read_records

    frame = read_records(records)
    if frame.duplicated(["point_id", "restart"]).any():
        raise InputError("These records hold several epsilons or losses.", where=where)
    points = np.unique(frame["point_id"])
    restarts = frame["restart"].nunique()
    if len(frame) != len(points) * restarts:
        raise InputError(
            "Not all points were attacked with the same number of restarts.", where=where
        )
    wrong = (frame["clean_prediction"] != frame["label"]).to_numpy()
    traces = read_traces(arrays)
    if traces is not None and (
        not np.array_equal(traces.point_id, points) or traces.restarts != restarts
    ):
        raise InputError(
            "The traces are not those of the points and restarts of the records.",
            where=where,
            remedy="run the attack again.",
        )

    # Rows are sorted by point and restart.
    def distances(column: str) -> np.ndarray:
        values = frame[column].fillna(np.inf).to_numpy(float)
        return np.where(wrong, 0.0, values).reshape(len(points), restarts)

    return Runs(
        points,
        distances("l2_final_iterate"),
        distances("l2"),
        int(wrong.sum()) // restarts,
        int(frame["iterations"].max()),
        traces,
    )


def named(cells: Sequence[tuple[str, str]]) -> str:
    """Returns (data set, model) pairs in words: "MIT-BIH (SCD01, MLP); PTBD (MLP)"."""
    models: dict[str, list[str]] = {}
    for dataset, model in cells:
        models.setdefault(dataset, []).append(model_label(model))
    return "; ".join(f"{dataset} ({', '.join(names)})" for dataset, names in models.items())


def counts(frame: pd.DataFrame) -> str:
    """Returns the attacked points of each data set in words.

    Args:
        frame: columns ``dataset`` and ``n``.
    """
    parts = []
    for dataset, part in frame.groupby("dataset", sort=False):
        sizes = sorted(set(part["n"].astype(int)))
        words = " or ".join(str(size) for size in sizes)
        parts.append(f"{dataset}: {words} {'point' if sizes == [1] else 'points'}")
    return "; ".join(parts) or "nothing was run"
