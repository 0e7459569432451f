"""What the tables, figures, claims and reading of nsr read: tallies, and the printed numbers.

Everything that is estimated goes through :class:`NsrResults`, so that a number and its interval
are the same wherever they are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medrobust.core import io
from medrobust.evaluation import balanced, intervals, statistics
from medrobust.evaluation.tally import ATTACK, FIRST_PER_CLASS, TEST_SET, Tally
from medrobust.reporting.comparison import read_published
from medrobust.reporting.levels import LevelResults, read_tallies
from medrobust.reporting.request import Entry, Request
from medrobust.reporting.rows import (
    attack_in_words,
    dataset_sources,
    level_text,
    ordered_models,
    printed_values,
    replicates_by_model,
)

STUDY = "nsr"
DATASET = "MIT-BIH(balanced test)"
#: What the published numbers call the points of SPSA.
PER_CLASS_DATASET = "MIT-BIH(balanced test) first162/class"
#: Test points of each class that the paper attacks by SPSA (appendix C).
PAPER_PER_CLASS = 162
NETWORKS = ("MLP", "CNN")
#: In the order of the paper's tables.
METHODS = (
    "ce",
    "jacob",
    "mse",
    "mseMargin",
    "loss2",
    "loss1",
    "adv0.1",
    "adv0.2",
    "adv0.3",
)
METRICS = ("ACC", "PREC")
METRIC_NAMES = {"ACC": "accuracy", "PREC": "precision"}
#: Noise levels that the paper prints; 0 is clean.
LEVELS = (0.0, 0.01, 0.03, 0.05, 0.1, 0.2, 0.3)
NOISE_LEVELS = LEVELS[1:]
N_CLASSES = 5
RESAMPLES = intervals.RESAMPLES
#: Name of an attack in the study to its name in print.
PRINTED_ATTACKS = {"pgd20": "20-PGD", "pgd100": "100-PGD", "spsa": "SPSA"}
NOISE = "noise"


@dataclass(frozen=True)
class PrintedTable:
    """One of the paper's twelve tables.

    Attributes:
        number: of the table.
        attack: name in the study.
        network: "MLP" or "CNN".
        metric: "ACC" or "PREC".
    """

    number: int
    attack: str
    network: str
    metric: str


TABLES = tuple(
    PrintedTable(number, attack, network, metric)
    for number, (attack, network, metric) in enumerate(
        ((a, n, m) for a in PRINTED_ATTACKS for n in NETWORKS for m in METRICS), start=1
    )
)


def remark(dataset: str, source: str) -> str:
    """Returns what a reader must know of the data behind a number, "" if nothing."""
    if source.split("+")[0] == "physionet":
        return "the test beats were drawn anew from the records: not the rows of the paper"
    return ""


def model_name(network: str, method: str) -> str:
    """Returns a model's name as in the published numbers ("MLP:ce")."""
    return f"{network}:{method}"


def split_name(model: str) -> tuple[str, str]:
    """Returns the network and the method of a model; ("", name) for one of another kind."""
    network, _, method = model.partition(":")
    return (network, method) if network in NETWORKS and method else ("", model)


#: Models of the paper, in its order.
PAPER_MODELS = tuple(model_name(network, method) for network in NETWORKS for method in METHODS)


# --- results ----------------------------------------------------------------------------


@dataclass(frozen=True)
class NsrResults(LevelResults):
    """Tallies of a run and the metrics on the balanced test set that follow from them.

    Attributes:
        sizes: of each data set the numbers of training and test points, as evaluated.
        n_classes: number of classes.
    """

    sizes: Mapping[str, tuple[int, int]]
    n_classes: int
    _draws: dict[tuple[Any, ...], dict[str, np.ndarray]] = field(default_factory=dict, repr=False)
    _estimates: dict[tuple[Any, ...], statistics.Estimate] = field(default_factory=dict, repr=False)

    def cells(
        self,
        model: str,
        attack: str,
        epsilon: float,
        *,
        dataset: str = DATASET,
        reading: str = ATTACK,
        subset: bool = False,
    ) -> list[balanced.Cells]:
        """Returns the counted points of each replicate, none if the level was not run."""
        cells = [
            tally.cells(epsilon, reading, subset=subset)
            for tally in self.of(dataset, model, attack)
        ]
        return [] if None in cells else cells

    def draws(
        self, model: str, attack: str, epsilon: float, metric: str, **where: Any
    ) -> np.ndarray | None:
        """Returns draws of a metric, over points and from three trainings on over trainings.

        None if it was not run.

        Args:
            model, attack: as in the study.
            epsilon: noise level, 0 for clean.
            metric: "ACC" or "PREC".
            where: ``dataset``, ``reading``, ``subset`` as for :meth:`cells`.
        """
        cells = self.cells(model, attack, epsilon, **where)
        if not cells:
            return None
        key = (model, attack, level_text(epsilon), *_named(where))
        if key not in self._draws:
            random = self.random("points", *key)
            self._draws[key] = balanced.metric_draws(cells, self.n_classes, random, RESAMPLES)
        random = self.random("trainings", *key)
        draws = self._draws[key][metric]
        return balanced.with_trainings(draws, cells, metric, self.n_classes, random)

    def estimate(
        self, model: str, attack: str, epsilon: float, metric: str, **where: Any
    ) -> statistics.Estimate | None:
        """Returns a metric with its interval, None if it was not run; arguments as above."""
        cells = self.cells(model, attack, epsilon, **where)
        if not cells:
            return None
        key = (model, attack, level_text(epsilon), *_named(where))
        if (metric, *key) not in self._estimates:
            random = self.random("interval", *key)
            self._estimates[metric, *key] = balanced.metric_estimate(
                cells, metric, self.n_classes, random, RESAMPLES
            )
        return self._estimates[metric, *key]

    def value(
        self, model: str, attack: str, epsilon: float, metric: str, **where: Any
    ) -> float | None:
        """Returns a metric alone, None if it was not run; arguments as above."""
        of = balanced.METRICS[metric]
        cells = self.cells(model, attack, epsilon, **where)
        values = [float(of(balanced.confusion(one, self.n_classes))) for one in cells]
        return float(np.mean(values)) if values else None

    def on_points_of(self, model: str, attack: str, other: str) -> dict[str, bool] | None:
        """Returns how to read ``attack`` on the points of ``other`` (arguments of :meth:`cells`).

        None if either was not run, or their points cannot be matched.
        """
        mine, theirs = (self.of(DATASET, model, name) for name in (attack, other))
        if not mine or not theirs:
            return None
        if (mine[0].selection, mine[0].per_class) == (theirs[0].selection, theirs[0].per_class):
            return {}
        marked = mine[0].subset_per_class == theirs[0].per_class > 0
        return {"subset": True} if marked and mine[0].selection == TEST_SET else None


