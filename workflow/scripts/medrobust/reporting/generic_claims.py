"""Sentences of a study's file, as tests of the numbers that the generic tables show.

Three tests: a model's number is above those of others (``more``), it is at least or at most a value
(``at_least``, ``at_most``). Numbers are accuracies without or under attack, and mean distances to
the nearest adversarial example. What makes a verdict is what makes it in the studies of papers:

* one fold, accuracies: draws of each share
  (:func:`medrobust.evaluation.intervals.share_draws`), of two models independent of each other
  (:mod:`medrobust.reporting.claim_tests`);
* one fold, distances: of two models the differences at the same points
  (:func:`medrobust.reporting.claims.mean_above_zero`), of one a bootstrap of its points;
* several folds: the corrected resampled t over the values of the folds, of two models over their
  differences fold by fold.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medrobust.core import seeds
from medrobust.evaluation import intervals, paired, statistics
from medrobust.reporting.binary_results import NO_ATTACK
from medrobust.reporting.claim_tests import (
    DrawnEvidence,
    Draws,
    Evidence,
    LevelQuantity,
    RoundedEvidence,
    above_over_folds,
    at_least,
    at_most,
    value_over_folds,
)
from medrobust.reporting.claims import (
    Claim,
    Finding,
    Statement,
    all_of,
    build_claims,
    mean_above_zero,
    open_statement,
)
from medrobust.reporting.generic_results import (
    DISTANCE_COLUMNS,
    NORM_LABELS,
    RobustResults,
    by_fold,
    norm_of,
    read_robust_results,
    test_per_train,
)
from medrobust.reporting.generic_rows import DECIMALS, METRIC, Printed, read_printed
from medrobust.reporting.generic_tables import attacks_in_words, with_rule
from medrobust.reporting.request import Entry, Request
from medrobust.reporting.rows import dataset_sources, level_text, read_clean_summary

if TYPE_CHECKING:
    import pandas as pd

DISTANCE = "mean_distance"
_CENSORED = "points have no adversarial example"


@dataclass(frozen=True)
class Quantity(LevelQuantity):
    """An accuracy at one level, or a mean distance, whose level is 0 as without attack.

    Attributes:
        dataset: as in the results.
        attack: name in the study, :data:`NO_ATTACK` for none.
        metric: :data:`~medrobust.reporting.generic_rows.METRIC` or :data:`DISTANCE`.
        norm: "Linf", "L2" or "L1"; "" without attack.
    """

    dataset: str
    attack: str
    metric: str
    norm: str

    @property
    def place(self) -> str:
        """Everything but the method, in words."""
        return f"{self.dataset}, {self.where}"

    @property
    def where(self) -> str:
        """Metric, attack and level, in words."""
        if self.attack == NO_ATTACK:
            return "accuracy without attack"
        if self.metric == DISTANCE:
            return f"mean distance, {self.attack}, {NORM_LABELS[self.norm]}"
        return f"accuracy, {self.attack}, ε {level_text(self.levels[0])}"

    @property
    def key(self) -> tuple[str, str, str]:
        """Data set, model and attack."""
        return self.dataset, self.method, self.attack

    @property
    def printed_key(self) -> tuple[str, ...]:
        """What the published number is found by, see
        :data:`medrobust.reporting.generic_rows.Printed`."""
        by_level = self.metric == METRIC and self.attack != NO_ATTACK
        level = level_text(self.levels[0]) if by_level else ""
        return self.dataset, self.method, self.metric, self.attack, self.norm, level


# --- the run's numbers ------------------------------------------------------------------


@dataclass(frozen=True)
class ClaimResults:
    """What sentences are judged by.

    Attributes:
        robust: the tallies.
        entries: (data set, model) to the results of each fold.
        folds: data set to its folds, those of which all trainings failed too.
        seed: root seed.
        study: name of the study; every random stream has it.
    """

    robust: RobustResults
    entries: Mapping[tuple[str, str], Mapping[int, Sequence[Entry]]]
    folds: Mapping[str, Collection[int]]
    seed: int
    study: str

    def shares(self, quantity: Quantity) -> dict[int, list[tuple[float, int]]]:
        """Returns correct and all points of each training of each fold; empty if not run."""
        if quantity.attack != NO_ATTACK:
            there = quantity.key in self.robust.tallies
            return self.robust.counts(quantity.key, quantity.levels[0]) if there else {}
        return {
            fold: [
                (one["right"], one["n_test"])
                for one in (read_clean_summary(entry.summary) for entry in entries)
            ]
            for fold, entries in self.of(quantity).items()
        }

    def distances(self, quantity: Quantity) -> dict[int, pd.Series]:
        """Returns of each fold the distance of each point, the mean over trainings; {} if not run.

        Raises:
            InputError: records are missing or wrong, or trainings attacked different points.
        """
        files = {
            fold: [one.attack_records.get(quantity.attack, "") for one in entries]
            for fold, entries in self.of(quantity).items()
        }
        if not all(file for each in files.values() for file in each):
            return {}
        column = DISTANCE_COLUMNS[quantity.norm]
        return {
            fold: paired.mean_over_replicates(
                [
                    statistics.point_distances([file], [column]).set_index("point_id")[column]
                    for file in each
                ]
            )
            for fold, each in files.items()
        }

    def values(self, quantity: Quantity) -> dict[int, float]:
        """Returns a number on each fold, the mean over its trainings; empty if not run."""
        if quantity.metric == DISTANCE:
            return {fold: float(one.mean()) for fold, one in self.distances(quantity).items()}
        return {
            fold: float(np.mean([right / n for right, n in each]))
            for fold, each in self.shares(quantity).items()
        }

    def points(self, quantity: Quantity) -> int:
        """Returns the number of points behind a number, of all folds together."""
        if quantity.metric == DISTANCE:
            return sum(len(one) for one in self.distances(quantity).values())
        return sum(each[0][1] for each in self.shares(quantity).values())

    def trainings(self, quantity: Quantity) -> int:
        """Returns the fewest trainings of a fold, 0 if it was not run."""
        return min((len(each) for each in self.of(quantity).values()), default=0)

    def of(self, quantity: Quantity) -> Mapping[int, Sequence[Entry]]:
        """Returns the results of a quantity's model by fold."""
        return self.entries.get(quantity.key[:2], {})

    def random(self, *names: object) -> np.random.Generator:
        """Returns the generator of a named piece of work."""
        return seeds.generator(self.seed, self.study, "claims", *names)


