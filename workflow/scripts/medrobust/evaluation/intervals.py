"""Confidence intervals, and what they cover: test points, trainings, or both.

A number of a table depends on which test points were drawn and on how a training turned out. An
interval says which of the two it covers.

* **Points.** Shares: Agresti and Coull (1998), whose coverage stays near 95 % at shares close to 0
  and 1 too, where Wilson's falls to 84 % (Brown, Cai and DasGupta 2001). Means: a studentised
  bootstrap (Efron and Tibshirani 1993, section 12.5), never narrower than Student's t interval.
  Medians: order statistics, exact for any distribution and with censored values.
* **Trainings.** From :data:`MIN_REPLICATES` on, Student's t over the numbers of the trainings.
  Resampling three to five numbers covers far less than it says (three: 75 %).
* **Both.** The trainings share their test points, so that the spread between them does not hold
  what other points would change. The two are independent; their intervals are joined as the
  intervals of a sum are (:func:`joined`; Zou and Donner 2008).

``benchmarks/bench_coverage.py`` measures how often each kind covers the truth: docs/results.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medrobust.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Ends of an interval; both None where nothing can be said.
Ends = tuple[float, float] | tuple[None, None]

#: Fewest trainings whose spread an interval takes in; below, it covers points only.
MIN_REPLICATES = 3
#: Resamples of every bootstrap of the project.
RESAMPLES = 9999
#: Largest number of drawn indices held in memory at once.
_BLOCK = 4_000_000


def share_interval(successes: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Returns the Agresti-Coull interval of a proportion, both ends in [0, 1].

    Args:
        successes: number of successes in [0, n]; may be fractional (a mean over replicates).
        n: number of trials, at least 1.
        level: confidence level in (0, 1).

    Raises:
        InputError: the counts are impossible.
    """
    if n < 1 or not 0 <= successes <= n:
        raise InputError(f"A proportion of {successes} successes in {n} trials is impossible.")
    z = _normal(level)
    trials = n + z * z
    centre = (successes + z * z / 2) / trials
    half = z * np.sqrt(centre * (1 - centre) / trials)
    # None and all are possible whatever the share: the ends are exactly 0 and 1 there.
    low = 0.0 if successes == 0 else max(0.0, float(centre - half))
    high = 1.0 if successes == n else min(1.0, float(centre + half))
    return low, high


