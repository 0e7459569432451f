"""A classifier of two classes, of which one is positive: counts, rates, scores, calibration.

Of counts (:class:`BinaryCounts`), which tallies give: F1, sensitivity (recall), specificity and
precision of the positive class. Where a rate has nothing to count it is not defined, and
:func:`undefined` says why: without positive points (sensitivity, F1), without negative ones
(specificity), and where nothing is called positive (precision). F1, ``2 TP / (2 TP + FP + FN)``, is
then 0: there are positives, and none was found.

Of probabilities of the positive class: the area under the receiver operating characteristic (AUC),
the Brier score (Brier 1950), and the expected calibration error (Naeini, Cooper and Hauskrecht
2015): in :data:`BINS` bins of equal width, the difference between the share of positives and the
mean probability, weighted by the points of a bin.

Intervals over points are those of shares, for each rate is one: F1 is ``2 J / (1 + J)``, which
rises with the share J of ``TP`` in ``TP + FP + FN`` points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medrobust.core.errors import InputError
from medrobust.evaluation import intervals, statistics
from medrobust.evaluation.balanced import Cells
from medrobust.evaluation.folds import resampled_estimate
from medrobust.evaluation.intervals import Ends
from medrobust.evaluation.statistics import Estimate

#: Bins of the expected calibration error.
BINS = 10


@dataclass(frozen=True)
class BinaryCounts:
    """Points by true class and prediction; numbers, fractional where they are means of runs.

    Attributes:
        true_positive, false_negative: positive points that are called so, and that are not.
        false_positive, true_negative: negative points that are called positive, and that are not.
    """

    true_positive: float
    false_negative: float
    false_positive: float
    true_negative: float

    @property
    def points(self) -> float:
        """All points."""
        return self.positives + self.false_positive + self.true_negative

    @property
    def positives(self) -> float:
        """Positive points."""
        return self.true_positive + self.false_negative

    def share(self, metric: str) -> tuple[float, float]:
        """Returns what a rate counts, and out of how many: for F1 the share J (see above).

        Out of none: it is not defined.
        """
        tp, fp = self.true_positive, self.false_positive
        return {
            "F1": (tp, self.positives + fp if self.positives else 0.0),
            "sensitivity": (tp, self.positives),
            "specificity": (self.true_negative, self.true_negative + fp),
            "precision": (tp, tp + fp),
        }[metric]


#: Rates of counts, as papers call them.
RATES = ("F1", "sensitivity", "specificity", "precision")
_NOTHING = {
    "F1": "no point is positive",
    "sensitivity": "no point is positive",
    "specificity": "no point is negative",
    "precision": "no point is called positive",
}


def counts_of(cells: Cells, positive: int = 1) -> BinaryCounts:
    """Returns the counted points of a tally by whether they are positive, each counted once.

    Args:
        cells: of one level and reading.
        positive: number of the positive class; all others are negative.
    """
    is_positive, called = cells.label == positive, cells.prediction == positive

    def number(chosen: np.ndarray) -> float:
        return float(cells.count[chosen].sum()) / cells.runs

    return BinaryCounts(
        number(is_positive & called),
        number(is_positive & ~called),
        number(~is_positive & called),
        number(~is_positive & ~called),
    )


def rate(counts: BinaryCounts, metric: str) -> float | None:
    """Returns one of :data:`RATES`, None where it is not defined."""
    part, whole = counts.share(metric)
    return _of_share(metric, part / whole) if whole else None


def undefined(counts: BinaryCounts, metric: str) -> str:
    """Returns why a rate is not defined, "" where it is."""
    return "" if counts.share(metric)[1] else _NOTHING[metric]


def _of_share(metric: str, share: float) -> float:
    return 2 * share / (1 + share) if metric == "F1" else share


def rate_interval(counts: BinaryCounts, metric: str, level: float = 0.95) -> Ends:
    """Returns the interval of a rate over points (Agresti and Coull), None where it is not defined.

    Args:
        counts: of all points.
        metric: one of :data:`RATES`.
        level: confidence level in (0, 1).
    """
    part, whole = counts.share(metric)
    if whole < 1:
        return None, None
    low, high = intervals.share_interval(min(part, whole), round(whole), level)
    return _of_share(metric, low), _of_share(metric, high)


def rate_estimate(
    folds: Mapping[int, Sequence[BinaryCounts]], metric: str, *, test_per_train: float
) -> Estimate:
    """Returns a rate with its interval: the mean over folds of the mean over trainings.

    Args:
        folds: number of the fold to the counts of each of its trainings.
        metric: one of :data:`RATES`.
        test_per_train: test points of a fold per training point
            (:func:`medrobust.evaluation.folds.resampled_t_interval`); of one fold it is not used.

    Returns:
        Without a value where the rate of any training of any fold is not defined; ``basis`` says
        why.
    """
    values = {fold: [rate(one, metric) for one in found] for fold, found in folds.items()}
    points = sum(round(found[0].points) for found in folds.values())
    trainings = min(len(found) for found in folds.values())
    if why := _why_undefined(folds, metric):
        return Estimate(None, None, None, points, trainings, basis=why, folds=len(folds))
    over_points = rate_interval(_mean_counts(folds), metric)
    if len(folds) == 1:
        (found,) = values.values()
        return statistics.trained_estimate(
            float(np.mean(found)),
            over_points,
            found,
            n=points,
            method="Agresti-Coull",
            limits=(0.0, 1.0),
        )
    return resampled_estimate(
        [float(np.mean(found)) for found in values.values()],
        test_per_train=test_per_train,
        n=points,
        replicates=trainings,
        points=over_points,
        limits=(0.0, 1.0),
    )


def _why_undefined(folds: Mapping[int, Sequence[BinaryCounts]], metric: str) -> str:
    found = {fold: [undefined(one, metric) for one in each] for fold, each in folds.items()}
    texts = [
        f"fold {fold}: {next(filter(None, each))}" for fold, each in found.items() if any(each)
    ]
    if not texts:
        return ""
    named = texts if len(folds) > 1 else [text.partition(": ")[2] for text in texts]
    return f"{metric} is not defined ({'; '.join(named)})"


def _mean_counts(folds: Mapping[int, Sequence[BinaryCounts]]) -> BinaryCounts:
    """Returns the counts of all folds together, of each the mean over its trainings."""
    names = ("true_positive", "false_negative", "false_positive", "true_negative")
    sums = {
        name: sum(float(np.mean([getattr(one, name) for one in found])) for found in folds.values())
        for name in names
    }
    return BinaryCounts(**sums)


# --- probabilities ----------------------------------------------------------------------


def auc(positive: np.ndarray, probability: np.ndarray) -> float | None:
    """Returns the area under the receiver operating characteristic, None without both classes.

    It is the probability that a positive point has the higher score of the two, half of ties.

    Args:
        positive: bool ``[n]``, whether a point is positive.
        probability: float ``[n]``, of the positive class.
    """
    from sklearn.metrics import roc_auc_score

    if positive.all() or not positive.any():
        return None
    return float(roc_auc_score(positive, probability))


def brier_score(positive: np.ndarray, probability: np.ndarray) -> float | None:
    """Returns the mean squared difference of probability and outcome, 0 (best) to 1.

    Arguments as for :func:`auc`; None without points.
    """
    from sklearn.metrics import brier_score_loss

    return float(brier_score_loss(positive, probability)) if len(positive) else None


def expected_calibration_error(
    positive: np.ndarray, probability: np.ndarray, bins: int = BINS
) -> float | None:
    """Returns the expected calibration error, 0 (best) to 1; arguments as for :func:`auc`.

    Bin b of B has the probabilities in ``[b / B, (b + 1) / B)``, the last one 1 too. Its value
    depends on the number of bins, and is above 0 for finitely many points of a calibrated model.
    """
    if not len(positive):
        return None
    place = np.minimum((np.asarray(probability) * bins).astype(np.int64), bins - 1)
    gap = np.asarray(positive, dtype=np.float64) - probability
    return float(np.abs(np.bincount(place, weights=gap, minlength=bins)).sum() / len(gap))


#: Name -> function of (positive, probability), None where not defined.
SCORES: dict[str, Callable[[np.ndarray, np.ndarray], float | None]] = {
    "AUC": auc,
    "Brier score": brier_score,
    "ECE": expected_calibration_error,
}

Scored = tuple[np.ndarray, np.ndarray]
"""bool ``[n]``, whether points are positive, and float64 ``[n]``, the probability of that."""


def score_estimate(
    folds: Mapping[int, Sequence[Scored]], metric: str, *, test_per_train: float
) -> Estimate:
    """Returns one of :data:`SCORES` with its interval; see :func:`rate_estimate`.

    Args:
        folds: number of the fold to labels and probabilities of each of its trainings.
        metric: a key of :data:`SCORES`.
        test_per_train: as for :func:`rate_estimate`.

    Returns:
        Of one fold without an interval: none over points is made.

    Raises:
        InputError: a probability is not in [0, 1].
    """
    for each in folds.values():
        for _, probability in each:
            if not ((probability >= 0) & (probability <= 1)).all():
                raise InputError("A probability is not in [0, 1].", where=metric)
    values = {fold: [SCORES[metric](*one) for one in each] for fold, each in folds.items()}
    points = sum(len(each[0][0]) for each in folds.values())
    trainings = min(len(each) for each in folds.values())
    lacking = [fold for fold, each in values.items() if None in each]
    if lacking:
        where = f"fold {', '.join(map(str, lacking))}: " if len(folds) > 1 else ""
        why = f"{metric} is not defined ({where}points of one class alone)"
        return Estimate(None, None, None, points, trainings, basis=why, folds=len(folds))
    return resampled_estimate(
        [float(np.mean(each)) for each in values.values()],
        test_per_train=test_per_train,
        n=points,
        replicates=trainings,
        limits=(0.0, 1.0),
    )
