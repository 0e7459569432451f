"""What :func:`medrobust.evaluate` returns: records, estimates with intervals, a table of them.

Estimates are those of the workflow's tables. Accuracies: share of the points given, Agresti and
Coull's interval; an attacked point counts as broken if any of its runs (losses, restarts) succeeded
(:mod:`medrobust.evaluation.tally`). Distances: the smallest over the restarts of each point,
mean and median with intervals over points (:mod:`medrobust.evaluation.intervals`).

Intervals are over the points given. How another training of the model would do is not in them.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medrobust.core import seeds
from medrobust.core.schema import Settings
from medrobust.evaluation.attacked import Attacked
from medrobust.evaluation.statistics import (
    Estimate,
    accuracy_estimate,
    distances_of_points,
    mean_estimate,
    median_estimate,
    upper_bound_text,
)
from medrobust.evaluation.tally import ATTACK, WORST_CASE, make_tally

_WIDTH = 92
#: Settings that the text says elsewhere.
_SAID = frozenset({"epsilon", "clip_min", "clip_max", "restarts"})
#: Of accuracies, of distances.
_FORMATS = (".3f", "#.4g")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How a model did under an attack, at the points given.

    Attributes:
        attack: its registered name.
        settings: all its settings; ``epsilon`` and ``loss``, where it has them, are lists.
        shape: of one point.
        classes: what label k is called; None: k itself.
        clip: smallest and largest value that a perturbed point could have.
        clip_given: False where this is the range of the points.
        seed: root seed.
        confidence: level of the intervals.
        records: one row per (point, epsilon, loss, restart), the columns of
            :data:`medrobust.evaluation.records.SCHEMA`.
        x_adv: float32 ``[n, *shape]`` in the order of x, the nearest adversarial example of each
            point that any run found, in the attack's norm; the point itself where the model
            misclassifies it, NaN where no run succeeded.
        clean_accuracy: share of points classified correctly without attack.
        robust_accuracy: by epsilon, share of points classified correctly that the attack did not
            break; empty for attacks without a ball.
        worst_case_accuracy: the same, a point counting as broken at an epsilon if it was broken at
            any up to it.
        norm: "l2" or "linf", in which the distances are; empty for attacks within a ball.
        median_distance, mean_distance: of boundary attacks, over all points: 0 where the model is
            wrong without attack, beyond all others where no run succeeded; else None.
        notes: what a reader of the numbers must know of the model, in sentences.
    """

    attack: str
    settings: Mapping[str, Any]
    shape: tuple[int, ...]
    classes: tuple[Any, ...] | None
    clip: tuple[float, float]
    clip_given: bool
    seed: int
    confidence: float
    records: pd.DataFrame
    x_adv: np.ndarray
    clean_accuracy: Estimate
    robust_accuracy: Mapping[float, Estimate]
    worst_case_accuracy: Mapping[float, Estimate]
    norm: str
    median_distance: Estimate | None
    mean_distance: Estimate | None
    notes: tuple[str, ...]

    @property
    def n(self) -> int:
        """Number of points."""
        return self.clean_accuracy.n

    @property
    def misclassified(self) -> int:
        """Number of points that the model misclassifies without attack."""
        points = self.records.drop_duplicates("point_id")
        return int((points["clean_prediction"] != points["label"]).sum())

    @property
    def failed_points(self) -> int:
        """Number of points at which no run at all succeeded."""
        return int((~self.records.groupby("point_id")["success"].any()).sum())

    @property
    def failed_runs(self) -> int:
        """Number of runs that did not succeed, one per (point, epsilon, loss, restart)."""
        return int((~self.records["success"]).sum())

    @property
    def queries(self) -> int:
        """Rows that the attack asked the model about, for labels, scores or gradients."""
        return int(self.records["queries"].sum())

    @property
    def gradient_evaluations(self) -> int:
        """Gradients of rows that the attack went along."""
        return int(self.records["gradient_evaluations"].sum())

    def table(self) -> pd.DataFrame:
        """Returns the estimates, one row each.

        Returns:
            Columns ``measure``, ``epsilon`` (NaN where there is none), ``value``, ``ci_low``,
            ``ci_high`` (NaN where undefined, infinite where unbounded; accuracies are fractions,
            distances in the units of x), ``n`` (points) and ``censored`` (points without an
            adversarial example, of distances).
        """
        return pd.DataFrame([_row(name, level, one) for name, level, one in self._estimates()])

    def __str__(self) -> str:
        """Returns the table and what it rests on as text."""
        table = self._text().to_string(index=False, justify="right")
        lines = [textwrap.fill(line, _WIDTH, subsequent_indent="  ") for line in self._lines()]
        return "\n".join([self._title(), "", table, "", *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Returns the same for a notebook."""
        lines = "".join(f"<li>{html.escape(line)}</li>" for line in self._lines())
        table = self._text().to_html(index=False, escape=True, border=0)
        return f"<p><b>{html.escape(self._title())}</b></p>\n{table}\n<ul>{lines}</ul>"

    def _estimates(self) -> list[tuple[str, float, Estimate]]:
        rows = [("clean accuracy", np.nan, self.clean_accuracy)]
        rows += [("robust accuracy", e, one) for e, one in self.robust_accuracy.items()]
        if self._falls_back():
            worst = self.worst_case_accuracy.items()
            rows += [("worst case up to epsilon", e, one) for e, one in worst]
        if self.median_distance is not None and self.mean_distance is not None:
            name = {"l2": "L2", "linf": "Linf"}[self.norm]
            rows.append((f"median distance, {name}", np.nan, self.median_distance))
            rows.append((f"mean distance, {name}", np.nan, self.mean_distance))
        return rows

    def _falls_back(self) -> bool:
        """Tells whether a point was broken at an epsilon and not at a larger one."""
        return any(
            one.value != self.worst_case_accuracy[epsilon].value
            for epsilon, one in self.robust_accuracy.items()
        )

    def _text(self) -> pd.DataFrame:
        interval = f"{100 * self.confidence:g} % interval"
        rows = [
            {
                "": name,
                "epsilon": "" if np.isnan(level) else f"{level:g}",
                "value": _value(one, _FORMATS["distance" in name]),
                interval: _interval(one, _FORMATS["distance" in name]),
            }
            for name, level, one in self._estimates()
        ]
        columns = [c for c in rows[0] if c != "epsilon" or self.robust_accuracy]
        text = pd.DataFrame(rows)[columns]
        width = text[""].str.len().max()
        return text.assign(**{"": text[""].str.ljust(width)})

    def _title(self) -> str:
        restarts = self.settings.get("restarts", 1)
        runs = f"{restarts} restart{'s' * (restarts != 1)}"
        size = " x ".join(map(str, self.shape))
        return f"{self.attack}, {runs}: {_count(self.n, 'point')} of {size} values"

    def _lines(self) -> list[str]:
        lines = [self._said_of_misclassified()]
        if not self.robust_accuracy:
            lines.append(
                f"No adversarial example found: {_count(self.failed_points, 'point')} "
                f"({self.failed_runs:,} of {len(self.records):,} runs failed)"
                + ("; they count as farther than all others." if self.failed_points else ".")
            )
        gradients = f" and {self.gradient_evaluations:,} gradients"
        lines += [
            f"Spent: {self.queries:,} queries{gradients * bool(self.gradient_evaluations)}, "
            f"{self.queries / self.n:,.0f} queries per point.",
            f"Values kept within [{self.clip[0]:.4g}, {self.clip[1]:.4g}]"
            + ("." if self.clip_given else ", the range of the points (`clip` was not given)."),
            f"Intervals: over the {_count(self.n, 'point')} given; one model, not trained again.",
            "Robust accuracies are upper bounds: a stronger attack may break more points."
            if self.robust_accuracy
            else upper_bound_text(self.records.groupby("point_id")["restart"].nunique()),
            f"Settings: {', '.join([*_settings(self.settings), f'seed {self.seed}'])}.",
        ]
        if self.classes is not None:
            named = ", ".join(f"{k} is {name}" for k, name in enumerate(self.classes))
            lines.append(f"Labels in the records: {named}.")
        return [*lines, *(f"Note: {note}" for note in self.notes)]

    def _said_of_misclassified(self) -> str:
        counted = "broken at every epsilon" if self.robust_accuracy else "distance 0"
        share = f"{self.misclassified} of {_count(self.n, 'point')}"
        return f"Misclassified without attack: {share}, counted as {counted}."


class NearestExamples:
    """Keeps the nearest adversarial example of each point, over restarts, losses and epsilons.

    Args:
        x: float32 ``[n, *shape]``.
        point_ids: int64 ``[n]``.

    Attributes:
        x_adv: as in :class:`Evaluation`.
    """

    def __init__(self, x: np.ndarray, point_ids: np.ndarray) -> None:
        self.x_adv = np.full_like(x, np.nan)
        self._ids, self._distance = point_ids, np.full(len(x), np.inf)

    def take(self, attacked: Attacked, norm: str) -> None:
        """Takes the examples that are nearer than those so far, by ``norm``."""
        records = attacked.records.fillna({norm: np.inf})
        distances = records.pivot(index="point_id", columns="restart", values=norm)
        distances = distances.loc[self._ids].to_numpy()
        best = distances.argmin(axis=1)
        found = distances[np.arange(len(best)), best]
        nearer = np.flatnonzero(found < self._distance)
        self.x_adv[nearer] = attacked.result.x_adv[nearer, best[nearer]]
        self._distance[nearer] = found[nearer]


def summarise(
    records: pd.DataFrame,
    x_adv: np.ndarray,
    *,
    attack: str,
    specs: Sequence[Settings],
    shape: tuple[int, ...],
    classes: tuple[Any, ...] | None,
    clip: tuple[float, float],
    clip_given: bool,
    seed: int,
    confidence: float,
    notes: Sequence[str],
) -> Evaluation:
    """Returns the estimates of an attack's records.

    Args:
        records: as :func:`medrobust.evaluation.records.records_from_result` makes them, of all
            epsilons and losses.
        x_adv: see :class:`Evaluation`.
        specs: the settings of each epsilon and loss.
        shape, classes, clip, clip_given, seed, confidence, notes: see :class:`Evaluation`; the
            bootstrap's randomness follows from the seed.
    """
    points = records.drop_duplicates("point_id").sort_values("point_id")
    right = int((points["clean_prediction"] == points["label"]).sum())
    within_ball = bool(records["epsilon"].notna().any())
    norm = "" if within_ball else norm_of(specs[0])
    median, mean = (None, None) if within_ball else _distances(records, norm, seed, confidence)
    accuracies = [
        _accuracies(records, points, reading, confidence) if within_ball else {}
        for reading in (ATTACK, WORST_CASE)
    ]
    return Evaluation(
        attack=attack,
        settings=_joined(specs),
        shape=tuple(shape),
        classes=classes,
        clip=clip,
        clip_given=clip_given,
        seed=seed,
        confidence=confidence,
        records=records,
        x_adv=x_adv,
        clean_accuracy=accuracy_estimate([right], len(points), level=confidence),
        robust_accuracy=accuracies[0],
        worst_case_accuracy=accuracies[1],
        norm=norm,
        median_distance=median,
        mean_distance=mean,
        notes=tuple(notes),
    )


def norm_of(spec: Settings) -> str:
    """Returns the column of distances, "l2" or "linf", that an attack makes small or bounds."""
    # Attacks within a ball are of the maximum norm unless they say otherwise.
    norm = getattr(spec, "norm", "linf" if hasattr(spec, "epsilon") else "l2")
    return {2: "l2", "inf": "linf"}.get(norm, norm)


def _accuracies(
    records: pd.DataFrame, points: pd.DataFrame, reading: str, confidence: float
) -> dict[float, Estimate]:
    """Returns the robust accuracy by epsilon, ascending."""
    clean = points[["point_id", "label"]].assign(prediction=points["clean_prediction"])
    tally = make_tally(clean, records)
    rows = tally[(tally["reading"] == reading) & (tally["label"] == tally["prediction"])]
    right = rows.groupby("epsilon")["points"].sum()
    return {
        float(e): accuracy_estimate([int(right.get(e, 0))], len(points), level=confidence)
        for e in np.sort(records["epsilon"].unique())
    }


def _distances(
    records: pd.DataFrame, norm: str, seed: int, confidence: float
) -> tuple[Estimate, Estimate]:
    """Returns median and mean of the points' distances."""
    distances = [distances_of_points(records, [norm])[norm].to_numpy(np.float64)]
    median, mean = (
        estimate(distances, generator=seeds.generator(seed, "bootstrap", name), level=confidence)
        for name, estimate in (("median", median_estimate), ("mean", mean_estimate))
    )
    return median, mean


def _joined(specs: Sequence[Settings]) -> dict[str, Any]:
    """Returns settings of which some hold several values."""
    dumped = [spec.model_dump() for spec in specs]
    lists = {
        name: list(dict.fromkeys(one[name] for one in dumped))
        for name in ("epsilon", "loss")
        if name in dumped[0]
    }
    return dumped[0] | lists


def _row(name: str, level: float, one: Estimate) -> dict[str, Any]:
    numbers = {"value": one.value, "ci_low": one.ci_low, "ci_high": one.ci_high}
    numbers = {key: np.nan if number is None else number for key, number in numbers.items()}
    return {"measure": name, "epsilon": level, **numbers, "n": one.n, "censored": one.censored}


def _value(one: Estimate, form: str) -> str:
    if one.value is not None:
        return format(one.value, form)
    return f"above {format(one.lower_bound or 0.0, form)}"


def _interval(one: Estimate, form: str) -> str:
    if one.ci_low is None or one.ci_high is None:
        return "undefined" if one.censored else "one point"
    ends = (one.ci_low, one.ci_high)
    low, high = (format(end, form) if np.isfinite(end) else "unbounded" for end in ends)
    return f"{low} to {high}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _settings(settings: Mapping[str, Any]) -> list[str]:
    """Returns settings in words; those that are empty or off are not told."""
    told = []
    for name, value in settings.items():
        if name == "loss":
            told.append("loss " + " and ".join(map(str, value)))
        elif name not in _SAID and value is not None and value is not False:
            words = name.replace("_", " ")
            told.append(words if value is True else f"{words} {value}")
    return told