def mean_interval(
    values: np.ndarray,
    *,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Ends:
    """Returns an interval of a mean over independent points.

    Args:
        values: ``[n]`` finite numbers.
        generator: randomness; equal generators give equal intervals.
        resamples: number of resamples.
        level: confidence level in (0, 1).

    Returns:
        None where fewer than two values differ: nothing is known of their spread then.

    Raises:
        InputError: a value is not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    ones = np.ones_like(values)
    return ratio_interval(values, ones, generator=generator, resamples=resamples, level=level)


def ratio_interval(
    over: np.ndarray,
    under: np.ndarray,
    *,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Ends:
    """Returns an interval of mean(over) / mean(under), both of the same independent points.

    A studentised bootstrap of whole points, joined with Student's t interval to the wider of the
    two at each end. Standard errors are those of the ratio's linear part.

    Args:
        over, under: ``[n]`` finite numbers; the mean of ``under`` is positive.
        generator: randomness; equal generators give equal intervals.
        resamples: number of resamples.
        level: confidence level in (0, 1).

    Returns:
        None where the points do not differ: nothing is known of their spread then.

    Raises:
        InputError: a value is not finite, or the mean below is not positive.
    """
    from scipy.special import stdtrit

    over, under = (np.asarray(values, dtype=np.float64) for values in (over, under))
    if not (np.isfinite(over).all() and np.isfinite(under).all()):
        raise InputError(
            "The interval of a mean needs finite values.",
            remedy="summarise censored distances by their median.",
        )
    n = over.size
    if n < 2:
        return None, None
    if under.mean() <= 0:
        raise InputError("A ratio of means needs a positive mean below.")
    ratio, error = _ratio(over[None], under[None])
    if not error[0] > 0:
        return None, None
    studentised = _studentised(over, under, ratio[0], generator, resamples)
    tail = (1 - level) / 2
    t = float(stdtrit(n - 1, 1 - tail))
    low_t, high_t = np.quantile(studentised, (tail, 1 - tail)) if studentised.size else (-t, t)
    low = ratio[0] - error[0] * max(high_t, t)
    high = ratio[0] + error[0] * max(-low_t, t)
    return float(low), float(high)


def _ratio(over: np.ndarray, under: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns ratios of means of rows and their standard errors; 0 where a row cannot tell."""
    n = over.shape[1]
    below = under.mean(axis=1)
    usable = below > 0
    ratio = np.divide(over.mean(axis=1), below, out=np.zeros_like(below), where=usable)
    part = over - ratio[:, None] * under
    error = np.sqrt((part**2).sum(axis=1) / (n - 1) / n)
    error = np.divide(error, below, out=np.zeros_like(below), where=usable)
    # Rounding alone leaves a spread to equal points.
    scale = np.abs(over).max() / np.where(usable, below, 1)
    return ratio, np.where(error > 1e-12 * scale, error, 0.0)


def _studentised(
    over: np.ndarray,
    under: np.ndarray,
    ratio: float,
    generator: np.random.Generator,
    resamples: int,
) -> np.ndarray:
    """Returns the deviations of resamples in their own standard errors, if they have one."""
    drawn = []
    for index in _indices(over.size, resamples, generator):
        ratios, errors = _ratio(over[index], under[index])
        there = errors > 0
        drawn.append((ratios[there] - ratio) / errors[there])
    return np.concatenate(drawn)


def _indices(n: int, resamples: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Yields ``[some, n]`` points drawn with replacement, ``resamples`` rows in all."""
    step = max(1, _BLOCK // n)
    for start in range(0, resamples, step):
        yield generator.integers(0, n, (min(step, resamples - start), n))


def median_interval(values: np.ndarray, level: float = 0.95) -> Ends:
    """Returns the order statistics between which a median lies with at least ``level``.

    Exact for independent points of any distribution; +inf (censored) may be an end.

    Args:
        values: ``[n]`` numbers, in [-inf, +inf].
        level: confidence level in (0, 1).

    Returns:
        None where even the smallest and largest value are not enough (below 6 points at 95 %).

    Raises:
        InputError: a value is not a number.
    """
    from scipy.stats import binom

    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if np.isnan(ordered).any():
        raise InputError("The interval of a median needs numbers.")
    # The k-th smallest lies above the median where fewer than k points lie below it.
    k = int(binom.ppf((1 - level) / 2, ordered.size, 0.5))
    if k < 1:
        return None, None
    return float(ordered[k - 1]), float(ordered[ordered.size - k])


def mean_of_medians_interval(
    rows: Sequence[np.ndarray],
    *,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Ends:
    """Returns the percentile interval of a mean of medians over the same points.

    Args:
        rows: ``[n]`` numbers of each training; points are drawn jointly. +inf is allowed.
        generator: randomness.
        resamples: number of resamples.
        level: confidence level in (0, 1).
    """
    stacked = np.stack(rows)
    if stacked.shape[1] < 2:
        return None, None
    blocks = [
        np.mean([np.median(row[index], axis=1) for row in stacked], axis=0)
        for index in _indices(stacked.shape[1], resamples, generator)
    ]
    return quantiles(np.concatenate(blocks), level)


def quantiles(draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Returns the ends that leave equal shares of ``draws`` outside."""
    # Interpolating between a finite draw and +inf has no meaning: take an observed draw.
    method = "linear" if np.isfinite(draws).all() else "inverted_cdf"
    low, high = np.quantile(draws, ((1 - level) / 2, (1 + level) / 2), method=method)
    return float(low), float(high)


# --- trainings --------------------------------------------------------------------------


def over_trainings(
    value: float,
    points: Ends,
    trainings: Sequence[float],
    *,
    limits: tuple[float, float] = (-np.inf, np.inf),
    level: float = 0.95,
    further: bool = False,
) -> Ends:
    """Returns the interval of a mean over trainings, over points and trainings together.

    Args:
        value: the mean.
        points: its interval over test points, which all trainings share.
        trainings: the number of each training, at least :data:`MIN_REPLICATES`.
        limits: the smallest and the largest value that the quantity can have.
        level: confidence level in (0, 1).
        further: the interval is of one further training on other test points (as a published
            number is), not of the mean.

    Returns:
        None where there is no interval over points.
    """
    from scipy.special import stdtrit

    if points[0] is None or points[1] is None:
        return None, None
    k = len(trainings)
    spread = float(np.std(trainings, ddof=1)) * np.sqrt(1 / k + further)
    half = float(stdtrit(k - 1, (1 + level) / 2)) * spread
    once_more = np.sqrt(1.0 + further)
    over_points = (
        value - once_more * (value - points[0]),
        value + once_more * (points[1] - value),
    )
    low, high = joined(value, [over_points, (value - half, value + half)])
    return max(limits[0], low), min(limits[1], high)


def joined(value: float, parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Returns the interval of a sum from the intervals of its independent parts.

    The distances of the ends from the value are added in squares (Howe 1974; Zou and Donner 2008,
    "Construction of confidence limits about effect measures", Statistics in Medicine 27:1693).

    Args:
        value: the sum.
        parts: ends of each part, shifted so that the part's own value is ``value``.
    """
    below = np.sqrt(sum((value - low) ** 2 for low, _ in parts))
    above = np.sqrt(sum((high - value) ** 2 for _, high in parts))
    return float(value - below), float(value + above)


def training_draws(
    draws: np.ndarray, trainings: Sequence[float], generator: np.random.Generator
) -> np.ndarray:
    """Returns draws over points, spread as a mean over few trainings is spread.

    What :func:`over_trainings` is for the ends of an interval: each draw moves by Student's t of
    ``k - 1`` degrees of freedom times the standard error of a mean over the k trainings.

    Args:
        draws: ``[resamples]`` draws of a mean over trainings, over points alone.
        trainings: the number of each training, at least :data:`MIN_REPLICATES`.
        generator: randomness.
    """
    k = len(trainings)
    error = float(np.std(trainings, ddof=1)) / np.sqrt(k)
    return draws + error * generator.standard_t(k - 1, size=np.shape(draws))


def share_draws(
    counts: Sequence[tuple[float, int]],
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> np.ndarray:
    """Returns draws of a share's mean over trainings, float64 ``[resamples]`` in [0, 1].

    They come from Jeffreys' posterior at the mean count (Brown, Cai and DasGupta 2001), which has a
    width at 0 and 1 too, where a bootstrap has none; from :data:`MIN_REPLICATES` on the spread
    between trainings is added.

    Args:
        counts: successes and trials of each training, at least one.
        generator: randomness.
        resamples: number of draws.
    """
    right = np.array([one for one, _ in counts], dtype=np.float64)
    n = np.array([one for _, one in counts], dtype=np.float64)
    draws = generator.beta(right.mean() + 0.5, n.mean() - right.mean() + 0.5, size=resamples)
    if len(counts) < MIN_REPLICATES:
        return draws
    return training_draws(draws, right / n, generator).clip(0, 1)


def _normal(level: float) -> float:
    """Returns how many standard deviations a two-sided normal interval reaches."""
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2))
