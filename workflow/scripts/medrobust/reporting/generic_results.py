"""What generic tables and curves show of each model: numbers over its folds and trainings.

Where a data set has several folds, a number is the mean over its folds of the mean over the
trainings of each, with the approximate interval of
:func:`medrobust.evaluation.statistics.fold_estimate`.
Of one fold, an interval covers test points, or from three trainings on trainings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core.errors import InputError
from medrobust.evaluation import intervals, statistics
from medrobust.evaluation.statistics import Estimate
from medrobust.evaluation.tally import ATTACK, Tally
from medrobust.reporting.levels import points_text, read_tallies
from medrobust.reporting.rows import common_size, read_clean_summary

if TYPE_CHECKING:
    import pandas as pd

    from medrobust.reporting.request import Entry, Request

#: An attack's setting ``norm`` to the column ``norm`` of tables, and to that of the records.
_NORMS = {
    **dict.fromkeys(("linf", "inf"), "Linf"),
    **dict.fromkeys(("l2", "2"), "L2"),
    **dict.fromkeys(("l1", "1"), "L1"),
}
DISTANCE_COLUMNS = {"Linf": "linf", "L2": "l2", "L1": "l1"}
NORM_LABELS = {"Linf": "L∞", "L2": "L2", "L1": "L1"}
OVER_FOLDS = (
    "Each fold has a test set of its own, while the training sets of two folds overlap: an "
    "interval over folds is approximate, and tends to be too narrow (Bengio and Grandvalet 2004)."
)
OVER_POINTS = (
    "An interval over points says what other test points could change, not what another training "
    "could."
)

ByFold = Mapping[int, Sequence[Any]]
"""Number of a fold -> one thing for each of its trainings."""


# --- entries ----------------------------------------------------------------------------


def by_fold(entries: Sequence[Entry]) -> dict[tuple[str, str], dict[int, list[Entry]]]:
    """Returns (data set, model) to the results of each fold, replicates in their order.

    Raises:
        InputError: two entries are the same model, data set, fold and replicate.
    """
    groups: dict[tuple[str, str], dict[int, list[Entry]]] = {}
    for entry in sorted(entries, key=lambda one: (one.fold, one.replicate)):
        folds = groups.setdefault((entry.dataset, entry.model), {})
        replicates = folds.setdefault(entry.fold, [])
        if replicates and replicates[-1].replicate == entry.replicate:
            raise InputError(
                f"The results of {entry.model} on {entry.dataset}, fold {entry.fold}, replicate "
                f"{entry.replicate}, are given twice."
            )
        replicates.append(entry)
    order = dict.fromkeys((entry.dataset, entry.model) for entry in entries)
    return {key: groups[key] for key in order}


def norm_of(facts: Mapping[str, Any], default: str) -> str:
    """Returns the norm of an attack as tables have it ("Linf", "L2", "L1").

    Args:
        facts: an entry of :attr:`medrobust.reporting.request.Request.attacks`.
        default: of an attack without a setting ``norm``, or with one of another kind.
    """
    return _NORMS.get(str(facts.get("norm", "")).lower(), default)


def test_per_train(folds: ByFold) -> float:
    """Returns test points per point that a model was trained on, the mean over folds.

    Args:
        folds: number of the fold to its entries, with summaries.

    Raises:
        InputError: a summary is missing, wrong, or lacks the number of training points.
    """
    return float(np.mean([_ratio(entries[0]) for entries in folds.values()]))


def _ratio(entry: Entry) -> float:
    summary = read_clean_summary(entry.summary)
    trained = summary.get("n_train")
    if not isinstance(trained, int) or trained < 1:
        raise InputError("The clean results lack 'n_train'.", where=entry.summary)
    return summary["n_test"] / min(trained, entry.training_points or trained)


# --- shares of points -------------------------------------------------------------------


def share_estimate(counts: ByFold, where: str) -> Estimate:
    """Returns a share of points with its interval.

    Args:
        counts: number of the fold to successes and trials of each of its trainings.
        where: of what, in words, for messages.

    Raises:
        InputError: the trainings of a fold were tested on different numbers of points.
    """
    sizes = {fold: common_size((n for _, n in found), where) for fold, found in counts.items()}
    if len(counts) > 1:
        shares = [
            float(np.mean([right / n for right, n in replicates])) for replicates in counts.values()
        ]
        n = sum(sizes.values())
        right = sum(share * sizes[fold] for share, fold in zip(shares, counts, strict=True))
        return statistics.fold_estimate(
            shares,
            n=n,
            replicates=fewest(counts),
            points=intervals.share_interval(min(right, n), n),
            limits=(0.0, 1.0),
        )
    (replicates,) = counts.values()
    right = [one for one, _ in replicates]
    return statistics.accuracy_estimate(right, *sizes.values())


def share_range(counts: ByFold) -> dict[str, float | None]:
    """Returns the lowest and the highest share of all trainings; None for a single one."""
    shares = [right / n for replicates in counts.values() for right, n in replicates]
    several = len(shares) > 1
    return {
        "lowest": min(shares) if several else None,
        "highest": max(shares) if several else None,
    }


def fewest(found: ByFold) -> int:
    """Returns the fewest trainings behind a fold."""
    return min(len(replicates) for replicates in found.values())


@dataclass(frozen=True)
class RobustResults:
    """Tallies of a run: accuracy by noise level.

    Attributes:
        tallies: (data set, model, attack) to the tallies of each fold.
        sources: data set to source.
        study: name of the study; every random stream has it.
        seed: root seed.
        files: every file that was read.
    """

    tallies: Mapping[tuple[str, str, str], Mapping[int, Sequence[Tally]]]
    sources: Mapping[str, str]
    study: str
    seed: int
    files: Sequence[str]

    def attacks(self) -> list[tuple[str, str]]:
        """Returns (data set, attack) of everything that was run."""
        return list(dict.fromkeys((dataset, attack) for dataset, _, attack in self.tallies))

    def models(self, dataset: str, attack: str) -> list[str]:
        """Returns the models of a data set that an attack was run on."""
        return [model for name, model, made in self.tallies if (name, made) == (dataset, attack)]

    def levels(self, dataset: str, attack: str) -> list[float]:
        """Returns the levels of an attack, ascending from 0."""
        found = {
            level
            for (name, _, made), folds in self.tallies.items()
            for replicates in folds.values()
            for tally in replicates
            for level in tally.levels
            if (name, made) == (dataset, attack)
        }
        return sorted({0.0, *found})

    def counts(
        self, key: tuple[str, str, str], epsilon: float, reading: str = ATTACK
    ) -> dict[int, list[tuple[float, int]]]:
        """Returns correct and all points of each training of each fold; empty if not run.

        Args:
            key: data set, model, attack.
            epsilon: level; 0 for clean.
            reading: of the tally (:mod:`medrobust.evaluation.tally`).
        """
        found: dict[int, list[tuple[float, int]]] = {}
        for fold, replicates in self.tallies[key].items():
            for tally in replicates:
                cells = tally.cells(epsilon, reading)
                if cells is None:
                    return {}
                right = int(cells.count[cells.label == cells.prediction].sum())
                found.setdefault(fold, []).append((right / cells.runs, cells.points))
        return found

    def estimate(
        self, key: tuple[str, str, str], epsilon: float, reading: str = ATTACK
    ) -> Estimate | None:
        """Returns an accuracy with its interval, None if it was not run; arguments as above."""
        counts = self.counts(key, epsilon, reading)
        if not counts:
            return None
        return share_estimate(counts, f"{key[1]} on {key[0]}")

    def points_text(self, dataset: str, attack: str) -> str:
        """Returns which points an attack was made on, in words."""
        # Of the model with the most: folds of others may have failed.
        folds = max(
            (
                found
                for (name, _, made), found in self.tallies.items()
                if (name, made) == (dataset, attack)
            ),
            key=len,
        )
        texts = list(dict.fromkeys(points_text(tallies[0]) for tallies in folds.values()))
        if len(folds) == 1:
            return texts[0]
        return f"{len(folds)} folds, in turn of {', '.join(texts)}"


def read_robust_results(request: Request) -> RobustResults:
    """Reads the tallies of a request.

    Raises:
        InputError: a file is missing or wrong, two entries are the same, or the tallies of an
            attack on a fold are of different points.
    """
    groups = by_fold(request.entries)
    tallies: dict[tuple[str, str, str], dict[int, Sequence[Tally]]] = {}
    files: list[str] = []
    for fold in sorted({entry.fold for entry in request.entries}):
        of_fold = {key: folds[fold] for key, folds in groups.items() if fold in folds}
        read, paths = read_tallies(of_fold)
        files += paths
        for key, found in read.items():
            tallies.setdefault(key, {})[fold] = found
    return RobustResults(
        tallies=tallies,
        sources={entry.dataset: entry.source for entry in request.entries},
        study=request.context.study,
        seed=request.context.seed,
        files=files,
    )


# --- distances --------------------------------------------------------------------------


def distance_estimate(
    folds: Mapping[int, Sequence[np.ndarray]], statistic: str, random: np.random.Generator
) -> Estimate:
    """Returns the median or mean distance with its interval.

    Args:
        folds: number of the fold to the distances ``[n]`` of each of its trainings, +inf where the
            attack failed.
        statistic: "median" or "mean".
        random: generator of the bootstrap over points.

    Returns:
        Where the number of any fold is not defined, because the attack failed, no value and the
        least that it can be.
    """
    estimate = {"median": statistics.median_estimate, "mean": statistics.mean_estimate}[statistic]
    if len(folds) == 1:
        (replicates,) = folds.values()
        return estimate(replicates, generator=random)
    # Of a fold its number alone counts.
    parts = [estimate(each, generator=random, resamples=2) for each in folds.values()]
    censored = sum(part.censored for part in parts)
    n, replicates = sum(part.n for part in parts), fewest(folds)
    values = [part.value for part in parts]
    if None in values:
        bounds = [part.lower_bound if part.value is None else part.value for part in parts]
        return Estimate(
            None,
            None,
            None,
            n,
            replicates,
            censored=censored,
            basis=f"{statistic} undefined: {censored} censored",
            lower_bound=float(np.mean(bounds)),
            folds=len(parts),
        )
    over_folds = statistics.fold_estimate(values, n=n, replicates=replicates, limits=(0.0, np.inf))
    return dataclasses.replace(over_folds, censored=censored)


# --- words ------------------------------------------------------------------------------


def interval_text(frame: pd.DataFrame) -> str:
    """Returns what the intervals of a table or figure cover, as sentences for its caption."""
    bases = [text for text in dict.fromkeys(frame["interval"]) if text]
    if not bases:
        return ""
    text = f" 95 % intervals: {'; '.join(bases)}."
    if (frame["folds"] > 1).any():
        text += f" {OVER_FOLDS}"
    few = (frame["folds"] == 1) & (frame["replicates"] < intervals.MIN_REPLICATES)
    return f"{text} {OVER_POINTS}" if few.any() else text
