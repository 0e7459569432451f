"""Statistics of the whole project: intervals, censored distances, tests, curves.

Distances follow one convention. The adversarial distance of a point is the smallest one
found over its restarts; 0 where the model is wrong without any attack; and right-censored,
written as +inf, where every restart failed. A censored distance is never 0 and never
dropped, so a mean exists only where nothing is censored, while a median may exist anyway.

Intervals are those of :mod:`medrobust.evaluation.intervals`: over test points, and from three
trainings on over points and trainings together; over the folds of a cross-validation
:func:`fold_estimate`. This module draws from generators it is given and decides nothing about
files other than reading attack records.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medrobust.core.errors import InputError
from medrobust.evaluation import intervals
from medrobust.evaluation.intervals import MIN_REPLICATES, RESAMPLES, Ends

if TYPE_CHECKING:
    import os

    import pandas as pd

#: Above this many pairs the signed-rank distribution is taken as normal.
_EXACT_PAIRS = 300


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: the estimate, or None where censoring leaves it undefined.
        ci_low, ci_high: ends of the interval, None where there is none (too few points, points
            that do not differ, or censoring); +inf is possible for a median.
        n: points behind the estimate (per replicate).
        replicates: number of replicates averaged (of each fold, where there are folds).
        censored: number of censored distances among them.
        basis: what the interval covers, in words ("one training, over points: ...").
        lower_bound: smallest value that a censored mean can have, else None.
        folds: number of folds averaged.
        sd: sample standard deviation of the numbers of the trainings, or, in
            :mod:`medrobust.evaluation.folds`, of the folds; None for a single one.
        further_low, further_high: ends between which the number of one further training on other
            test points lies, None below :data:`MIN_REPLICATES` trainings. A published number,
            of one training, is held against these.
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
    sd: float | None = None
    further_low: float | None = None
    further_high: float | None = None


# --- proportions ------------------------------------------------------------------------


def accuracy_estimate(successes: Sequence[float], n: int, *, level: float = 0.95) -> Estimate:
    """Returns the mean accuracy over replicates with its interval, as fractions in [0, 1].

    The interval over points is Agresti and Coull's at the mean accuracy: the replicates share
    their test points, so they are not pooled into a larger n.

    Args:
        successes: correctly classified points, one count per replicate; may be fractional.
        n: test points of each replicate.
        level: confidence level.
    """
    mean = float(np.mean(successes))
    points = intervals.share_interval(mean, n, level)
    accuracies = [float(one) / n for one in successes]
    return trained_estimate(
        mean / n, points, accuracies, n=n, method="Agresti-Coull", limits=(0.0, 1.0), level=level
    )


def trained_estimate(
    value: float | None,
    points: Ends,
    trainings: Sequence[float],
    *,
    n: int,
    method: str,
    limits: tuple[float, float] = (0.0, np.inf),
    level: float = 0.95,
    censored: int = 0,
    lower_bound: float | None = None,
) -> Estimate:
    """Returns an estimate whose interval covers points and, where there are enough, trainings.

    Args:
        value: the mean over trainings, None where it is not defined.
        points: its interval over test points.
        trainings: the number of each training.
        n: test points.
        method: of the interval over points, in words.
        limits: the smallest and the largest value that the quantity can have.
        level: confidence level in (0, 1).
        censored: censored distances of all trainings.
        lower_bound: see :class:`Estimate`.
    """
    k = len(trainings)
    finite = value is not None and bool(np.isfinite(trainings).all())
    low, high = points
    further: Ends = (None, None)
    if k >= MIN_REPLICATES:
        shared = {"limits": limits, "level": level}
        low = high = None
        if value is not None and finite:
            low, high = intervals.over_trainings(value, points, trainings, **shared)
            further = intervals.over_trainings(value, points, trainings, further=True, **shared)
    elif low is not None and high is not None:
        low, high = max(limits[0], low), min(limits[1], high)
    return Estimate(
        value,
        low,
        high,
        n,
        k,
        censored=censored,
        basis=interval_basis(k, method),
        lower_bound=lower_bound,
        sd=float(np.std(trainings, ddof=1)) if k > 1 and finite else None,
        further_low=further[0],
        further_high=further[1],
    )


def interval_basis(trainings: int, method: str) -> str:
    """Returns what an interval covers, in words.

    Args:
        trainings: number of trainings averaged.
        method: of the interval over points.
    """
    if trainings >= MIN_REPLICATES:
        return f"{trainings} trainings, over points ({method}) and trainings (t)"
    if trainings > 1:
        return f"{trainings} trainings, over points alone ({method})"
    return f"one training, over points alone ({method})"


# --- folds ------------------------------------------------------------------------------


def fold_estimate(
    values: Sequence[float],
    *,
    n: int,
    replicates: int = 1,
    points: Ends = (None, None),
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
        points: the interval over the points of all folds, where there is one: the result is never
            narrower. Three folds that are all right have no spread, and are no proof.
        limits: the smallest and the largest value that the quantity can have; ends of the
            interval beyond them are cut.
        level: confidence level in (0, 1).

    Returns:
        Of one fold the value alone: nothing is known of how folds differ. So for folds with equal
        values, if there is no interval over points.

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
    trained = f", mean of {replicates} trainings each" if replicates > 1 else ""
    ends = points
    if width := float(np.ptp(found)):  # the deviation itself may underflow, or rounding make one
        deviation = float(((found - found.min()) / width).std(ddof=1)) * width
        half = float(stdtrit(k - 1, 0.5 + level / 2)) * deviation / np.sqrt(k)
        ends = (value - half, value + half)
    low, high = ends
    if low is not None and points[0] is not None:
        low, high = min(low, points[0]), max(high, points[1])
    if low is not None:
        low, high = max(limits[0], low), min(limits[1], high)
    least = ", at least as wide as over points" if points[0] is not None else ""
    basis = f"t over {k} folds{trained}{least}"
    return Estimate(value, low, high, n, replicates, basis=basis, folds=k)


# --- distances --------------------------------------------------------------------------


def mean_estimate(
    replicates: Sequence[np.ndarray],
    *,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    censored_at: float = 0.0,
    limits: tuple[float, float] = (0.0, np.inf),
) -> Estimate:
    """Returns the mean distance, averaged over replicates, with a bootstrap interval.

    Args:
        replicates: one ``[n]`` array of distances per replicate; +inf marks censored ones. The
            points are the same, in the same order; from three replicates on they may differ, and
            then every replicate has points of its own.
        generator: randomness.
        resamples: bootstrap resamples.
        level: confidence level.
        censored_at: a distance that every censored point is known to exceed (the budget of
            an attack with a fixed radius; 0 for attacks without one).
        limits: the smallest and the largest value that the numbers can have, where they are no
            distances.

    Returns:
        With any censored distance, ``value`` and the interval are None and ``lower_bound``
        holds the mean in which censored distances count as ``censored_at``.

    Raises:
        InputError: no points, NaN, or replicates that do not match.
    """
    arrays = _checked(replicates, limits[0])
    censored = sum(int(np.isinf(array).sum()) for array in arrays)
    if censored:
        bound = np.mean([np.where(np.isinf(a), censored_at, a).mean() for a in arrays])
        shared = {"n": arrays[0].size, "replicates": len(arrays), "censored": censored}
        basis = f"{_trainings(len(arrays))}, mean undefined: {censored} censored"
        return Estimate(None, None, None, **shared, basis=basis, lower_bound=float(bound))
    means = [float(array.mean()) for array in arrays]
    points = _mean_points(arrays, means, generator, resamples, level)
    return trained_estimate(
        float(np.mean(means)),
        points,
        means,
        n=arrays[0].size,
        method=_BOOTSTRAP,
        limits=limits,
        level=level,
    )


#: How the interval of a mean over points is made, in words.
_BOOTSTRAP = "bootstrap t"


def _mean_points(
    arrays: Sequence[np.ndarray],
    means: Sequence[float],
    generator: np.random.Generator,
    resamples: int,
    level: float,
) -> Ends:
    """Returns the interval over points of the mean of several replicates' means."""
    draw = {"generator": generator, "resamples": resamples, "level": level}
    if len({array.size for array in arrays}) == 1:
        return intervals.mean_interval(np.mean(arrays, axis=0), **draw)
    return _mean_of_independent(means, [intervals.mean_interval(a, **draw) for a in arrays])


