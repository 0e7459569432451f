"""How far points of the plane are from another label, by looking everywhere.

In two dimensions no attack is needed: the labels of a fine grid say where the model errs, and a
distance transform says how far each point is from there. This is what an attack in the maximum norm
should find, and shows what it misses.
"""

from __future__ import annotations

import numpy as np


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
