"""Loops over the values of maps for the second way back through batch normalisation: compiled.

Values lie as ``[rows, maps]``, rows being all pixels of all images. Sums are float64.
"""

from __future__ import annotations

import numpy as np

from medrobust.runtime.compiled import compiled


@compiled
def sums(
    changes: np.ndarray, slopes: np.ndarray, x: np.ndarray, mean: np.ndarray, found: np.ndarray
) -> None:
    """Adds the sums that the second way back needs to ``found [5, maps]``, zeros at first.

    Those of slopes and of changes, of both times ``x - mean``, and of slopes times changes.

    Args:
        changes, slopes, x: ``[rows, maps]``.
        mean: ``[maps]``.
        found: float64.
    """
    for row in range(len(x)):
        for k in range(len(mean)):
            g, v, away = slopes[row, k], changes[row, k], x[row, k] - mean[k]
            found[0, k] += g
            found[1, k] += v
            found[2, k] += g * away
            found[3, k] += v * away
            found[4, k] += g * v


@compiled
def combine(
    changes: np.ndarray,
    slopes: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    factors: np.ndarray,
    to_slopes: np.ndarray,
    to_x: np.ndarray,
) -> None:
    """Fills both results with linear functions of the values, other ones for each map.

    ``to_slopes`` of changes, ``x - mean`` and 1; ``to_x`` of slopes, changes, ``x - mean`` and 1.

    Args:
        changes, slopes, x, to_slopes, to_x: ``[rows, maps]``.
        mean: ``[maps]``.
        factors: ``[7, maps]``, in this order.
    """
    for row in range(len(x)):
        for k in range(len(mean)):
            g, v, away = slopes[row, k], changes[row, k], x[row, k] - mean[k]
            to_slopes[row, k] = factors[0, k] * v + factors[1, k] * away + factors[2, k]
            to_x[row, k] = (
                factors[3, k] * g + factors[4, k] * v + factors[5, k] * away + factors[6, k]
            )
