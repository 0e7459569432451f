"""Compiled traversal of a flattened forest (numba)."""

from __future__ import annotations

import numpy as np

from medrobust.runtime.compiled import compiled


@compiled
def leaf_probabilities(
    x: np.ndarray,
    offset: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    feature: np.ndarray,
    threshold: np.ndarray,
    probability: np.ndarray,
) -> np.ndarray:
    """Returns float32 ``[trees, n, n_classes]``: the probabilities of the leaf each point falls in.

    Args:
        x: float32 ``[n, d]``; the other arguments as :mod:`medrobust.models.forest` lays out.
    """
    trees, points, classes = offset.size - 1, x.shape[0], probability.shape[1]
    result = np.empty((trees, points, classes), dtype=np.float32)
    # Trees outside, points inside: one tree stays in the cache while all points pass it.
    for tree in range(trees):
        first = offset[tree]
        for point in range(points):
            node = first
            while left[node] >= 0:
                if x[point, feature[node]] <= threshold[node]:
                    node = first + left[node]
                else:
                    node = first + right[node]
            result[tree, point] = probability[node]
    return result