def read_claim_results(request: Request) -> ClaimResults:
    """Reads what sentences are judged by.

    Raises:
        InputError: a file is missing or wrong, two entries are the same, or the tallies of an
            attack on a fold are of different points.
    """
    entries = by_fold(request.entries)
    folds: dict[str, set[int]] = {}
    for one in (*request.entries, *request.context.failed):
        folds.setdefault(one.dataset, set()).add(one.fold)
    return ClaimResults(
        robust=read_robust_results(request),
        entries=entries,
        folds=folds,
        seed=request.context.seed,
        study=request.context.study,
    )


# --- how they are tested ----------------------------------------------------------------


@dataclass(frozen=True)
class RunEvidence(DrawnEvidence):
    """The results of a run."""

    results: ClaimResults

    def values(self, quantity: Quantity) -> Draws | str:
        """Returns estimate and draws of a quantity of one fold, or why there are none."""
        names = (*quantity.key, quantity.metric, *map(level_text, quantity.levels))
        random = self.results.random(*names)
        if quantity.metric == DISTANCE:
            found = self._distances(quantity)
            if isinstance(found, str):
                return found
            values = found.to_numpy(float)
            return float(values.mean()), paired.resampled_means(values[:, None], random)[:, 0]
        counts = self.results.shares(quantity)
        if not counts:
            return _not_run(quantity)
        (each,) = counts.values()
        share = float(np.mean([right / n for right, n in each]))
        return share, intervals.share_draws(each, random)

    def points(self, quantity: Quantity) -> int:
        """Returns the number of test points behind a quantity that was run."""
        return self.results.points(quantity)

    def test(
        self,
        label: str,
        first: Quantity,
        rivals: Sequence[Quantity] = (),
        low: float = 0.0,
        high: float = np.inf,
    ) -> Statement:
        """See :class:`medrobust.reporting.claim_tests.Evidence`; with rivals, no bound above."""
        if len(self.results.folds.get(first.dataset, ())) > 1:
            if not rivals:
                return self._over_folds(label, first, low, high)
            return self._each(self._pair_over_folds, label, first, rivals, low)
        if rivals and first.metric == DISTANCE:
            return self._each(self._pair_of_points, label, first, rivals, low)
        return super().test(label, first, rivals, low, high)

    def _each(
        self,
        pair: Callable[[str, Quantity, Quantity, float], Statement],
        label: str,
        first: Quantity,
        rivals: Sequence[Quantity],
        least: float,
    ) -> Statement:
        """Tests a model against each rival on its own; ``label`` stands where there is one."""
        if len(rivals) == 1:
            return pair(label, first, rivals[0], least)
        return all_of(pair(_label(first, [one], least), first, one, least) for one in rivals)

    def _over_folds(self, label: str, one: Quantity, low: float, high: float) -> Statement:
        values = self.results.values(one)
        if not values:
            return open_statement(label, _not_run(one))
        if not np.isfinite(list(values.values())).all():
            return open_statement(label, _CENSORED)
        return value_over_folds(label, list(values.values()), self._ratio(one), low, high)

    def _pair_over_folds(
        self, label: str, first: Quantity, rival: Quantity, least: float
    ) -> Statement:
        values = [self.results.values(one) for one in (first, rival)]
        for one, found in zip((first, rival), values, strict=True):
            if not found:
                return open_statement(label, _not_run(one))
        both = [fold for fold in values[0] if fold in values[1]]
        pairs = np.array([[each[fold] for each in values] for fold in both])
        if not both:
            return open_statement(label, "the two have no fold in common")
        if not np.isfinite(pairs).all():
            return open_statement(label, _CENSORED)
        ratio = max(self._ratio(one) for one in (first, rival))
        differences = (pairs[:, 0] - pairs[:, 1]).tolist()
        # Distances have no upper bound, nor have their differences.
        limits = (-np.inf, np.inf) if first.metric == DISTANCE else (-1.0, 1.0)
        return above_over_folds(label, differences, ratio, least=least, limits=limits)

    def _pair_of_points(
        self, label: str, first: Quantity, rival: Quantity, least: float
    ) -> Statement:
        found = [self._distances(one) for one in (first, rival)]
        why = next((one for one in found if isinstance(one, str)), "")
        if why:
            return open_statement(label, why)
        if not found[0].index.equals(found[1].index):
            return open_statement(label, "they were attacked on different points")
        differences = (found[0] - found[1]).to_numpy(float)
        random = self.results.random(*first.key, rival.method, "mean difference")
        return mean_above_zero(label, differences, random, decimals=DECIMALS, least=least)

    def _distances(self, quantity: Quantity) -> pd.Series | str:
        """Returns the distances at the points of the one fold, or why there are none to test."""
        found = self.results.distances(quantity)
        if not found:
            return _not_run(quantity)
        (distances,) = found.values()
        censored = int(np.isinf(distances).sum())
        return f"{censored} of {len(distances)} {_CENSORED}" if censored else distances

    def _ratio(self, quantity: Quantity) -> float:
        return test_per_train(self.results.of(quantity))


