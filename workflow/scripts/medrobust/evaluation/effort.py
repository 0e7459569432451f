"""What more restarts and more iterations of an attack gain.

The distance of a point is the smallest over its restarts, so its mean falls with their number
k. With R restarts at hand, its expectation for k of them is the mean over all subsets of k,
which order statistics give exactly: the i-th smallest of R distances is the smallest of
C(R - i, k - 1) of the C(R, k) subsets.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from medrobust.core.errors import InputError
from medrobust.evaluation import intervals, statistics
from medrobust.evaluation.statistics import Estimate

#: A median has settled if it changes by less than this part when the iterations are doubled.
SETTLED_CHANGE = 0.02
#: Numbers of restarts that are shown where there are so many.
RESTARTS = (1, 2, 3, 5, 10)


def restart_counts(restarts: int) -> list[int]:
    """Returns the numbers of restarts to show of ``restarts``, ascending, that number last."""
    return [count for count in RESTARTS if count < restarts] + [restarts]


def iteration_counts(max_iter: int) -> list[int]:
    """Returns a quarter, half and all of ``max_iter``, rounded down, without repetition."""
    return sorted({max_iter // 4, max_iter // 2, max_iter})


def expected_minima(
    distances: np.ndarray, count: int, *, failed_as: float = math.inf
) -> np.ndarray:
    """Returns each point's expected smallest distance over ``count`` of its restarts.

    The expectation is over subsets without repetition, all alike probable.

    Args:
        distances: ``[n, R]``, +inf where a restart failed.
        count: size of the subsets, in [1, R].
        failed_as: what a subset counts as in which every restart failed: +inf, or the least
            that its distance can be for a lower bound.

    Returns:
        float64 ``[n]``; by default +inf where at least ``count`` restarts failed.

    Raises:
        InputError: a distance is NaN or negative, or there are fewer restarts than ``count``.
    """
    distances = np.sort(np.asarray(distances, dtype=np.float64), axis=1)
    restarts = distances.shape[1]
    if np.isnan(distances).any() or (distances < 0).any():
        raise InputError("A distance is negative or not a number.")
    if not 1 <= count <= restarts:
        raise InputError(f"{count} of {restarts} restarts cannot be chosen.")
    # A failed restart, sorted last, is the smallest only of subsets that failed altogether.
    values = np.where(np.isinf(distances), failed_as, distances)
    possible = restarts - count + 1  # the others are never the smallest
    chances = [
        math.comb(restarts - 1 - i, count - 1) / math.comb(restarts, count) for i in range(possible)
    ]
    return (values[:, :possible] * chances).sum(axis=1)


def mean_of_minima(
    replicates: Sequence[np.ndarray], count: int, *, generator: np.random.Generator
) -> Estimate:
    """Returns the mean over points of :func:`expected_minima`, averaged over replicates.

    Args:
        replicates: for each replicate ``[n, R]`` distances, +inf where a restart failed.
        count: size of the subsets, in [1, R].
        generator: randomness of the bootstrap.

    Returns:
        As :func:`medrobust.evaluation.statistics.mean_estimate`: with any point at which
        ``count`` restarts can fail altogether there is no value, and ``lower_bound`` is the mean
        in which such subsets count as 0.

    Raises:
        InputError: no points, or a distance or ``count`` that is out of range.
    """
    minima = [expected_minima(distances, count) for distances in replicates]
    estimate = statistics.mean_estimate(minima, generator=generator)
    if estimate.value is not None:
        return estimate
    least = [expected_minima(array, count, failed_as=0.0).mean() for array in replicates]
    # Nearer than with the whole point as 0: of its subsets only some failed.
    return dataclasses.replace(estimate, lower_bound=float(np.mean(least)))


def median_distance(replicates: Sequence[np.ndarray]) -> float | None:
    """Returns the median over points, averaged over replicates; None where one is infinite.

    Args:
        replicates: for each ``[n]`` distances, +inf where censored.
    """
    value = float(np.mean([np.median(array) for array in replicates]))
    return value if math.isfinite(value) else None


def median_change(before: float | None, after: float | None) -> float | None:
    """Returns by which part a median became smaller, negative: larger; None where one is none.

    A median of 0, which no effort can lower, does not change.
    """
    if before is None or after is None:
        return None
    return 1 - after / before if before else 0.0


def relative_gain(
    before: Sequence[np.ndarray],
    after: Sequence[np.ndarray],
    *,
    generator: np.random.Generator,
    resamples: int = intervals.RESAMPLES,
    level: float = 0.95,
) -> tuple[float | None, float | None, float | None]:
    """Returns by which part the mean distance became smaller, with its paired interval.

    That is 1 - mean(after) / mean(before). The interval is of pairs, so that what the two have in
    common does not widen it; it covers what :func:`medrobust.evaluation.statistics.mean_estimate`'s
    does.

    Args:
        before, after: for each replicate ``[n]`` distances of the same points; +inf where
            censored. With fewer than three replicates all have the same points.
        generator: randomness.
        resamples: number of resamples.
        level: confidence level in (0, 1).

    Returns:
        The gain and the ends of its interval, as fractions (0.1: a tenth smaller, negative:
        larger). All None where a distance is censored or nothing is left to gain (mean 0); no
        interval where the gain is the same at every point, or replicates have different points.

    Raises:
        InputError: before and after do not match.
    """
    if [len(array) for array in before] != [len(array) for array in after] or not before:
        raise InputError("Distances before and after are not of the same points.")
    finite = all(np.isfinite(array).all() for array in (*before, *after))
    if not finite or not sum(float(np.sum(array)) for array in before):
        return None, None, None
    pairs = list(zip(before, after, strict=True))
    start, end = (float(np.mean([array.mean() for array in side])) for side in (before, after))
    gain = 1 - end / start
    if len({array.size for array in before}) > 1:
        return gain, None, None
    low, high = intervals.ratio_interval(
        np.mean(after, axis=0), np.mean(before, axis=0),
        generator=generator, resamples=resamples, level=level,
    )  # fmt: skip
    if low is None or high is None:
        return gain, None, None
    ends: intervals.Ends = (1 - high, 1 - low)
    if len(pairs) >= intervals.MIN_REPLICATES:
        gains = [1 - float(a.mean() / b.mean()) for b, a in pairs if b.any()]
        if len(gains) < len(pairs):
            return gain, None, None
        ends = intervals.over_trainings(gain, ends, gains, level=level)
    return gain, *ends
