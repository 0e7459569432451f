"""Accuracy and precision on a class-balanced test set, without building it.

A balanced test set repeats the points of each class until the class is as large as the largest
one: point j of a class of n_c points occurs floor(n_max / n_c) times, the first n_max mod n_c
points once more (Ma and Liang 2020, section 2.1 "up-sampling"; the tiling is that of their
code). A repeated point gets the same prediction each time, so each is evaluated once and
counted with its tile count as weight: the metrics are those of the tiled set, exactly.

Accuracy is the weighted share on the confusion matrix's diagonal. Precision is the unweighted
mean over the classes that the test set has of the share of a class's predictions that are correct;
such a class that is never predicted has precision 0 (the authors' code prints NaN there, the paper
0). A class without test points is in no mean: nothing can be said of it, and 0 would be wrong of a
perfect model.

Intervals over test points are stratified by class: the repeats of a point are no points of their
own, so a tiled class of 162 points counts as 162. That of the accuracy joins the intervals of the
classes' shares (:func:`medrobust.evaluation.intervals.share_interval`). Precision mixes the
classes: its draws come from the posterior of each class's predictions, a Dirichlet distribution.
Jeffreys' prior gives it a width also where all predictions of a class agree, as a bootstrap of
them has not, and draws it away from 0 and 1; the interval takes in what no prior at all gives.
From three trainings on the spread between trainings is joined to both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from medrobust.core.errors import InputError
from medrobust.evaluation import intervals, statistics


@dataclass(frozen=True)
class Cells:
    """Test points counted by all that a metric sees of them.

    Attributes:
        label: int64 ``[k]``, true class.
        prediction: int64 ``[k]``, predicted class.
        weight: int64 ``[k]``, how often each point occurs in the balanced set, at least 1.
        count: int64 ``[k]``, number of points.
        runs: attack runs whose predictions are counted of each point; with more than one,
            ``count`` sums over them.
    """

    label: np.ndarray
    prediction: np.ndarray
    weight: np.ndarray
    count: np.ndarray
    runs: int = 1

    @property
    def points(self) -> int:
        """Number of test points, each counted once."""
        return int(self.count.sum()) // self.runs


def tile_counts(labels: np.ndarray) -> np.ndarray:
    """Returns how often each test point occurs in the balanced test set.

    Args:
        labels: int ``[n]``, true classes in the order of the test set.

    Returns:
        int64 ``[n]``, at least 1; the sums over each class that occurs are equal.
    """
    classes, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if not classes.size:
        return np.zeros(0, dtype=np.int64)
    whole, more = np.divmod(sizes.max(), sizes)
    return (whole[inverse] + (rank_in_class(labels) < more[inverse])).astype(np.int64)


def rank_in_class(labels: np.ndarray) -> np.ndarray:
    """Returns each point's position (from 0) among the points of its class, int64 ``[n]``."""
    order = np.argsort(labels, kind="stable")
    ordered = np.asarray(labels)[order]
    starts = np.searchsorted(ordered, ordered, side="left")
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order)) - starts
    return ranks


def confusion(cells: Cells, n_classes: int) -> np.ndarray:
    """Returns the weighted confusion matrix, float64 ``[n_classes, n_classes]``, rows true.

    Raises:
        InputError: a label or a prediction is not in [0, ``n_classes``).
    """
    _check_classes(cells, n_classes)
    matrix = np.zeros((n_classes, n_classes))
    np.add.at(matrix, (cells.label, cells.prediction), cells.weight * cells.count / cells.runs)
    return matrix


def accuracy(matrices: np.ndarray) -> np.ndarray:
    """Returns the share on the diagonal of confusion matrices ``[..., c, c]``; NaN if empty."""
    total = matrices.sum(axis=(-2, -1))
    right = np.trace(matrices, axis1=-2, axis2=-1)
    return np.divide(right, total, out=np.full_like(total, np.nan), where=total > 0)


def precision(matrices: np.ndarray) -> np.ndarray:
    """Returns the mean precision over the classes that occur, of matrices ``[..., c, c]``.

    A class that occurs (is the true one of some point) and is never predicted has precision 0. NaN
    if no class occurs.
    """
    return _mean_over_classes(matrices, matrices.sum(axis=-2))


def recall(matrices: np.ndarray) -> np.ndarray:
    """Returns the mean recall over the classes that occur, of matrices ``[..., c, c]``.

    NaN if no class occurs.
    """
    return _mean_over_classes(matrices, matrices.sum(axis=-1))


def _mean_over_classes(matrices: np.ndarray, out_of: np.ndarray) -> np.ndarray:
    """Returns the unweighted mean of diagonal / ``out_of`` over the classes that occur."""
    right = np.diagonal(matrices, axis1=-2, axis2=-1)
    shares = np.divide(right, out_of, out=np.zeros_like(out_of), where=out_of > 0)
    occurs = matrices.sum(axis=-1) > 0
    total = np.where(occurs, shares, 0).sum(axis=-1)
    number = occurs.sum(axis=-1)
    return np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)


#: Names as the paper prints them.
METRICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"ACC": accuracy, "PREC": precision}