@dataclass(frozen=True)
class PrintEvidence(RoundedEvidence):
    """The published numbers."""

    printed: Printed

    def has(self, quantity: Quantity) -> bool:
        """Whether a number is printed."""
        return quantity.printed_key in self.printed

    def number(self, quantity: Quantity, level: float) -> float:
        """Returns a printed number; the quantity knows its level."""
        return self.printed[quantity.printed_key][1]

    def rounding(self, quantity: Quantity) -> float:
        """Returns half of the last printed digit, of this metric the coarsest in print."""
        digits = [found[2] for key, found in self.printed.items() if key[2] == quantity.metric]
        return 0.5 * 10.0 ** -min(digits)


def _not_run(quantity: Quantity) -> str:
    return f"{quantity.method} is not part of this run ({quantity.place})"


def _label(first: Quantity, rivals: Sequence[Quantity], least: float) -> str:
    """Returns in words that a number is above those of rivals, or by ``least`` above each."""
    named = [rival.method for rival in rivals]
    if least == 0:
        return f"{first.method} above {' and '.join(named)} ({first.place})"
    return f"{first.method} minus {' or '.join(named)} at least {least:g} ({first.place})"


# --- sentences --------------------------------------------------------------------------


@dataclass(frozen=True)
class Stated:
    """A sentence of a study's file, with names as in the results.

    Attributes:
        name: of its own.
        sentence: its words.
        where: where it stands.
        datasets: on which it is tested.
        test: "more", "at_least" or "at_most".
        model: whose number it is about.
        attack: name in the study, :data:`NO_ATTACK` for none.
        levels: of the attack, on each of which it must be true; none where it has no radius.
        than: of "more": the models that its number is above.
        value: the bound; of "more": by how much it is above them, at least.
        norm: of the attack, "" for none.
    """

    name: str
    sentence: str
    where: str
    datasets: Sequence[str]
    test: str
    model: str
    attack: str
    levels: Sequence[float]
    than: Sequence[str] = ()
    value: float = 0.0
    norm: str = field(default="", kw_only=True)

    def quantities(self, dataset: str, model: str = "") -> list[Quantity]:
        """Returns what it is about on a data set, one for each level; of a rival, if named."""
        metric = DISTANCE if self.attack != NO_ATTACK and not self.levels else METRIC
        return [
            Quantity(model or self.model, (level,), dataset, self.attack, metric, self.norm)
            for level in self.levels or (0.0,)
        ]

    def tested(self) -> str:
        """Returns what is tested, in words."""
        first = self.quantities("")[0]
        number = "mean distance" if first.metric == DISTANCE else "accuracy"
        subject = f"the {number} of {self.model} {self._under()}"
        if self.test != "more":
            return f"{subject} is {self.test.replace('_', ' ')} {self.value:g}."
        if self.value:
            return f"{subject} less that of {' or '.join(self.than)} is at least {self.value:g}."
        return f"{subject} is above that of {' and that of '.join(self.than)}."

    def _under(self) -> str:
        """Returns the attack and its levels, in words."""
        if self.attack == NO_ATTACK:
            return "without attack"
        levels = ", ".join(map(level_text, self.levels))
        each = "each of " if len(self.levels) > 1 else ""
        return f"under {self.attack} at {each}ε {levels}" if levels else f"under {self.attack}"


