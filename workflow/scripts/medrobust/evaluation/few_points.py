"""What the mean of a few points can say: means of small samples drawn from many points."""

from __future__ import annotations

import numpy as np

#: Samples drawn.
DRAWS = 10_000


def means_of_few(
    values: np.ndarray, few: int, generator: np.random.Generator, draws: int = DRAWS
) -> np.ndarray:
    """Returns the means of samples of ``few`` points, the same points for all columns.

    Args:
        values: ``[n, columns]``, at least one row; +inf where a point is censored, NaN nowhere.
        few: points of a sample, drawn without replacement; all where there are fewer.
        generator: randomness.
        draws: number of samples.

    Returns:
        float64 ``[draws, columns]``.
    """
    values = np.asarray(values, dtype=np.float64)
    few = min(few, len(values))
    order = np.argsort(generator.random((draws, len(values))), axis=1)
    return values[order[:, :few]].mean(axis=1)


def middle_range(means: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Returns between which numbers the middle ``level`` of the means lies.

    Args:
        means: ``[draws]``; may hold +inf.
        level: share of the means within the range.
    """
    ends = ((1 - level) / 2, (1 + level) / 2)
    # Interpolation between a number and infinity is no number.
    method = "linear" if np.isfinite(means).all() else "inverted_cdf"
    low, high = np.quantile(means, ends, method=method)
    return float(low), float(high)
