"""Starts of attacks that begin at a given point (``start: fixed``).

The sign-network paper attacks images from one image that all its models misclassify, such as one
of the other class. The cohort names one for the points of each class; a model that does not
misclassify it begins at a start of its own, and its records say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from medrobust.attacks import LabelModel

#: There is none.
NO_START = -1


class TestSplit(Protocol):
    """The test points of a data set, ``medrobust.data.prepared.store.Dataset``."""

    @property
    def test_index(self) -> np.ndarray:
        """Their rows in ``x.npy``, int64 ``[n]``."""
        ...

    @property
    def x_test(self) -> np.ndarray:
        """The points, float32 ``[n, *shape]``."""
        ...

    @property
    def y_test(self) -> np.ndarray:
        """Their classes, int64 ``[n]``."""
        ...

    def points(self, ids: np.ndarray) -> np.ndarray:
        """Returns points by their rows in ``x.npy``."""
        ...


def choose_start(
    labels: np.ndarray,
    predictions: np.ndarray,
    order: np.ndarray,
    label: int,
    target: int | None = None,
) -> int:
    """Returns the row to begin at when points of a class are attacked, :data:`NO_START` if none.

    The first row of another class that all models classify correctly; where none of these serves
    all models, the first of those that serve the most, rows of other classes before others.

    Args:
        labels: int64 ``[n]``, true classes.
        predictions: int64 ``[models, n]``.
        order: int64 ``[n]``, in which rows are considered.
        label: class of the points under attack.
        target: class that the attack aims at; None: any but ``label``.
    """
    reached = predictions != label if target is None else predictions == target
    serves = reached.sum(axis=0)
    other = labels != label
    plain = other & (predictions == labels).all(axis=0) & (serves == len(predictions))
    # Of equal ranks the first in order.
    rank = np.where(plain, 2 * len(predictions) + 2, 2 * serves + other)
    best = order[np.argmax(rank[order])]
    return int(best) if plain[best] or serves[best] else NO_START


@dataclass(frozen=True)
class GivenStarts:
    """Where an attack on one model begins at each of n points.

    Attributes:
        x: float32 ``[n, *shape]``; where there is no start, the point itself, at which no attack
            can begin.
        ids: int64 ``[n]``, the row of ``x.npy``; :data:`NO_START` where there is none.
        shared: bool ``[n]``, whether it is the cohort's, the same for all models.
    """

    x: np.ndarray
    ids: np.ndarray
    shared: np.ndarray


def given_starts(
    model: LabelModel, dataset: TestSplit, cohort: pd.DataFrame, target: int | None = None
) -> GivenStarts:
    """Returns the cohort's starts, and a model's own where it does not misclassify those.

    Args:
        model: under attack.
        dataset: whose test points can be starts.
        cohort: the points to attack: ``point_id``, ``label``, ``start_id``.
        target: class that the attack aims at; None: any but the point's own.
    """
    points, labels, ids = (
        cohort[name].to_numpy(np.int64) for name in ("point_id", "label", "start_id")
    )
    # A cohort of one class of points may have been chosen before starts were.
    x = dataset.points(np.where(ids >= 0, ids, points))
    found = model.predict(x)
    shared = (ids >= 0) & ((found != labels) if target is None else (found == target))
    ids = ids.copy()
    if not shared.all():
        predictions = model.predict(dataset.x_test)[None]
        order = np.arange(len(dataset.test_index))
        for label in np.unique(labels[~shared]):
            row = choose_start(dataset.y_test, predictions, order, int(label), target)
            own = ~shared & (labels == label)
            ids[own] = NO_START if row == NO_START else dataset.test_index[row]
        x[~shared] = dataset.points(np.where(ids >= 0, ids, points)[~shared])
    return GivenStarts(x, ids, shared)


def with_starts(records: pd.DataFrame, points: np.ndarray, starts: GivenStarts) -> pd.DataFrame:
    """Returns records that say where each attack began: ``start_id`` and ``start_shared``.

    Both are null where there was no start, and where the model misclassifies the clean point.

    Args:
        records: of these points.
        points: int64 ``[n]``, their ids.
        starts: of the same points.
    """
    import pandas as pd

    row = pd.Index(points).get_indexer(records["point_id"])
    begun = (starts.ids[row] >= 0) & (records["clean_prediction"] == records["label"]).to_numpy()
    start_id = pd.array(starts.ids[row], dtype="Int64")
    shared = pd.array(starts.shared[row], dtype="boolean")
    start_id[~begun], shared[~begun] = pd.NA, pd.NA
    return records.assign(start_id=start_id, start_shared=shared)
