"""Models on the same points: how far two of them lie apart, and is it more than chance?

A point is attacked in every model, so differences are taken point by point: what makes one
heartbeat harder to attack than another then drops out. Beside the signed-rank test with Holm's
adjustment (:func:`medrobust.evaluation.statistics.paired_comparisons`) stand the mean and median
difference and the ratio of the means, each with an interval from a paired bootstrap: whole
points are drawn, with the values of both models.

Models that were attacked on different points are not compared; :func:`common_points` tells
them apart. Distances follow the convention of :mod:`medrobust.evaluation.statistics`: +inf is
censored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medrobust.core.errors import InputError
from medrobust.evaluation import intervals, statistics

if TYPE_CHECKING:
    import pandas as pd

Randomness = Callable[..., np.random.Generator]
"""Names of a piece of work -> its own generator."""

#: Largest number of drawn counts held in memory at once.
_BLOCK = 4_000_000


def mean_over_replicates(replicates: Sequence[pd.Series]) -> pd.Series:
    """Returns one value per point: its mean over the replicates.

    A point that is censored (+inf) in any replicate is censored in the mean, which no finite
    number can bound.

    Args:
        replicates: of each replicate, float64 values indexed by point.

    Returns:
        float64, sorted by point.

    Raises:
        InputError: there are no values, a point occurs twice, or the replicates hold different
            points.
    """
    import pandas as pd

    if not replicates or any(one.empty or one.index.has_duplicates for one in replicates):
        raise InputError("A mean over replicates needs one value for every point.")
    ordered = [one.sort_index().astype("float64") for one in replicates]
    if any(not one.index.equals(ordered[0].index) for one in ordered):
        raise InputError(
            "The replicates hold different points.",
            remedy="attack the same cohort in every replicate.",
        )
    return pd.Series(np.mean(ordered, axis=0), index=ordered[0].index)


def common_points(values: Mapping[str, pd.Series]) -> tuple[pd.DataFrame, list[str]]:
    """Puts the models that share their points side by side.

    Args:
        values: of each model, float64 values indexed by point, sorted.

    Returns:
        One row per point, one column per model, of the largest set of models with equal points
        (the first such set where several are largest); and the models left out of it.
    """
    import pandas as pd

    cohorts: dict[tuple[int, ...], list[str]] = {}
    for model, one in values.items():
        cohorts.setdefault(tuple(one.index), []).append(model)
    chosen = max(cohorts.values(), key=len, default=[])
    return pd.DataFrame({model: values[model] for model in chosen}), [
        model for model in values if model not in chosen
    ]


def resampled_means(
    values: np.ndarray,
    generator: np.random.Generator,
    resamples: int = intervals.RESAMPLES,
) -> np.ndarray:
    """Returns bootstrap means of points drawn with replacement, whole rows at a time.

    How often each distinct row is drawn has a multinomial distribution, which is drawn
    directly: test sets of thousands of points cost no more than a few.

    Args:
        values: ``[n, k]`` finite numbers, k values of each point.
        generator: randomness.
        resamples: number of resamples.

    Returns:
        ``[resamples, k]`` float64.

    Raises:
        InputError: there are no points, or a value is not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] == 0 or not np.isfinite(values).all():
        raise InputError("A bootstrap of means needs finite values of at least one point.")
    distinct, counts = np.unique(values, axis=0, return_counts=True)
    n = len(values)
    step = max(1, _BLOCK // len(distinct))
    blocks = [
        generator.multinomial(n, counts / n, size=min(step, resamples - start)) @ distinct / n
        for start in range(0, resamples, step)
    ]
    return np.concatenate(blocks)


def compare_pairs(
    values: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    randomness: Randomness,
    *,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """Compares pairs of models on the same points.

    Args:
        values: one row per point, one column per model, each in [0, +inf].
        pairs: (first, second) models; Holm's adjustment is over these.
        randomness: called with (first, second, name of the statistic).
        alpha: level of the test.

    Returns:
        The columns of :func:`medrobust.evaluation.statistics.paired_comparisons`, then
        ``censored`` (points where at least one of the two is), ``mean_difference`` (first minus
        second), ``median_difference`` and ``ratio`` (mean of the first over that of the
        second), each with ``_low`` and ``_high``, the ends of its 95 % interval. NaN where
        censoring or a mean of 0 leaves a number undefined, and intervals of fewer than two points.

    Raises:
        InputError: a value is missing, or a model is not a column.
    """
    result = statistics.paired_comparisons(values, pairs=pairs, alpha=alpha)
    columns = {
        (first, second): _apart(values[first].to_numpy(float), values[second].to_numpy(float))
        for first, second in pairs
    }
    rows = [
        _sizes(*columns[pair], lambda name, pair=pair: randomness(*pair, name)) for pair in pairs
    ]
    for name in _SIZE_COLUMNS:
        result[name] = [row[name] for row in rows]
    return result


_SIZE_COLUMNS = (
    "censored",
    *("mean_difference", "mean_difference_low", "mean_difference_high"),
    *("median_difference", "median_difference_low", "median_difference_high"),
    *("ratio", "ratio_low", "ratio_high"),
)


def _apart(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns both columns and their differences, NaN where both are censored."""
    with np.errstate(invalid="ignore"):
        return first, second, first - second


def _sizes(
    first: np.ndarray,
    second: np.ndarray,
    difference: np.ndarray,
    generator_of: Callable[[str], np.random.Generator],
) -> dict[str, float]:
    row = dict.fromkeys(_SIZE_COLUMNS, np.nan)
    row["censored"] = int((np.isinf(first) | np.isinf(second)).sum())
    # A median exists unless both are censored at a point, or each at another.
    if not (np.isnan(difference).any() or {np.inf, -np.inf} <= set(difference)):
        row["median_difference"] = float(np.median(difference))
        _put(row, "median_difference", intervals.median_interval(difference))
    if row["censored"]:
        return row
    row["mean_difference"] = float(difference.mean())
    ends = intervals.mean_interval(difference, generator=generator_of("mean difference"))
    _put(row, "mean_difference", ends)
    if second.mean() > 0:
        row["ratio"] = float(first.mean() / second.mean())
        low, high = intervals.ratio_interval(first, second, generator=generator_of("ratio"))
        _put(row, "ratio", (low if low is None else max(0.0, low), high))
    return row


def _put(row: dict[str, float], name: str, ends: tuple[float | None, float | None]) -> None:
    for side, end in zip(("low", "high"), ends, strict=True):
        row[f"{name}_{side}"] = np.nan if end is None else end


def ratio_draws(
    first: np.ndarray, second: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Returns bootstrap ratios of two means over the same points, ``[RESAMPLES]``.

    +inf where a resample's second mean is 0 (1 where the first is 0 as well).

    Args:
        first, second: ``[n]`` finite values, at least 0.
        generator: randomness.
    """
    means = resampled_means(np.column_stack([first, second]), generator)
    over, under = means[:, 0], means[:, 1]
    ratios = np.where(over > 0, np.inf, 1.0)
    return np.divide(over, under, out=ratios, where=under > 0)
