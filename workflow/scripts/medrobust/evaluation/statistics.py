"""Statistics of the whole project: intervals, censored distances, tests, curves.

Distances follow one convention. The adversarial distance of a point is the smallest one
found over its restarts; 0 where the model is wrong without any attack; and right-censored,
written as +inf, where every restart failed. A censored distance is never 0 and never
dropped, so a mean exists only where nothing is censored, while a median may exist anyway.

Intervals: Wilson (Wilson 1927) for proportions; bootstrap over points for distances (BCa,
Efron 1987, for the mean; percentile for the median, whose jackknife is not consistent);
bootstrap over replicates where there are at least three; Student's t over the folds of a
cross-validation (:func:`fold_estimate`, approximate). This module draws from generators
it is given and decides nothing about files other than reading attack records.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from medrobust.core.errors import InputError

if TYPE_CHECKING:
    import os

    import pandas as pd

Statistic = Literal["mean", "median"]

#: Fewest replicates over which an interval is drawn; below, it covers points only.
MIN_REPLICATES = 3
#: Resamples of every bootstrap of the project.
RESAMPLES = 9999
#: Largest number of drawn indices held in memory at once.
_BLOCK = 4_000_000
#: Above this many pairs the signed-rank distribution is taken as normal.
_EXACT_PAIRS = 300


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: the estimate, or None where censoring leaves it undefined.
        ci_low, ci_high: ends of the interval, None where there is none (fewer than two
            points, or censoring); +inf is possible for a median.
        n: points behind the estimate (per replicate).
        replicates: number of replicates averaged (of each fold, where there are folds).
        censored: number of censored distances among them.
        basis: what the interval covers, in words ("one seed, over points", ...).
        lower_bound: smallest value that a censored mean can have, else None.
        folds: number of folds averaged.
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    replicates: int
    censored: int = 0
    basis: str = ""
    lower_bound: float | None = None
    folds: int = 1


# --- proportions ------------------------------------------------------------------------


def wilson_interval(successes: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Returns the Wilson score interval of a proportion, both ends in [0, 1].

    Args:
        successes: number of successes in [0, n]; may be fractional (a mean over replicates).
        n: number of trials, at least 1.
        level: confidence level in (0, 1).

    Raises:
        InputError: the counts are impossible.
    """
    from scipy.special import ndtri

    if n < 1 or not 0 <= successes <= n:
        raise InputError(f"A proportion of {successes} successes in {n} trials is impossible.")
    z = float(ndtri(0.5 + level / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # At 0 and n the ends are exactly 0 and 1; rounding must not carry them past it.
    low = 0.0 if successes == 0 else max(0.0, float(centre - half))
    high = 1.0 if successes == n else min(1.0, float(centre + half))
    return low, high


def accuracy_estimate(
    successes: Sequence[int],
    n: int,
    *,
    generator: np.random.Generator,
    level: float = 0.95,
) -> Estimate:
    """Returns the mean accuracy over replicates with its interval, as fractions in [0, 1].

    Below :data:`MIN_REPLICATES` replicates the interval is Wilson's at the mean accuracy
    (the replicates share their test points, so they are not pooled into a larger n); from
    there on it is a bootstrap over replicates.

    Args:
        successes: correctly classified points, one count per replicate.
        n: test points of each replicate.
        generator: randomness of the bootstrap.
        level: confidence level.
    """
    accuracies = np.asarray(successes, dtype=np.float64) / n
    value, replicates = float(accuracies.mean()), len(successes)
    if replicates < MIN_REPLICATES:
        low, high = wilson_interval(float(np.mean(successes)), n, level)
        basis = f"{_seeds(replicates)}, Wilson over points"
    else:
        low, high = bootstrap_interval(
            accuracies, generator=generator, level=level, method="percentile"
        )
        basis = f"bootstrap over {replicates} replicates"
    return Estimate(value, low, high, n, replicates, basis=basis)


# --- folds ------------------------------------------------------------------------------


def fold_estimate(
    values: Sequence[float],
    *,
    n: int,
    replicates: int = 1,
    limits: tuple[float, float] = (-np.inf, np.inf),
    level: float = 0.95,
) -> Estimate:
    """Returns the mean over the folds of a cross-validation with Student's t interval.

    The interval is mean +- t s / sqrt(k), with the sample deviation s of the k values and t of
    k - 1 degrees of freedom. It is approximate: each fold has a test set of its own, but the
    training sets of two folds overlap, so their values are not independent, and no unbiased
    estimator of the variance of their mean exists (Bengio and Grandvalet 2004, "No unbiased
    estimator of the variance of k-fold cross-validation", JMLR 5:1089-1105). Values that are
    positively correlated make it too narrow.

    Args:
        values: one number per fold, finite (of several trainings: their mean).
        n: test points of all folds together.
        replicates: trainings behind each fold's number.
        limits: the smallest and the largest value that the quantity can have; ends of the
            interval beyond them are cut.
        level: confidence level in (0, 1).

    Returns:
        Of one fold the value alone: nothing is known of how folds differ.

    Raises:
        InputError: no values, or one that is not finite.
    """
    from scipy.special import stdtrit

    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or not found.size or not np.isfinite(found).all():
        raise InputError("An estimate over folds needs a finite number of each fold.")
    k, value = found.size, float(found.mean())
    if k == 1:
        basis = "one fold: no interval over folds"
        return Estimate(value, None, None, n, replicates, basis=basis)
    half = float(stdtrit(k - 1, 0.5 + level / 2) * found.std(ddof=1) / np.sqrt(k))
    trained = f", mean of {replicates} trainings each" if replicates > 1 else ""
    return Estimate(
        value,
        max(limits[0], value - half),
        min(limits[1], value + half),
        n,
        replicates,
        basis=f"t over {k} folds{trained}",
        folds=k,
    )


# --- bootstrap --------------------------------------------------------------------------


def bootstrap_interval(
    values: np.ndarray,
    statistic: Statistic = "mean",
    *,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    method: Literal["bca", "percentile"] | None = None,
) -> tuple[float, float] | tuple[None, None]:
    """Returns the bootstrap interval of a mean or median over independent points.

    Args:
        values: ``[n]`` numbers; +inf (censored) is allowed for the percentile median.
        statistic: "mean" or "median".
        generator: randomness; equal generators give equal intervals.
        resamples: number of resamples.
        level: confidence level in (0, 1).
        method: "bca" or "percentile"; by default BCa for the mean, percentile for the median.

    Returns:
        (low, high), or (None, None) for fewer than two points.

    Raises:
        InputError: a mean or a BCa interval of values that are not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    method = method or ("bca" if statistic == "mean" else "percentile")
    if np.isnan(values).any() or (
        not np.isfinite(values).all() and (statistic == "mean" or method == "bca")
    ):
        raise InputError(
            f"A {method} bootstrap of the {statistic} needs finite values.",
            remedy="summarise censored distances by their median.",
        )
    if values.size < 2:
        return None, None
    if (values == values[0]).all():
        return float(values[0]), float(values[0])
    draws = _draws(values[None, :], statistic, generator, resamples)
    tail = (1 - level) / 2
    probabilities = (tail, 1 - tail)
    if method == "bca":
        probabilities = _bca_probabilities(values, statistic, draws, probabilities)
    return _quantiles(draws, probabilities)


def mean_estimate(
    replicates: Sequence[np.ndarray],
    *,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    censored_at: float = 0.0,
) -> Estimate:
    """Returns the mean distance, averaged over replicates, with a bootstrap interval.

    Args:
        replicates: one ``[n]`` array of distances per replicate; +inf marks censored ones.
            With fewer than three replicates the points must be the same, in the same order.
        generator: randomness.
        resamples: bootstrap resamples.
        level: confidence level.
        censored_at: a distance that every censored point is known to exceed (the budget of
            an attack with a fixed radius; 0 for attacks without one).

    Returns:
        With any censored distance, ``value`` and the interval are None and ``lower_bound``
        holds the mean in which censored distances count as ``censored_at``.

    Raises:
        InputError: no points, NaN, or replicates that do not match.
    """
    arrays = _checked(replicates)
    censored = sum(int(np.isinf(array).sum()) for array in arrays)
    shared = {"n": arrays[0].size, "replicates": len(arrays), "censored": censored}
    if censored:
        bound = np.mean([np.where(np.isinf(a), censored_at, a).mean() for a in arrays])
        basis = f"{_seeds(len(arrays))}, mean undefined: {censored} censored"
        return Estimate(None, None, None, **shared, basis=basis, lower_bound=float(bound))
    value = float(np.mean([array.mean() for array in arrays]))
    if len(arrays) >= MIN_REPLICATES:
        sample, method = np.array([array.mean() for array in arrays]), "percentile"
    else:
        sample, method = np.mean(arrays, axis=0), "bca"
    low, high = bootstrap_interval(
        sample, generator=generator, resamples=resamples, level=level, method=method
    )
    return Estimate(value, low, high, **shared, basis=_basis(len(arrays)))


def median_estimate(
    replicates: Sequence[np.ndarray],
    *,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Estimate:
    """Returns the median distance, averaged over replicates, with a bootstrap interval.

    Censored distances count as +inf; where they reach the median, ``value`` is None (the
    median exceeds every observed distance) and ``lower_bound`` holds the largest observed.
    Arguments as for :func:`mean_estimate`.
    """
    arrays = _checked(replicates)
    censored = sum(int(np.isinf(array).sum()) for array in arrays)
    shared = {"n": arrays[0].size, "replicates": len(arrays), "censored": censored}
    medians = np.array([np.median(array) for array in arrays])
    tail = (1 - level) / 2
    low: float | None = None
    high: float | None = None
    if len(arrays) >= MIN_REPLICATES:
        if np.isfinite(medians).all():
            low, high = bootstrap_interval(
                medians,
                generator=generator,
                resamples=resamples,
                level=level,
                method="percentile",
            )
    elif arrays[0].size > 1:
        draws = _draws(np.stack(arrays), "median", generator, resamples)
        low, high = _quantiles(draws, (tail, 1 - tail))
    value: float | None = float(medians.mean())
    bound = None
    if not np.isfinite(medians).all():
        observed = np.concatenate([array[np.isfinite(array)] for array in arrays])
        value, bound = None, float(observed.max()) if observed.size else 0.0
    return Estimate(value, low, high, **shared, basis=_basis(len(arrays)), lower_bound=bound)


def mean_of_means_estimate(
    groups: Sequence[Sequence[np.ndarray]],
    *,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Estimate:
    """Returns the unweighted mean of the groups' mean distances (a "combined average").

    Each group (a data set) is resampled on its own, so that a large group weighs no more
    than a small one. Percentile interval.

    Args:
        groups: for each group, its replicates as in :func:`mean_estimate`.
        generator: randomness.
        resamples: bootstrap resamples.
        level: confidence level.

    Returns:
        ``n`` counts the points of all groups; ``replicates`` is the smallest number of them.
    """
    checked = [_checked(group) for group in groups]
    parts = [mean_estimate(g, generator=generator, resamples=2, level=level) for g in checked]
    shared = {
        "n": sum(part.n for part in parts),
        "replicates": min(part.replicates for part in parts),
        "censored": sum(part.censored for part in parts),
    }
    if shared["censored"]:
        bounds = [part.lower_bound if part.value is None else part.value for part in parts]
        basis = f"mean undefined: {shared['censored']} censored"
        return Estimate(None, None, None, **shared, basis=basis, lower_bound=float(np.mean(bounds)))
    value = float(np.mean([part.value for part in parts]))
    samples = [
        np.array([array.mean() for array in group])
        if len(group) >= MIN_REPLICATES
        else np.mean(group, axis=0)
        for group in checked
    ]
    basis = "; ".join(dict.fromkeys(_basis(len(group)) for group in checked))
    if any(sample.size < 2 for sample in samples):
        return Estimate(value, None, None, **shared, basis=basis)
    draws = np.mean([_draws(s[None, :], "mean", generator, resamples) for s in samples], axis=0)
    low, high = _quantiles(draws, ((1 - level) / 2, (1 + level) / 2))
    return Estimate(value, low, high, **shared, basis=basis)


def _checked(replicates: Sequence[np.ndarray]) -> list[np.ndarray]:
    arrays = [np.asarray(array, dtype=np.float64) for array in replicates]
    if not arrays or any(array.ndim != 1 or array.size == 0 for array in arrays):
        raise InputError("There are no distances to summarise.")
    if any(np.isnan(array).any() or (array < 0).any() for array in arrays):
        raise InputError("A distance is negative or not a number.")
    if len(arrays) < MIN_REPLICATES and len({array.size for array in arrays}) > 1:
        raise InputError(
            "The replicates hold different numbers of points.",
            remedy="attack the same cohort in every replicate.",
        )
    return arrays


def _seeds(replicates: int) -> str:
    return "one seed" if replicates == 1 else f"{replicates} seeds"


def _basis(replicates: int) -> str:
    if replicates < MIN_REPLICATES:
        return f"{_seeds(replicates)}, bootstrap over points"
    return f"bootstrap over {replicates} replicates"


def _draws(
    rows: np.ndarray, statistic: Statistic, generator: np.random.Generator, resamples: int
) -> np.ndarray:
    """Returns ``[resamples]`` draws: columns resampled jointly, statistics averaged over rows."""
    reduce = np.mean if statistic == "mean" else np.median
    n = rows.shape[1]
    step = max(1, _BLOCK // (n * rows.shape[0]))
    blocks = []
    for start in range(0, resamples, step):
        index = generator.integers(0, n, (min(step, resamples - start), n))
        blocks.append(np.mean([reduce(row[index], axis=1) for row in rows], axis=0))
    return np.concatenate(blocks)


def _quantiles(draws: np.ndarray, probabilities: Sequence[float]) -> tuple[float, float]:
    # Interpolating between a finite draw and +inf has no meaning: take an observed draw.
    method = "linear" if np.isfinite(draws).all() else "inverted_cdf"
    low, high = np.quantile(draws, probabilities, method=method)
    return float(low), float(high)


def _bca_probabilities(
    values: np.ndarray, statistic: Statistic, draws: np.ndarray, probabilities: Sequence[float]
) -> tuple[float, float]:
    """Returns the percentiles that correct for bias and skewness (Efron 1987, eq. 2.3, 6.6)."""
    from scipy.special import ndtr, ndtri

    n = values.size
    if statistic == "mean":
        left_out = (values.sum() - values) / (n - 1)
        observed = values.mean()
    else:
        left_out = np.array([np.median(np.delete(values, i)) for i in range(n)])
        observed = np.median(values)
    below = (np.sum(draws < observed) + np.sum(draws <= observed)) / (2 * draws.size)
    if not 0 < below < 1:
        return tuple(probabilities)
    deviation = left_out.mean() - left_out
    spread = np.sum(deviation**2)
    acceleration = np.sum(deviation**3) / (6 * spread**1.5) if spread > 0 else 0.0
    bias = ndtri(below)
    shifted = bias + ndtri(np.asarray(probabilities))
    low, high = ndtr(bias + shifted / (1 - acceleration * shifted))
    return float(low), float(high)


# --- records ----------------------------------------------------------------------------


def point_distances(
    files: Iterable[str | os.PathLike[str]],
    columns: Sequence[str] = ("l2", "l2_final_iterate"),
) -> pd.DataFrame:
    """Reads the attack records of one model and returns the distances of its points.

    Args:
        files: its files of records, in any order, of an attack without epsilon and loss or
            with one of each.
        columns: the distances to return (:data:`medrobust.evaluation.records.DISTANCES`).

    Returns:
        See :func:`distances_of_points`.

    Raises:
        InputError: the records are not valid
            (:func:`medrobust.evaluation.records.read_records`), or hold several epsilons or
            losses.
    """
    from medrobust.evaluation.records import read_records

    return distances_of_points(read_records(files), columns)


def distances_of_points(
    records: pd.DataFrame, distances: Sequence[str] = ("l2", "l2_final_iterate")
) -> pd.DataFrame:
    """Returns the distances of points from the attack records of one model.

    This is :func:`medrobust.evaluation.records.minimum_over_restarts` in the convention of
    this module, in which a censored distance is +inf and can be sorted and ranked.

    Args:
        records: of an attack without epsilon and loss or with one of each.
        distances: columns of distances to keep.

    Returns:
        One row per point, sorted by ``point_id``: ``label``, ``clean_prediction``, the
        ``distances`` (float64, each the smallest of its own over the restarts; 0 where
        the clean point is misclassified, +inf where no restart has one), ``restarts``,
        ``failed_restarts``, ``best_restart`` (of the smallest ``l2``; null if all failed),
        ``adversarial_prediction`` (of that restart; null if all failed), ``iterations`` (the
        largest), ``queries`` (the sum) and ``box_violation`` (of any restart).

    Raises:
        InputError: the records hold several epsilons or losses.
    """
    from medrobust.evaluation.records import DISTANCES, minimum_over_restarts

    points = minimum_over_restarts(records)
    if points["point_id"].duplicated().any():
        raise InputError(
            "These records hold several epsilons or losses, so a point has several distances.",
            remedy="summarise one epsilon and one loss at a time.",
        )
    kept = list(distances)
    points[kept] = points[kept].fillna(np.inf)
    points.loc[points["clean_prediction"] != points["label"], kept] = 0.0
    effort = records.groupby("point_id")[["iterations", "box_violation"]].max().reset_index()
    seen = records[["point_id", "restart", "adversarial_prediction"]]
    seen = seen.rename(columns={"restart": "best_restart"}).astype({"best_restart": "Int64"})
    others = [name for name in DISTANCES if name not in kept]
    points = points.drop(columns=["epsilon", "loss", "success", *others])
    return points.merge(effort, on="point_id").merge(
        seen, on=["point_id", "best_restart"], how="left"
    )


def upper_bound_text(restarts: Iterable[int]) -> str:
    """Returns in words, for captions, how a found distance relates to the smallest there is.

    Args:
        restarts: numbers of restarts per point behind the distances, each >= 1; none where no
            distance is shown.

    Returns:
        One sentence or two; "" without restarts.
    """
    counts = {int(count) for count in restarts}
    if not counts:
        return ""
    fewest, most = min(counts), max(counts)
    several = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    return (
        f"Distances are upper bounds: the smallest that {several} restart{'s' * (most > 1)} of the "
        "attack found at each point. A restart can end in a local minimum, so the fewer restarts, "
        "the looser the bound."
    )


# --- curves -----------------------------------------------------------------------------


def robust_accuracy(distances: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Returns the share of points whose adversarial distance exceeds each radius.

    This is the survival function of the distances: at radius 0 it is the clean accuracy
    (misclassified points have distance 0), and censored points (+inf) survive every radius.

    Args:
        distances: ``[n]``, each in [0, +inf].
        radii: ``[m]`` in the units of the distances.

    Returns:
        ``[m]`` float64 in [0, 1].
    """
    ordered = np.sort(np.asarray(distances, dtype=np.float64))
    broken = np.searchsorted(ordered, np.asarray(radii, dtype=np.float64), side="right")
    return 1.0 - broken / ordered.size


def survival_curve(distances: np.ndarray, level: float = 0.95) -> pd.DataFrame:
    """Returns the robust-accuracy curve as its steps, with Wilson intervals at each.

    Where all censored distances exceed every observed one, as here (+inf), the
    Kaplan-Meier estimate is the empirical survival function.

    Args:
        distances: ``[n]``, each in [0, +inf].
        level: confidence level of the pointwise intervals.

    Returns:
        Columns ``distance`` (0 and each observed distance, ascending), ``robust_accuracy``,
        ``ci_low``, ``ci_high``, ``surviving`` (points beyond that distance) and ``n``.
    """
    import pandas as pd

    distances = _checked([distances])[0]
    n = distances.size
    radii = np.unique(np.append(distances[np.isfinite(distances)], 0.0))
    surviving = np.rint(robust_accuracy(distances, radii) * n).astype(int)
    ends = [wilson_interval(int(count), n, level) for count in surviving]
    return pd.DataFrame(
        {
            "distance": radii,
            "robust_accuracy": surviving / n,
            "ci_low": [end[0] for end in ends],
            "ci_high": [end[1] for end in ends],
            "surviving": surviving,
            "n": n,
        }
    )


def worst_case_curve(correct: np.ndarray, epsilons: Sequence[float]) -> pd.DataFrame:
    """Returns accuracy against epsilon, raw and as the worst case over smaller epsilons.

    A point broken with a smaller perturbation is broken with a larger one as well, so the
    worst case counts a point as correct at an epsilon only if it stayed correct at all
    epsilons up to it. Where the raw curve rises, the attack was too weak there.

    Args:
        correct: ``[n, epsilons]`` bool, whether the attacked point is still classified
            correctly.
        epsilons: the perturbation sizes, in any order, no two equal.

    Returns:
        Columns ``epsilon`` (ascending), ``accuracy``, ``worst_case_accuracy``, ``rises``.
    """
    import pandas as pd

    correct, epsilons = np.asarray(correct, dtype=bool), np.asarray(epsilons, dtype=np.float64)
    if correct.ndim != 2 or correct.shape[1] != epsilons.size or correct.shape[0] == 0:
        raise InputError("A curve needs one column of outcomes for every epsilon.")
    order = np.argsort(epsilons)
    correct = correct[:, order]
    raw = correct.mean(axis=0)
    return pd.DataFrame(
        {
            "epsilon": epsilons[order],
            "accuracy": raw,
            "worst_case_accuracy": np.logical_and.accumulate(correct, axis=1).mean(axis=0),
            "rises": rises(epsilons[order], raw),
        }
    )


def rises(epsilons: Sequence[float], accuracies: Sequence[float]) -> np.ndarray:
    """Flags the epsilons at which an accuracy exceeds one at a smaller epsilon.

    Returns:
        Bool ``[n]`` in the order of the arguments; any True means a non-monotone curve.
    """
    epsilons, accuracies = np.asarray(epsilons, float), np.asarray(accuracies, float)
    order = np.argsort(epsilons, kind="stable")
    lowest = np.minimum.accumulate(accuracies[order])
    flags = np.empty(epsilons.size, dtype=bool)
    flags[order] = accuracies[order] > lowest
    return flags


# --- tests ------------------------------------------------------------------------------


def smallest_p(n: int) -> float:
    """Returns the smallest two-sided p that a signed-rank test of ``n`` pairs can give.

    All differences of one sign have probability 2 * 2**-n: n = 5 gives .0625.
    """
    return min(1.0, 2.0 ** (1 - n))


def signed_rank_p(differences: np.ndarray) -> tuple[float, int]:
    """Returns the exact two-sided p of Wilcoxon's signed-rank test, and the pairs it used.

    Zero differences are dropped (Wilcoxon's rule); ties take mid-ranks and the distribution
    is that of the mid-ranks themselves, so the p is exact with ties as well. Infinite
    differences (one side censored) take the highest ranks. Above 300 pairs the normal
    approximation with tie correction is used.

    Args:
        differences: ``[n]`` paired differences, in [-inf, +inf].
    """
    from scipy.stats import rankdata, wilcoxon

    differences = np.asarray(differences, dtype=np.float64)
    kept = differences[differences != 0]
    if np.isnan(kept).any():
        raise InputError("A paired difference is not a number.")
    if kept.size == 0:
        return 1.0, 0
    ranks = rankdata(np.abs(kept))
    if kept.size > _EXACT_PAIRS:
        signed = np.where(kept > 0, ranks, -ranks)
        return float(wilcoxon(signed, method="asymptotic").pvalue), kept.size
    doubled = np.rint(2 * ranks).astype(int)
    chances = np.zeros(doubled.sum() + 1)
    chances[0] = 1.0
    for rank in doubled:
        moved = np.zeros_like(chances)
        moved[rank:] = chances[: chances.size - rank]
        chances = (chances + moved) / 2
    observed = doubled[kept > 0].sum()
    tail = min(chances[: observed + 1].sum(), chances[observed:].sum())
    return float(min(1.0, 2 * tail)), kept.size


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Returns Holm's step-down adjustment of ``p_values``, in the given order, in [0, 1]."""
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(p_values.size, 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p_values[order] * factors))
    return adjusted


def paired_comparisons(
    distances: pd.DataFrame,
    *,
    reference: str | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """Compares models on the same points by the signed-rank test, adjusted by Holm.

    Args:
        distances: one row per point, one column per model; +inf where censored.
        reference: compare this model with every other one; by default all pairs.
        pairs: compare these (first, second) models only; not together with ``reference``.
        alpha: level of the test.

    Returns:
        One row per pair: ``first``, ``second``, ``n`` (points), ``pairs`` (without ties at
        zero), ``first_larger`` and ``second_larger`` (points), ``p``, ``p_holm``,
        ``smallest_p`` (that this many pairs allow), ``smallest_p_holm`` (times the number
        of comparisons), ``significant``, ``can_be_significant``.

    Raises:
        InputError: a distance is missing, or a model to compare is not a column.
    """
    import pandas as pd

    if distances.isna().any().any():
        raise InputError(
            "A paired comparison needs a distance of every model at every point.",
            remedy="compare models that attacked the same cohort.",
        )
    if reference is not None and reference not in distances.columns:
        raise InputError("The reference model has no distances.", where=reference)
    names = [str(name) for name in distances.columns]
    if pairs is None:
        pairs = (
            list(itertools.combinations(names, 2))
            if reference is None
            else [(reference, name) for name in names if name != reference]
        )
    unknown = [name for pair in pairs for name in pair if name not in names]
    if unknown:
        raise InputError("A model to compare has no distances.", where=unknown[0])
    rows = []
    for first, second in pairs:
        a, b = distances[first].to_numpy(float), distances[second].to_numpy(float)
        both_censored = np.isinf(a) & np.isinf(b)
        with np.errstate(invalid="ignore"):
            difference = np.where(both_censored, 0.0, a - b)
        p, used = signed_rank_p(difference)
        rows.append(
            {
                "first": first,
                "second": second,
                "n": len(distances),
                "pairs": used,
                "first_larger": int((difference > 0).sum()),
                "second_larger": int((difference < 0).sum()),
                "p": p,
            }
        )
    result = pd.DataFrame(
        rows, columns=["first", "second", "n", "pairs", "first_larger", "second_larger", "p"]
    )
    result["p_holm"] = holm(result["p"].to_numpy(float))
    result["smallest_p"] = [smallest_p(used) for used in result["pairs"]]
    result["smallest_p_holm"] = np.minimum(1.0, result["smallest_p"] * len(result))
    result["significant"] = result["p_holm"] <= alpha
    result["can_be_significant"] = result["smallest_p_holm"] <= alpha
    return result