def _mean_of_independent(values: Sequence[float], ends: Sequence[Ends]) -> Ends:
    """Returns the interval of a mean of independent numbers, from their own intervals."""
    mean, k = float(np.mean(values)), len(values)
    parts = []
    for value, (low, high) in zip(values, ends, strict=True):
        if low is None or high is None:
            return None, None
        parts.append((mean + (low - value) / k, mean + (high - value) / k))
    return intervals.joined(mean, parts)


def median_estimate(
    replicates: Sequence[np.ndarray],
    *,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Estimate:
    """Returns the median distance, averaged over replicates, with its interval.

    Of one replicate the interval is exact (order statistics). Censored distances count as +inf;
    where they reach the median, ``value`` is None (the median exceeds every observed distance)
    and ``lower_bound`` holds the largest observed. Arguments as for :func:`mean_estimate`.
    """
    arrays = _checked(replicates)
    censored = sum(int(np.isinf(array).sum()) for array in arrays)
    medians = [float(np.median(array)) for array in arrays]
    points: Ends = (None, None)
    method = "order statistics" if len(arrays) == 1 else "bootstrap"
    if len(arrays) == 1:
        points = intervals.median_interval(arrays[0], level)
    elif len({array.size for array in arrays}) > 1:
        each = [intervals.median_interval(array, level) for array in arrays]
        points = _mean_of_independent(medians, each) if np.isfinite(medians).all() else points
    else:
        points = intervals.mean_of_medians_interval(
            arrays, generator=generator, resamples=resamples, level=level
        )
    value: float | None = float(np.mean(medians))
    bound = None
    if not np.isfinite(medians).all():
        observed = np.concatenate([array[np.isfinite(array)] for array in arrays])
        value, bound = None, float(observed.max()) if observed.size else 0.0
    return trained_estimate(
        value,
        points,
        medians,
        n=arrays[0].size,
        method=method,
        level=level,
        censored=censored,
        lower_bound=bound,
    )


def mean_of_means_estimate(
    groups: Sequence[Sequence[np.ndarray]],
    *,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Estimate:
    """Returns the unweighted mean of the groups' mean distances (a "combined average").

    The groups (data sets) are independent, so that their intervals are joined as those of a sum
    (:func:`medrobust.evaluation.intervals.joined`).

    Args:
        groups: for each group, its replicates as in :func:`mean_estimate`.
        generator: randomness.
        resamples: bootstrap resamples.
        level: confidence level.

    Returns:
        ``n`` counts the points of all groups; ``replicates`` is the smallest number of them.
    """
    draw = {"generator": generator, "resamples": resamples, "level": level}
    parts = [mean_estimate(group, **draw) for group in groups]
    shared = {
        "n": sum(part.n for part in parts),
        "replicates": min(part.replicates for part in parts),
        "censored": sum(part.censored for part in parts),
    }
    if shared["censored"]:
        bounds = [part.lower_bound if part.value is None else part.value for part in parts]
        basis = f"mean undefined: {shared['censored']} censored"
        return Estimate(None, None, None, **shared, basis=basis, lower_bound=float(np.mean(bounds)))
    values = [part.value for part in parts]
    basis = "; ".join(dict.fromkeys(part.basis for part in parts))
    low, high = _mean_of_independent(values, [(part.ci_low, part.ci_high) for part in parts])
    low = None if low is None else max(0.0, low)
    return Estimate(float(np.mean(values)), low, high, **shared, basis=basis)


def _checked(replicates: Sequence[np.ndarray], lowest: float = 0.0) -> list[np.ndarray]:
    arrays = [np.asarray(array, dtype=np.float64) for array in replicates]
    if not arrays or any(array.ndim != 1 or array.size == 0 for array in arrays):
        raise InputError("There are no distances to summarise.")
    if any(np.isnan(array).any() or (array < lowest).any() for array in arrays):
        raise InputError(f"A value is below {lowest:g} or not a number.")
    if len(arrays) < MIN_REPLICATES and len({array.size for array in arrays}) > 1:
        raise InputError(
            "The replicates hold different numbers of points.",
            remedy="attack the same cohort in every replicate.",
        )
    return arrays


def _trainings(replicates: int) -> str:
    return "one training" if replicates == 1 else f"{replicates} trainings"


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
    """Returns the robust-accuracy curve as its steps, with an interval at each.

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
    ends = [intervals.share_interval(int(count), n, level) for count in surviving]
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