def drawn_confusions(
    cells: Cells,
    n_classes: int,
    generator: np.random.Generator,
    resamples: int = intervals.RESAMPLES,
    prior: float = 0.5,
) -> np.ndarray:
    """Returns draws of the confusion matrix, float64 ``[resamples, c, c]``.

    The shares of a class's predictions have the posterior that follows from ``prior`` points of its
    own class and as many of the others beforehand. One half is Jeffreys' prior for the share that
    is correct (Brown, Cai and DasGupta 2001); with 0, what was not predicted never is. A class of n
    points weighs n - 1, as in a sample's variance. Where several predictions of each point are
    counted, a point has the weight of one: as if its predictions were all equal, which makes
    intervals too wide, not too narrow.

    Args:
        cells: the counted points.
        n_classes: number of classes.
        generator: randomness; equal generators give equal draws.
        resamples: number of draws.
        prior: points of the own class, and of all others together, beforehand.

    Raises:
        InputError: a label or a prediction is not in [0, ``n_classes``).
    """
    matrix = confusion(cells, n_classes)
    draws = np.zeros((resamples, n_classes, n_classes))
    for label, points in enumerate(_class_sizes(cells, n_classes)):
        if not points:
            continue
        before = np.full(n_classes, prior / max(1, n_classes - 1))
        before[label] = prior
        total = matrix[label].sum()
        weights = generator.standard_gamma(
            max(points - 1, 0.5) * matrix[label] / total + before, (resamples, n_classes)
        )
        draws[:, label] = total * weights / weights.sum(axis=1, keepdims=True)
    return draws


def _class_sizes(cells: Cells, n_classes: int) -> np.ndarray:
    """Returns the number of test points of each class, each counted once, ``[n_classes]``."""
    counts = np.bincount(cells.label, weights=cells.count, minlength=n_classes)
    return np.rint(counts / cells.runs).astype(np.int64)


def merged_mean(draws: Sequence[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """Returns draws of the mean of quantities whose dependence is not known, ``[resamples]``.

    The widest that any dependence allows: all quantities are taken to be high together (each
    is sorted before they are averaged). The result is shuffled.

    Args:
        draws: one ``[resamples]`` array per quantity.
        generator: randomness of the shuffle.
    """
    if len(draws) == 1:
        return np.asarray(draws[0])
    return generator.permutation(np.mean([np.sort(one) for one in draws], axis=0))


def metric_draws(
    replicates: Sequence[Cells],
    n_classes: int,
    generator: np.random.Generator,
    resamples: int = intervals.RESAMPLES,
    prior: float = 0.5,
) -> dict[str, np.ndarray]:
    """Returns draws of each metric's mean over replicates, float64 ``[resamples]``, over points.

    :func:`merged_mean` joins replicates, which share their points. All metrics are of the same
    draws. What trainings add: :func:`with_trainings`.

    Args:
        replicates: the counted points of each trained model, at least one.
        n_classes: number of classes.
        generator: randomness.
        resamples: number of draws.
        prior: see :func:`drawn_confusions`.
    """
    drawn = [drawn_confusions(c, n_classes, generator, resamples, prior) for c in replicates]
    return {name: merged_mean([of(m) for m in drawn], generator) for name, of in METRICS.items()}


def with_trainings(
    draws: np.ndarray,
    replicates: Sequence[Cells],
    metric: str,
    n_classes: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Returns draws over points and, from three trainings on, trainings; in [0, 1].

    Args:
        draws: of the metric, over points (:func:`metric_draws`).
        replicates, metric, n_classes: as for :func:`metric_estimate`.
        generator: randomness.
    """
    if len(replicates) < intervals.MIN_REPLICATES:
        return draws
    values = _values(replicates, metric, n_classes)
    return intervals.training_draws(draws, values, generator).clip(0, 1)


def metric_estimate(
    replicates: Sequence[Cells],
    metric: str,
    n_classes: int,
    generator: np.random.Generator,
    resamples: int = intervals.RESAMPLES,
) -> statistics.Estimate:
    """Returns a metric's mean over replicates with its 95 % interval.

    Args:
        replicates: the counted points of each trained model, at least one.
        metric: a key of :data:`METRICS`.
        n_classes: number of classes.
        generator: randomness of the interval of precision.
        resamples: number of its draws.
    """
    values = _values(replicates, metric, n_classes)
    value = float(np.mean(values))
    if metric == "ACC":
        points, method = _accuracy_interval(replicates, n_classes), "Agresti-Coull within classes"
    else:
        ends = [
            intervals.quantiles(
                metric_draws(replicates, n_classes, generator, resamples, prior)[metric]
            )
            for prior in (0.5, 0.0)
        ]
        lows, highs = zip(*ends, strict=True)
        points, method = (min(*lows, value), max(*highs, value)), "Dirichlet within classes"
    return statistics.trained_estimate(
        value, points, values, n=replicates[0].points, method=method, limits=(0.0, 1.0)
    )


def _values(replicates: Sequence[Cells], metric: str, n_classes: int) -> list[float]:
    """Returns the metric of each training."""
    return [float(METRICS[metric](confusion(cells, n_classes))) for cells in replicates]


def _accuracy_interval(replicates: Sequence[Cells], n_classes: int) -> tuple[float, float]:
    """Returns the interval over points of the mean accuracy, joined from those of the classes."""
    matrix = np.mean([confusion(cells, n_classes) for cells in replicates], axis=0)
    value, parts = float(accuracy(matrix)), []
    for label, points in enumerate(_class_sizes(replicates[0], n_classes)):
        if points:
            total = matrix[label].sum()
            share, weight = matrix[label, label] / total, total / matrix.sum()
            low, high = intervals.share_interval(min(share, 1.0) * points, int(points))
            parts.append((value + weight * (low - share), value + weight * (high - share)))
    low, high = intervals.joined(value, parts)
    return max(0.0, low), min(1.0, high)


def _check_classes(cells: Cells, n_classes: int) -> None:
    for name in ("label", "prediction"):
        values = getattr(cells, name)
        if values.size and not (values.min() >= 0 and values.max() < n_classes):
            raise InputError(
                f"A {name} lies outside the {n_classes} classes 0 to {n_classes - 1}: "
                f"found {values.min()} to {values.max()}.",
                remedy="evaluate the model again.",
            )