def _test(stated: Stated, evidence: Evidence, dataset: str) -> Statement:
    """Returns what a sentence says on a data set: at each level, as the evidence tells."""
    found = [_test_one(stated, evidence, one) for one in stated.quantities(dataset)]
    return found[0] if len(found) == 1 else all_of(found)


def _test_one(stated: Stated, evidence: Evidence, quantity: Quantity) -> Statement:
    if stated.test == "more":
        rivals = [replace(quantity, method=rival) for rival in stated.than]
        label = _label(quantity, rivals, stated.value)
        return evidence.test(label, quantity, rivals, stated.value)
    bound = {"at_least": at_least, "at_most": at_most}[stated.test]
    return bound(evidence, quantity, stated.value)


def _in_print(stated: Stated, evidence: PrintEvidence, dataset: str) -> Statement | None:
    """Returns what print says of a sentence, None if not all of its numbers are printed."""
    models = (stated.model, *stated.than)
    needed = [one for model in models for one in stated.quantities(dataset, model)]
    return _test(stated, evidence, dataset) if all(map(evidence.has, needed)) else None


def _judge(stated: Stated, results: ClaimResults, dataset: str) -> Finding:
    mine = [stated.quantities(dataset, model)[0] for model in (stated.model, *stated.than)]
    trainings = min(results.trainings(one) for one in mine)
    folds = len(results.folds.get(dataset, ()))
    # Draws of accuracies have the spread of so many trainings in them.
    told = intervals.MIN_REPLICATES if mine[0].metric == METRIC else np.inf
    untold = folds == 1 and 1 < trainings < told
    notes = ("what another training would change is not in the test",) if untold else ()
    statement = _test(stated, RunEvidence(results), dataset)
    points = results.points(mine[0])
    return Finding(statement, points or None, trainings or None, notes, folds=folds)


def stated_claims(request: Request, printed: Printed) -> list[Claim]:
    """Returns the sentences of a study's file as claims.

    Args:
        request: with them.
        printed: the published numbers, none of a study that re-runs no paper.
    """
    evidence = PrintEvidence(printed)
    return [
        Claim(
            name=stated.name,
            quote=stated.sentence,
            where=stated.where,
            tested=stated.tested(),
            judge=partial(_judge, stated),
            datasets=tuple(stated.datasets),
            printed=partial(_in_print, stated, evidence),
            of_paper=bool(request.published),
        )
        for stated in _stated(request)
    ]


def _stated(request: Request) -> list[Stated]:
    found = []
    for name, facts in request.claims.items():
        attack, default = facts["attack"], "Linf" if facts["levels"] else "L2"
        norm = norm_of(request.attacks.get(attack, {}), default) if attack else ""
        found.append(Stated(name, **{**facts, "attack": attack or NO_ATTACK}, norm=norm))
    return found


# --- what the workflow calls --------------------------------------------------------------

_METHOD = (
    "Accuracies of one fold are compared by draws of each share, as if the models had been tested "
    "on different points, which makes verdicts cautious; distances point by point, by the "
    "signed-rank test and the interval of the mean difference; several folds by the corrected "
    "resampled t over their values or, of two models, differences (Nadeau and Bengio 2003)."
)


def draw_claims(request: Request) -> list[Path]:
    """Writes the sentences of a study's file with their verdicts.

    Args:
        request: with ``claims``, and the results that they are about.

    Returns:
        The files written (:func:`medrobust.reporting.claims.build_claims`).

    Raises:
        InputError: a file is missing or wrong.
    """
    results, printed = read_claim_results(request), read_printed(request)
    attacks = [facts["attack"] for facts in request.claims.values() if facts["attack"]]
    budget = attacks_in_words(request, attacks) if attacks else "none (clean test points)"
    of_cohort = any(attack in one.attack_records for attack in attacks for one in request.entries)
    return build_claims(
        stated_claims(request, printed),
        results,
        request.out_stem,
        request.context,
        dataset_sources(request.entries, ()),
        budget=with_rule(request, budget) if of_cohort else budget,
        inputs=[
            *([request.published] if request.published else []),
            *results.robust.files,
            *(entry.summary for entry in request.entries),
            *(path for entry in request.entries for path in entry.attack_records.values()),
        ],
        method=_METHOD,
    )
