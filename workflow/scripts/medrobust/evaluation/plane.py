"""How far points of the plane are from another label, by looking everywhere.

In two dimensions no attack is needed: the labels of a fine grid say where the model errs, and a
distance transform says how far each point is from there. This is what an attack in the maximum norm
should find, and shows what it misses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from medrobust.models.ensembles import Ensemble


def is_plane(shape: Sequence[int], n_classes: int) -> bool:
    """Tells whether points of this shape lie in the plane, where two classes can be drawn."""
    return tuple(shape) == (2,) and n_classes == 2


def distances_to_another_label(
    labels: np.ndarray,
    low: np.ndarray,
    spacing: float,
    points: np.ndarray,
    own: np.ndarray,
) -> np.ndarray:
    """Returns each point's distance in the maximum norm to the boundary to another label.

    If the nearest cell of another label is k cells away, the boundary lies between that cell and
    the one before, and the distance is taken to lie in the middle: k - 1/2 cells. So distances are
    right on average, and none equals a level that is a multiple of ``spacing``.

    Args:
        labels: of a grid of square cells, int ``[h, w]``; rows go with the second coordinate.
        low: coordinates ``[2]`` of the first cell.
        spacing: between cells; distances are right to one spacing (half a cell of the boundary,
            half a cell of the point, which counts as lying in the middle of its cell).
        points: within the grid, ``[k, 2]``.
        own: their labels, int ``[k]``.

    Returns:
        float32 ``[k]``; 0 where the point's own cell has another label, infinite where no cell has.
    """
    from scipy.ndimage import distance_transform_cdt

    cells = np.rint((points.astype(np.float64) - low) / spacing).astype(np.int64)
    rows, columns = cells[:, 1], cells[:, 0]
    found = np.full(len(points), np.inf, dtype=np.float32)
    for label in np.unique(own):
        same = labels == label
        if same.all():
            continue
        away = distance_transform_cdt(same, metric="chessboard")
        mine = own == label
        cells_away = away[rows[mine], columns[mine]]
        found[mine] = np.where(cells_away > 0, cells_away - 0.5, 0.0) * spacing
    return found


#: Values of the map's first coordinate, and how far it reaches beyond the test points.
WIDTH, EDGE = 400, 0.5
#: Distance of the grid points by which distances to another label are measured.
FINE_SPACING = 0.0025


@dataclass(frozen=True)
class Box:
    """A rectangle of the plane, from ``low [2]`` to ``high [2]``."""

    low: np.ndarray
    high: np.ndarray

    @classmethod
    def around(cls, points: np.ndarray, edge: float) -> Box:
        """Returns the rectangle of points ``[n, 2]`` with an edge on each side."""
        exact = points.astype(np.float64)
        return cls(exact.min(axis=0) - edge, exact.max(axis=0) + edge)

    @classmethod
    def around_segment(cls, one: np.ndarray, other: np.ndarray, share: float) -> Box:
        """Returns a square around the middle between two points ``[2]``.

        Half its side is ``share`` times the larger difference of their coordinates.
        """
        ends = np.stack([one, other]).astype(np.float64)
        middle, half = ends.mean(axis=0), share * np.abs(ends[1] - ends[0]).max()
        return cls(middle - half, middle + half)

    def probabilities(self, model: Ensemble, width: int) -> dict[str, np.ndarray]:
        """Returns ``first [width]``, ``second [h]`` and ``probability [h, width]`` of class 1."""
        size = self.high - self.low
        height = max(2, round(width * float(size[1] / size[0])))
        first, second = (
            np.linspace(low, high, count, dtype=np.float32)
            for low, high, count in zip(self.low, self.high, (width, height), strict=True)
        )
        grid = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
        probability = model.mean_probabilities(grid)[:, 1].astype(np.float32)
        return {
            "first": first,
            "second": second,
            "probability": probability.reshape(height, width),
        }

    def distances(
        self, model: Ensemble, points: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """Returns each point's Linf distance to another label, and the spacing of the grid."""
        low, size = self.low, self.high - self.low
        first, second = (
            low[axis] + FINE_SPACING * np.arange(int(size[axis] / FINE_SPACING) + 1)
            for axis in (0, 1)
        )
        # A row of the grid at a time: what a model computes of all would fill the memory.
        called = np.empty((len(second), len(first)), dtype=np.int64)
        row = np.empty((len(first), 2), dtype=np.float32)
        row[:, 0] = first
        for place, height in enumerate(second):
            row[:, 1] = height
            called[place] = model.mean_probabilities(row).argmax(axis=1)
        found = distances_to_another_label(called, low, FINE_SPACING, points, labels)
        return found, FINE_SPACING
