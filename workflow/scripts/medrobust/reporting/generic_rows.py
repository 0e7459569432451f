"""Rows of the generic tables: a number each, with its interval and the published one.

They have the columns :data:`medrobust.reporting.rows.ROW_COLUMNS` that the comparison reads. Where
a study has published numbers, a number is held against the one of the same data set, model, metric,
attack, norm and epsilon: ``metric`` is ``accuracy``, ``median_distance`` or ``mean_distance``,
``attack`` its name in the study (``none`` for accuracy without attack), ``norm`` is ``Linf``,
``L2`` or ``L1``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import seeds
from medrobust.evaluation import statistics
from medrobust.evaluation.statistics import Estimate
from medrobust.evaluation.tally import WORST_CASE
from medrobust.reporting.comparison import read_published
from medrobust.reporting.generic_results import (
    DISTANCE_COLUMNS,
    ByFold,
    RobustResults,
    by_fold,
    distance_estimate,
    norm_of,
    share_estimate,
    share_range,
)
from medrobust.reporting.levels import (
    NO_LEVEL,
    spent,
)
from medrobust.reporting.request import Request
from medrobust.reporting.rows import (
    ROW_COLUMNS,
    check_one_cohort,
    estimate_columns,
    level_text,
    number_row,
    read_clean_summary,
    typed,
)

if TYPE_CHECKING:
    import pandas as pd

METRIC = "accuracy"
DECIMALS = 3
_COMMON = ("interval", "folds")
_ACCURACY_COLUMNS = (*_COMMON, "lowest", "highest", "members", "vote")
_ROBUST_COLUMNS = (
    *_COMMON,
    "lowest",
    "highest",
    "selection",
    "worst_case",
    "non_monotone",
    "attacked",
    "queries_per_point",
    "gradients_per_point",
)
_DISTANCE_COLUMNS = (
    *_COMMON,
    "restarts",
    "censored",
    "lower_bound",
    "misclassified",
    "queries_per_point",
)
_TEXT = frozenset({"interval", "vote", "selection"})
_WHOLE = frozenset(
    {"folds", "members", "non_monotone", "attacked", "restarts", "censored", "misclassified"}
)

Printed = Mapping[tuple[str, ...], tuple[str, float, int]]
"""(data set, model, metric, attack, norm, epsilon) -> table, number and its decimals."""


def read_printed(request: Request) -> Printed:
    """Returns the published numbers of a study by what they are of; none where it has none.

    Raises:
        InputError: the file is wrong.
    """
    if not request.published:
        return {}
    frame = read_published(request.published, request.context.study)
    key = ("dataset", "method", "metric", "attack", "norm", "epsilon")
    return {
        tuple(row[name] for name in key): (row["table"], row["value"], row["decimals"])
        for row in frame.to_dict("records")
    }


def _row(
    columns: Sequence[str],
    request: Request,
    printed: Printed,
    estimate: Estimate | None,
    source: str,
    **named: str,
) -> dict[str, Any]:
    """Returns the row of a number; ``named`` has all that tells it from others."""
    key = ("dataset", "method", "metric", "attack", "norm", "epsilon")
    table, value, _ = printed.get(tuple(named[name] for name in key), ("", None, 0))
    row = number_row((*ROW_COLUMNS, *columns), value, request.context, table=table, **named)
    if estimate is None:
        return row | {"status": NO_LEVEL}
    return row | estimate_columns(estimate, value, source) | {"folds": estimate.folds}


def _frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(rows, columns=[*ROW_COLUMNS, *columns])
    return typed(frame, _TEXT, _WHOLE)


def accuracy_rows(request: Request, printed: Printed) -> pd.DataFrame:
    """Returns one row per data set and model: accuracy on the test points without attack.

    Args:
        request: with the summaries of clean results.
        printed: the published numbers.

    Returns:
        The columns :data:`medrobust.reporting.rows.ROW_COLUMNS`, then ``interval`` (what it
        covers), ``folds``, ``lowest`` and ``highest`` of all trainings (missing for one),
        ``members`` and ``vote``. ``n`` counts the test points of all folds, ``replicates`` the
        trainings of each.

    Raises:
        InputError: a summary is missing or wrong, or trainings were tested on different points.
    """
    rows = []
    for (dataset, model), folds in by_fold(request.entries).items():
        read = {
            fold: [read_clean_summary(entry.summary) for entry in entries]
            for fold, entries in folds.items()
        }
        counts = {
            fold: [(one["right"], one["n_test"]) for one in each] for fold, each in read.items()
        }
        estimate = share_estimate(counts, f"{model} on {dataset}")
        first_fold, first = next(iter(folds.values())), next(iter(read.values()))[0]
        row = _row(
            _ACCURACY_COLUMNS,
            request,
            printed,
            estimate,
            first_fold[0].source,
            dataset=dataset,
            method=model,
            metric=METRIC,
            attack="none",
            norm="",
            epsilon="",
        )
        more = {"members": first.get("members"), "vote": first.get("vote")}
        rows.append(row | share_range(counts) | more)
    return _frame(rows, _ACCURACY_COLUMNS)


def robust_rows(request: Request, results: RobustResults, printed: Printed) -> pd.DataFrame:
    """Returns one row per data set, attack, model and noise level.

    Args:
        request: with the attacks of the study.
        results: the run's.
        printed: the published numbers.

    Returns:
        The columns of :func:`accuracy_rows` up to ``highest``, then ``selection`` (which points),
        ``worst_case`` (the accuracy if every level up to this one counts), ``non_monotone`` (points
        fooled at a smaller level but not at this one) and ``attacked`` (points that are correct
        without attack), both summed over folds and trainings, and the queries and gradient
        evaluations per point.
    """
    rows = []
    for dataset, attack in results.attacks():
        for model in results.models(dataset, attack):
            for level in results.levels(dataset, attack):
                key = (dataset, model, attack)
                estimate = results.estimate(key, level)
                row = _row(
                    _ROBUST_COLUMNS,
                    request,
                    printed,
                    estimate,
                    results.sources[dataset],
                    dataset=dataset,
                    method=model,
                    metric=METRIC,
                    attack=attack,
                    norm=norm_of(request.attacks.get(attack, {}), "Linf"),
                    epsilon=level_text(level),
                )
                if estimate is not None:
                    tallies = [one for each in results.tallies[key].values() for one in each]
                    worst = results.estimate(key, level, WORST_CASE)
                    row |= share_range(results.counts(key, level)) | spent(tallies, level)
                    row["worst_case"] = None if worst is None else worst.value
                rows.append(row)
    return _frame(rows, _ROBUST_COLUMNS)


def distance_rows(request: Request, printed: Printed) -> pd.DataFrame:
    """Returns two rows per data set, attack and model: median and mean distance.

    Args:
        request: with the records of attacks without a radius.
        printed: the published numbers.

    Returns:
        The columns :data:`medrobust.reporting.rows.ROW_COLUMNS`, then ``interval``, ``folds``,
        ``restarts`` (the fewest of a point), ``censored`` (points at which the attack failed),
        ``lower_bound`` (the least that a number can be which is not defined for them),
        ``misclassified`` (points at distance 0) and the queries per point; counts
        are summed over folds and trainings. Distances are in the attack's norm and the units of the
        data.

    Raises:
        InputError: records are missing or wrong, or few trainings attacked different points.
    """
    rows = []
    groups = by_fold(request.entries)
    attacks = dict.fromkeys(attack for entry in request.entries for attack in entry.attack_records)
    for attack in attacks:
        norm = norm_of(request.attacks.get(attack, {}), "L2")
        for (dataset, model), folds in groups.items():
            if not all(attack in entry.attack_records for each in folds.values() for entry in each):
                continue
            points = {
                fold: [
                    statistics.point_distances(
                        [entry.attack_records[attack]], [DISTANCE_COLUMNS[norm]]
                    )
                    for entry in entries
                ]
                for fold, entries in folds.items()
            }
            source = next(iter(folds.values()))[0].source
            named = {"dataset": dataset, "method": model, "attack": attack, "norm": norm}
            rows += _distance_rows(request, printed, points, source, named)
    return _frame(rows, _DISTANCE_COLUMNS)


def _distance_rows(
    request: Request, printed: Printed, points: ByFold, source: str, named: Mapping[str, str]
) -> list[dict[str, Any]]:
    where = f"{named['method']} on {named['dataset']}"
    for replicates in points.values():
        check_one_cohort(replicates, where)
    frames = [frame for replicates in points.values() for frame in replicates]
    column = DISTANCE_COLUMNS[named["norm"]]
    distances = {
        fold: [frame[column].to_numpy(float) for frame in replicates]
        for fold, replicates in points.items()
    }
    queries = np.concatenate([frame["queries"].to_numpy(float) for frame in frames])
    wrong = sum(int((frame["clean_prediction"] != frame["label"]).sum()) for frame in frames)
    rows = []
    for statistic in ("median", "mean"):
        names = ("distances", named["dataset"], named["method"], named["attack"], statistic)
        random = seeds.generator(request.context.seed, request.context.study, *names)
        estimate = distance_estimate(distances, statistic, random)
        row = _row(
            _DISTANCE_COLUMNS,
            request,
            printed,
            estimate,
            source,
            metric=f"{statistic}_distance",
            epsilon="",
            **named,
        )
        if estimate.value is None:
            of = sum(len(frame) for frame in frames)
            row["status"] = (
                f"censored: {estimate.censored} of {of} points have no adversarial example"
            )
        rows.append(
            row
            | {
                "restarts": min(int(frame["restarts"].min()) for frame in frames),
                "censored": estimate.censored,
                "lower_bound": estimate.lower_bound,
                "misclassified": wrong,
                "queries_per_point": float(queries.mean()),
            }
        )
    return rows
