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

Intervals come from a bootstrap over test points within their classes: the repeats of a point
are no points of their own, so a tiled class of 162 points counts as 162. Only counts of points
that agree in label, tile count and prediction are needed: how many of each a resample holds has
a multinomial distribution, which is drawn directly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from medrobust.core.errors import InputError
from medrobust.evaluation import statistics


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


def resampled_confusions(
    cells: Cells,
    n_classes: int,
    generator: np.random.Generator,
    resamples: int = statistics.RESAMPLES,
) -> np.ndarray:
    """Returns confusion matrices of bootstrap samples, float64 ``[resamples, c, c]``.

    Points are drawn with replacement within their class. Where several predictions of each
    point are counted, a resample draws as many predictions as there are points: as if the
    predictions of one point were all equal, which makes the interval too wide, not too narrow.

    Args:
        cells: the counted points.
        n_classes: number of classes.
        generator: randomness; equal generators give equal resamples.
        resamples: number of resamples.

    Raises:
        InputError: a label or a prediction is not in [0, ``n_classes``).
    """
    _check_classes(cells, n_classes)
    matrices = np.zeros((resamples, n_classes, n_classes))
    for label in range(n_classes):
        mine = (cells.label == label) & (cells.count > 0)
        total = int(cells.count[mine].sum())
        if not total:
            continue
        to_class = np.zeros((int(mine.sum()), n_classes))
        to_class[np.arange(len(to_class)), cells.prediction[mine]] = cells.weight[mine]
        shares = cells.count[mine] / total
        drawn = generator.multinomial(total // cells.runs, shares, size=resamples)
        matrices[:, label] = drawn @ to_class
    return matrices


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
    resamples: int = statistics.RESAMPLES,
) -> dict[str, np.ndarray]:
    """Returns bootstrap draws of each metric's mean over replicates, float64 ``[resamples]``.

    Below :data:`medrobust.evaluation.statistics.MIN_REPLICATES` replicates test points are
    drawn (:func:`merged_mean` joins two replicates, which share their points); from there on
    replicates are. All metrics are of the same resamples.

    Args:
        replicates: the counted points of each trained model, at least one.
        n_classes: number of classes.
        generator: randomness.
        resamples: number of draws.
    """
    if len(replicates) >= statistics.MIN_REPLICATES:
        matrices = np.stack([confusion(cells, n_classes) for cells in replicates])
        chosen = generator.integers(len(replicates), size=(resamples, len(replicates)))
        return {name: of(matrices)[chosen].mean(axis=1) for name, of in METRICS.items()}
    drawn = [resampled_confusions(c, n_classes, generator, resamples) for c in replicates]
    return {name: merged_mean([of(m) for m in drawn], generator) for name, of in METRICS.items()}


def metric_estimate(
    replicates: Sequence[Cells], metric: str, n_classes: int, draws: np.ndarray
) -> statistics.Estimate:
    """Returns a metric's mean over replicates with its 95 % percentile interval.

    Args:
        replicates, n_classes: as for :func:`metric_draws`.
        metric: a key of :data:`METRICS`.
        draws: those of the metric.
    """
    values = [float(METRICS[metric](confusion(cells, n_classes))) for cells in replicates]
    low, high = np.quantile(draws, (0.025, 0.975))
    k = len(replicates)
    over = "points within classes" if k < statistics.MIN_REPLICATES else f"{k} replicates"
    trained = "one training" if k == 1 else f"{k} trainings"
    return statistics.Estimate(
        value=float(np.mean(values)),
        ci_low=float(low),
        ci_high=float(high),
        n=replicates[0].points,
        replicates=k,
        basis=f"{trained}, bootstrap over {over}",
    )


def _check_classes(cells: Cells, n_classes: int) -> None:
    for name in ("label", "prediction"):
        values = getattr(cells, name)
        if values.size and not (values.min() >= 0 and values.max() < n_classes):
            raise InputError(
                f"A {name} lies outside the {n_classes} classes 0 to {n_classes - 1}: "
                f"found {values.min()} to {values.max()}.",
                remedy="evaluate the model again.",
            )
