"""Tests of claims on accuracies by noise level: what the claims of several studies share.

A study has a quantity of its own (a number that its tables print, or a mean over levels) and says
how its values and draws come from a run, and from print. Each test is then written once, over an
:class:`Evidence`: the run's draws, or the printed numbers with the range that rounding leaves them.

Draws of two methods are independent, although both were tested on the same points: what is hard for
one tends to be hard for the other, so intervals of differences come out too wide and verdicts are
cautious. Where a number is a mean over levels, the levels are taken to move together, the widest
that any dependence allows (:func:`medrobust.evaluation.balanced.merged_mean`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from medrobust.evaluation import balanced, folds
from medrobust.reporting.artefacts import with_interval
from medrobust.reporting.claims import (
    Claim,
    Finding,
    Statement,
    against_rivals,
    exact,
    open_statement,
    p_text,
    printed_against_rivals,
)
from medrobust.reporting.levels import LevelResults
from medrobust.reporting.rows import signed

Draws = tuple[float, np.ndarray]
"""An estimate, and its draws, float64 ``[resamples]``."""


@dataclass(frozen=True)
class LevelQuantity(ABC):
    """A number of a method; studies add what else it depends on.

    Attributes:
        method: as printed.
        levels: noise levels that it is the mean over; 0 is clean.
    """

    method: str
    levels: tuple[float, ...]

    @property
    @abstractmethod
    def place(self) -> str:
        """Everything but the method, in words."""


class Evidence(ABC):
    """Where a test gets its answers from."""

    @abstractmethod
    def test(
        self,
        label: str,
        first: Any,
        rivals: Sequence[Any] = (),
        low: float = 0.0,
        high: float = np.inf,
    ) -> Statement:
        """Tests whether ``first`` minus the largest of ``rivals`` lies in [low, high].

        Without rivals, ``first`` itself. With low 0 and no bound above, 0 is not above 0.

        Args:
            label: the statement in words.
            first, rivals: quantities of the study.
            low, high: the bounds; an infinite one is no bound.
        """


class DrawnEvidence(Evidence):
    """The results of a run."""

    @abstractmethod
    def values(self, quantity: Any) -> Draws | str:
        """Returns estimate and draws of a quantity, or why there are none."""

    @abstractmethod
    def points(self, quantity: Any) -> int:
        """Returns the number of test points behind a quantity that was run."""

    def test(
        self,
        label: str,
        first: Any,
        rivals: Sequence[Any] = (),
        low: float = 0.0,
        high: float = np.inf,
    ) -> Statement:
        """See :class:`Evidence`."""
        values = [self.values(one) for one in (first, *rivals)]
        missing = [one for one in values if isinstance(one, str)]
        if missing:
            return open_statement(label, missing[0])
        n = self.points(first)
        return against_rivals(label, values[0], values[1:], low, high, n=n, decimals=3)


class RoundedEvidence(Evidence):
    """The printed numbers of a paper."""

    @abstractmethod
    def number(self, quantity: Any, level: float) -> float:
        """Returns a printed number."""

    @abstractmethod
    def rounding(self, quantity: Any) -> float:
        """Returns half of the last printed digit."""

    def _mean(self, quantity: Any) -> float:
        return float(np.mean([self.number(quantity, level) for level in quantity.levels]))

    def test(
        self,
        label: str,
        first: Any,
        rivals: Sequence[Any] = (),
        low: float = 0.0,
        high: float = np.inf,
    ) -> Statement:
        """See :class:`Evidence`."""
        others = [self._mean(one) for one in rivals]
        rounding = self.rounding(first)
        return printed_against_rivals(label, self._mean(first), others, rounding, low, high)


def mean_over_levels(numbers: Sequence[Draws], random: np.random.Generator) -> Draws:
    """Returns estimate and draws of a mean over levels that move together.

    Args:
        numbers: of each level.
        random: generator of :func:`medrobust.evaluation.balanced.merged_mean`.
    """
    draws = balanced.merged_mean([one for _, one in numbers], random)
    return float(np.mean([value for value, _ in numbers])), draws


# --- single tests -----------------------------------------------------------------------


def above(
    evidence: Evidence, place: LevelQuantity, first: str, *rivals: str, named: str = ""
) -> Statement:
    """Tests whether a method's number is above those of all rivals.

    Args:
        evidence: of the run or of print.
        place: the quantity, of any method.
        first, rivals: methods.
        named: the rivals in words; by default each.
    """
    label = f"{first} above {named or ' and '.join(rivals)} ({place.place})"
    others = [replace(place, method=rival) for rival in rivals]
    return evidence.test(label, replace(place, method=first), others)


def at_least(evidence: Evidence, quantity: LevelQuantity, least: float) -> Statement:
    """Tests whether a number is at least ``least``."""
    label = f"{quantity.method} at least {least:g} ({quantity.place})"
    return evidence.test(label, quantity, (), least)


def at_most(evidence: Evidence, quantity: LevelQuantity, most: float) -> Statement:
    """Tests whether a number is at most ``most``."""
    label = f"{quantity.method} at most {most:g} ({quantity.place})"
    return evidence.test(label, quantity, (), -np.inf, most)


# --- over folds -------------------------------------------------------------------------


def above_over_folds(
    label: str,
    differences: Sequence[float],
    test_per_train: float,
    *,
    least: float = 0.0,
    limits: tuple[float, float] = (-1.0, 1.0),
    decimals: int = 3,
) -> Statement:
    """Tests whether one model is above another, by their differences fold by fold.

    The test is the corrected resampled t (:func:`medrobust.evaluation.folds.resampled_t_p`).

    Args:
        label: the statement in words.
        differences: one per fold.
        test_per_train: test points per training point.
        least: by how much it is to be above.
        limits: the smallest and the largest difference that there can be.
        decimals: to print the mean difference with.
    """
    found = folds.resampled_estimate(differences, test_per_train=test_per_train, n=0, limits=limits)
    interval = with_interval(0.0, found.ci_low, found.ci_high, decimals).partition(" ")[2]
    shown = f"difference {signed(float(np.mean(differences)), decimals)} {interval}".strip()
    p = folds.resampled_t_p(np.subtract(differences, least).tolist(), test_per_train)
    return _by_t(label, shown, p, len(differences), "difference")


def value_over_folds(
    label: str,
    values: Sequence[float],
    test_per_train: float,
    low: float = -np.inf,
    high: float = np.inf,
    *,
    decimals: int = 3,
) -> Statement:
    """Tests whether a number, by its values fold by fold, is at least ``low`` or at most ``high``.

    Args:
        label, test_per_train, decimals: as for :func:`above_over_folds`.
        values: one per fold, at least 0.
        low, high: the bounds, one of them infinite.
    """
    limits = (0.0, np.inf)
    found = folds.resampled_estimate(values, test_per_train=test_per_train, n=0, limits=limits)
    shown = with_interval(found.value, found.ci_low, found.ci_high, decimals)
    apart = np.subtract(values, low) if np.isfinite(low) else np.subtract(high, values)
    p = folds.resampled_t_p(apart.tolist(), test_per_train)
    return _by_t(label, shown, p, len(values), "number")


def _by_t(
    label: str, shown: str, p: tuple[float, float] | None, count: int, what: str
) -> Statement:
    figures = f"{label}: {shown}"
    if p is None:
        why = "one fold" if count == 1 else f"the same {what} in every fold"
        return Statement(label, figures=f"{figures}, {why}", undecided=f"{why} is no test")
    return Statement(label, *p, figures=f"{figures}, {p_text(min(p))}")


# --- tests of other kinds ---------------------------------------------------------------


def judge_nothing(why: str, results: Any, dataset: str) -> Finding:
    """Finds that no number here can settle a sentence, because of ``why``."""
    return Finding(open_statement("the sentence", why))


def judge_sizes(
    label: str, expected: tuple[int, int], found: tuple[int, int] | None, source: str
) -> Finding:
    """Tests whether a data set has the numbers of points that a paper states.

    Args:
        label: the statement in words.
        expected: numbers of training and test points in print.
        found: those of the data set that was run, None if they are not known.
        source: of the data.
    """
    if found is None:
        return Finding(open_statement(label, "no sizes were handed over"))
    if source == "subset":
        return Finding(open_statement(label, "a subset was run"))
    figures = f"found: {found[0]:,} in training and {found[1]:,} in the test set"
    return Finding(exact(label, found == expected, figures), sum(found))


# --- claims -----------------------------------------------------------------------------


def points_of(results: LevelResults, attack: str, dataset: str) -> int:
    """Returns the number of test points that an attack was run on, 0 if it was not."""
    tallies = results.attacked(attack, dataset)
    return int(tallies[0].rows(0.0)["points"].sum()) if tallies else 0


LevelTest = Callable[[Evidence, str], Statement]
"""(evidence, data set) -> what is tested."""


@dataclass(frozen=True)
class LevelClaims:
    """Makes claims that are tested alike on the results of a run and on print.

    Attributes:
        of_run: results of the study to what is known of its run.
        of_print: what is known from print.
    """

    of_run: Callable[[Any], Evidence]
    of_print: Evidence

    def claim(
        self,
        name: str,
        quote: str,
        where: str,
        tested: str,
        test: LevelTest,
        datasets: Iterable[str],
        points: Callable[[Any, str], int],
    ) -> Claim:
        """Returns a claim.

        Args:
            name, quote, where, tested: as of :class:`medrobust.reporting.claims.Claim`.
            test: the test.
            datasets: those that the sentence speaks of.
            points: (results, data set) to the points behind it, 0 if nothing was run.
        """
        return Claim(
            name=name,
            quote=quote,
            where=where,
            tested=tested,
            judge=partial(self._judge, test, points),
            datasets=tuple(datasets),
            printed=partial(test, self.of_print),
        )

    def _judge(
        self,
        test: LevelTest,
        points: Callable[[Any, str], int],
        results: LevelResults,
        dataset: str,
    ) -> Finding:
        statement = test(self.of_run(results), dataset)
        n = points(results, dataset) or None
        return Finding(statement, n, results.trainings(dataset))
