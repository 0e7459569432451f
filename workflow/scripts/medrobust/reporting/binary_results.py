"""What tables of a binary classifier show of each model: metrics over its folds and trainings.

Numbers are made by :mod:`medrobust.evaluation.binary`. A fold whose training failed is not in a
mean, and is told beside it: the mean of the others is of easier folds, or of harder ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medrobust.core.errors import InputError
from medrobust.evaluation.binary import (
    RATES,
    BinaryCounts,
    Scored,
    counts_of,
    rate,
    rate_estimate,
    score_estimate,
)
from medrobust.evaluation.folds import paired_estimate
from medrobust.evaluation.outcomes import read_scores
from medrobust.evaluation.statistics import Estimate
from medrobust.evaluation.tally import TEST_SET
from medrobust.reporting.artefacts import TRAINING_FAILED, FailedTraining
from medrobust.reporting.generic_results import (
    RobustResults,
    by_fold,
    read_robust_results,
    test_per_train,
)
from medrobust.reporting.request import Request

#: Stands for the attack of a number without attack.
NO_ATTACK = "none"
Key = tuple[str, str, str]
"""Data set, model, attack in the study (:data:`NO_ATTACK` for none)."""


@dataclass(frozen=True)
class BinaryResults:
    """Metrics of a run on data sets of two classes.

    Attributes:
        robust: the tallies.
        probabilities: (data set, model, attack) to the files of each fold; none without them.
        test_per_train: (data set, model) to test points per training point, the mean over folds.
        failed: trainings that failed.
        positive: number of the positive class.
        files: every file that was read.
    """

    robust: RobustResults
    probabilities: Mapping[Key, Mapping[int, Sequence[str]]]
    test_per_train: Mapping[tuple[str, str], float]
    failed: Sequence[FailedTraining]
    positive: int
    files: Sequence[str]

    def datasets(self) -> list[str]:
        """Returns the data sets of which there are results."""
        return list(dict.fromkeys(dataset for dataset, _, _ in self.robust.tallies))

    def models(self, dataset: str) -> list[str]:
        """Returns the models of a data set: those with results, then those that failed."""
        with_results = [model for name, model, _ in self.robust.tallies if name == dataset]
        failed = [one.model for one in self.failed if one.dataset == dataset]
        return list(dict.fromkeys([*with_results, *failed]))

    def attacked_levels(self, dataset: str) -> list[tuple[str, float]]:
        """Returns no attack, then each attack with its levels above 0."""
        attacks = [attack for name, attack in self.robust.attacks() if name == dataset]
        levels = [(a, e) for a in attacks for e in self.robust.levels(dataset, a) if e > 0]
        return [(NO_ATTACK, 0.0), *levels]

    def estimate(self, key: Key, level: float, metric: str) -> Estimate | None:
        """Returns a metric with its interval, None if it was not run.

        Args:
            key: data set, model and attack.
            level: radius of the attack, 0 for :data:`NO_ATTACK`.
            metric: one of :data:`medrobust.evaluation.binary.RATES` or ``SCORES``.
        """
        ratio = self.test_per_train.get(key[:2], 0.0)
        if metric in RATES:
            counts = self._counts(key, level)
            return rate_estimate(counts, metric, test_per_train=ratio) if counts else None
        scores = self._scores(key, level)
        return score_estimate(scores, metric, test_per_train=ratio) if scores else None

    def difference(self, first: Key, second: Key, level: float, metric: str) -> Estimate | None:
        """Returns a rate of one model less that of another, on the folds that both have.

        Args:
            first, second: data set, model and attack; of one data set.
            level, metric: as for :meth:`estimate`; one of the rates.

        Returns:
            None if one of them was not run, or a rate of theirs is not defined. Of fewer than two
            folds without an interval.
        """
        pairs = self.pairs(first, second, level, metric)
        if pairs is None:
            return None
        counts = [self._counts(key, level) for key in (first, second)]
        return paired_estimate(
            [one for one, _ in pairs.values()],
            [other for _, other in pairs.values()],
            test_per_train=self.shared(first, second),
            n=sum(round(counts[0][fold][0].points) for fold in pairs),
            replicates=min(len(each[fold]) for each in counts for fold in pairs),
            limits=(-1.0, 1.0),
        )

    def pairs(
        self, first: Key, second: Key, level: float, metric: str
    ) -> dict[int, tuple[float, float]] | None:
        """Returns a rate of two models on each fold that both have, the mean over its trainings.

        Arguments as for :meth:`difference`; None where that is.
        """
        counts = [self._counts(key, level) for key in (first, second)]
        found = {
            fold: tuple(_mean_rate(each[fold], metric) for each in counts)
            for fold in counts[0]
            if fold in counts[1]
        }
        return None if not found or any(None in pair for pair in found.values()) else found

    def shared(self, first: Key, second: Key) -> float:
        """Returns test points per training point of two models, the larger of the two."""
        return max(self.test_per_train[key[:2]] for key in (first, second))

    def failed_text(self, dataset: str, model: str) -> str:
        """Returns which trainings of a model failed while others did not, in words; "" if none."""
        mine = [one for one in self.failed if (one.dataset, one.model) == (dataset, model)]
        if not mine:
            return ""
        places = [
            f"fold {one.fold}" + (f", replicate {one.replicate}" if one.replicate else "")
            for one in mine
        ]
        reasons = "; ".join(dict.fromkeys(one.reason for one in mine))
        return f"{TRAINING_FAILED} in {', '.join(places)} ({reasons})"

    def folds_without(self, dataset: str, model: str) -> int:
        """Returns of how many folds a model has no training that did not fail."""
        failed = {one.fold for one in self.failed if (one.dataset, one.model) == (dataset, model)}
        there = {
            fold
            for (name, one, _), folds in self.robust.tallies.items()
            for fold in folds
            if (name, one) == (dataset, model)
        }
        return len(failed - there)

    def _counts(self, key: Key, level: float) -> dict[int, list[BinaryCounts]]:
        """Returns the counts of each training of each fold; none if it was not run."""
        found: dict[int, list[BinaryCounts]] = {}
        for fold, tallies in self.robust.tallies.get(self._attacked(key), {}).items():
            for tally in tallies:
                cells = tally.cells(level)
                if cells is None:
                    return {}
                found.setdefault(fold, []).append(counts_of(cells, self.positive))
        return found

    def _scores(self, key: Key, level: float) -> dict[int, list[Scored]]:
        found: dict[int, list[Scored]] = {}
        for fold, files in self.probabilities.get(self._attacked(key), {}).items():
            for file in files:
                scores = read_scores(file, level, self.positive)
                if scores is None:
                    return {}
                found.setdefault(fold, []).append(scores)
        return found

    def _attacked(self, key: Key) -> Key:
        """Returns the tally that knows a number: without attack, one of all test points if any."""
        dataset, model, attack = key
        if attack != NO_ATTACK:
            return key
        mine = [one for one in self.robust.tallies if one[:2] == (dataset, model)]
        return min(mine, key=self._is_of_a_part, default=key)

    def _is_of_a_part(self, key: Key) -> bool:
        first = next(iter(self.robust.tallies[key].values()))[0]
        return first.selection != TEST_SET


def _mean_rate(counts: Sequence[BinaryCounts], metric: str) -> float | None:
    values = [rate(one, metric) for one in counts]
    return None if None in values else float(np.mean(values))


def read_binary_results(request: Request, positive: int = 1) -> BinaryResults:
    """Reads the tallies, summaries and, where there are, probabilities of a request.

    Args:
        request: with tallies and summaries.
        positive: number of the positive class.

    Raises:
        InputError: a file is missing or wrong, two entries are the same, the tallies of an attack
            on a fold are of different points, or a data set has more than two classes.
    """
    robust = read_robust_results(request)
    _check_two_classes(robust, request.class_names)
    groups = by_fold(request.entries)
    probabilities: dict[Key, dict[int, list[str]]] = {}
    for (dataset, model), folds in groups.items():
        for fold, entries in folds.items():
            for entry in entries:
                for attack, file in entry.probabilities.items():
                    of_attack = probabilities.setdefault((dataset, model, attack), {})
                    of_attack.setdefault(fold, []).append(file)
    files = [file for folds in probabilities.values() for each in folds.values() for file in each]
    return BinaryResults(
        robust=robust,
        probabilities=probabilities,
        test_per_train={key: test_per_train(folds) for key, folds in groups.items()},
        failed=request.context.failed,
        positive=positive,
        files=[*robust.files, *files, *(one.summary for one in request.entries)],
    )


def _check_two_classes(robust: RobustResults, class_names: Sequence[str]) -> None:
    found = {
        dataset: max(int(tally.frame[["label", "prediction"]].to_numpy().max()) for tally in each)
        for (dataset, _, _), folds in robust.tallies.items()
        for each in folds.values()
    }
    more = [dataset for dataset, largest in found.items() if largest > 1]
    if more or len(class_names) > 2:
        raise InputError(
            f"Of these data sets {', '.join(more) or 'the first'} has more than two classes: there "
            "is no one positive class.",
            remedy="show data sets of two classes, or `robust_accuracy`.",
        )