def _named(where: Mapping[str, Any]) -> list[str]:
    """Returns names of a random stream for a reading of a tally."""
    return [f"{name}={value}" for name, value in sorted(where.items())]


def read_results(
    request: Request, attacks: Iterable[str] | None = None, network: str | None = None
) -> NsrResults:
    """Reads the tallies of a request.

    Args:
        request: with the results of models.
        attacks: those to read; by default all.
        network: "MLP" or "CNN" to read its models only, and those of no network of the paper.

    Raises:
        InputError: a file is missing or wrong, two entries are the same, or the tallies of an
            attack are of different points.
    """
    wanted = None if attacks is None else set(attacks)
    entries = [
        entry
        for entry in request.entries
        if network is None or split_name(entry.model)[0] in (network, "")
    ]
    groups = replicates_by_model(entries)
    sources = dataset_sources(entries, (DATASET,))
    tallies, files = read_tallies(groups, wanted, points_text)
    names = (DATASET, *sources)
    return NsrResults(
        study=STUDY,
        tallies=tallies,
        sources=sources,
        models={name: ordered_models(groups, name, PAPER_MODELS) for name in names},
        sizes=_sizes(entries),
        n_classes=len(request.class_names) or N_CLASSES,
        seed=request.context.seed,
        files=files,
    )


def _sizes(entries: Sequence[Entry]) -> dict[str, tuple[int, int]]:
    sizes = {}
    for entry in entries:
        if entry.summary and entry.dataset not in sizes:
            summary = io.read_json(entry.summary)
            sizes[entry.dataset] = (int(summary["n_train"]), int(summary["n_test"]))
    return sizes


def points_text(tally: Tally) -> str:
    """Returns which points a tally is of, in words."""
    rows = tally.rows(0.0)
    n = int(rows["points"].sum())
    if tally.selection == FIRST_PER_CLASS:
        return f"{n:,} test points, the first {tally.per_class:,} of each class"
    balanced_size = int((rows["points"] * rows["tile_count"]).sum())
    return f"{n:,} test points, which stand for {balanced_size:,} of the balanced set"


def absent_classes(results: NsrResults, class_names: Sequence[str]) -> list[str]:
    """Returns a note for each data set whose test points lack classes, which are in no mean."""
    lacking: dict[str, list[str]] = {}
    for (dataset, _, _), tallies in results.tallies.items():
        there = {int(label) for tally in tallies for label in tally.cells(0.0).label}
        names = class_names or [str(label) for label in range(results.n_classes)]
        absent = [name for label, name in enumerate(names) if label not in there]
        if absent:
            lacking[dataset] = absent
    return [
        f"{dataset}: no test point of class {', '.join(names)}; precision (PREC) is the mean over "
        f"the other {results.n_classes - len(names)} classes."
        for dataset, names in lacking.items()
    ]


def printed_dataset(attack: str, dataset: str = DATASET) -> str:
    """Returns the data set's name in the published numbers of an attack."""
    if attack != "spsa":
        return dataset
    return PER_CLASS_DATASET if dataset == DATASET else f"{dataset} first{PAPER_PER_CLASS}/class"


# --- the printed numbers ----------------------------------------------------------------


Printed = Mapping[tuple[str, str, str, float], float]
"""(model, attack in the study, metric, noise level) -> the printed number."""


def read_printed(path: str) -> dict[tuple[str, str, str, float], float]:
    """Returns the printed numbers.

    Raises:
        InputError: the file is wrong.
    """
    frame = read_published(path, STUDY)
    names = {printed: name for name, printed in PRINTED_ATTACKS.items()}
    values = printed_values(frame, "method", "attack", "metric", "epsilon")
    return {(m, names[a], metric, float(e)): value for (m, a, metric, e), value in values.items()}


# --- words ------------------------------------------------------------------------------


def attack_text(request: Request, attack: str) -> str:
    """Returns an attack of the study and its budget in words."""
    return attack_in_words(request, attack, PRINTED_ATTACKS)


def budget_text(request: Request, attacks: Iterable[str]) -> str:
    """Returns several attacks in words."""
    return "; ".join(attack_text(request, attack) for attack in attacks)


def sample_text(results: NsrResults, attacks: Iterable[str]) -> str:
    """Returns which points the attacks were made on, in words."""
    parts = []
    for attack in attacks:
        tallies = results.attacked(attack, DATASET)
        name = PRINTED_ATTACKS.get(attack, attack)
        parts.append(f"{name}: {points_text(tallies[0])}" if tallies else f"{name}: not run")
    texts = {part.partition(": ")[2] for part in parts}
    return texts.pop() if len(texts) == 1 and len(parts) > 1 else "; ".join(parts)
