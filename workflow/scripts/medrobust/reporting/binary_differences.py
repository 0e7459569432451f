"""Tables of differences between models of two classes, fold by fold: what a change of one does.

Two models that were trained and tested on the same folds are compared on each of them, so that what
makes a fold hard for both is in no difference. An interval is the corrected resampled t
(:mod:`medrobust.evaluation.folds`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrobust.evaluation.folds import resampled_t_p
from medrobust.reporting.artefacts import NOT_RUN, Panel, in_place_of, with_interval
from medrobust.reporting.binary_results import (
    NO_ATTACK,
    BinaryResults,
    read_binary_results,
)
from medrobust.reporting.binary_tables import OVER_FOLDS, write_binary_table
from medrobust.reporting.generic_results import norm_of
from medrobust.reporting.request import Request
from medrobust.reporting.rows import (
    interval_notes,
    level_text,
    plain,
    signed,
    with_synthetic_mark,
)

if TYPE_CHECKING:
    import pandas as pd

DECIMALS = 3
#: ``first_value`` and ``second_value`` are the means over the folds that both have, ``difference``
#: first less second; ``p`` is of a mean difference so far from 0 on its side.
COLUMNS = (
    *("dataset", "metric", "attack", "norm", "epsilon", "first", "second", "status"),
    *("first_value", "second_value", "difference", "ci_low", "ci_high", "p", "n", "folds"),
    *("replicates", "interval", "scale", "protocol", "source"),
)
Pair = tuple[str, str]
"""Two models by their names in the run; the difference is the first less the second."""


def draw_binary_differences(
    request: Request,
    *,
    title: str,
    caption: str,
    pairs: Sequence[Pair],
    metrics: Sequence[str] = ("F1", "sensitivity"),
    attacks: Mapping[str, str] | None = None,
    positive: int = 1,
) -> list[Path]:
    """Writes metrics of models less those of others, without and under attack.

    Args:
        request: with tallies and summaries, of data sets of two classes.
        title, caption: of the table; the caption says why these are compared.
        pairs: which models.
        metrics: rates of :data:`medrobust.evaluation.binary.RATES`.
        attacks: attack of the study to its name in the table; others keep theirs.
        positive: number of the positive class.

    Returns:
        The files written. Pairs of which one was not run on a data set are told as such.

    Raises:
        InputError: a file is missing or wrong, or a data set has more than two classes.
    """
    results = read_binary_results(request, positive)
    frame = difference_rows(request, results, pairs, metrics, attacks or {})
    return write_binary_table(
        request,
        results,
        frame,
        title=title,
        caption=f"{caption} Differences of means over the folds that both models have, with 95 % "
        "intervals; each row is the first model less the second.",
        notes=[*interval_notes(frame), *([OVER_FOLDS] if (frame["folds"] > 1).any() else [])],
        panels=_panels(frame),
    )


def difference_rows(
    request: Request,
    results: BinaryResults,
    pairs: Sequence[Pair],
    metrics: Sequence[str],
    attacks: Mapping[str, str],
) -> pd.DataFrame:
    """Returns one row per data set, metric, attack, level and pair, with :data:`COLUMNS`."""
    import pandas as pd

    rows = [
        _row(request, results, pair, (dataset, attack, level), metric, attacks)
        for dataset in results.datasets()
        for metric in metrics
        for pair in pairs
        for attack, level in results.attacked_levels(dataset)
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    whole = dict.fromkeys(("n", "folds", "replicates"), "Int64")
    numbers = ("first_value", "second_value", "difference", "ci_low", "ci_high", "p")
    return frame.astype(whole | dict.fromkeys(numbers, "float64"))


def _row(
    request: Request,
    results: BinaryResults,
    pair: Pair,
    where: tuple[str, str, float],
    metric: str,
    attacks: Mapping[str, str],
) -> dict[str, Any]:
    dataset, attack, level = where
    first, second = ((dataset, model, attack) for model in pair)
    norm = "" if attack == NO_ATTACK else norm_of(request.attacks.get(attack, {}), "Linf")
    row = {
        **dict.fromkeys(COLUMNS),
        "dataset": dataset,
        "metric": metric,
        "attack": attacks.get(attack, attack),
        "norm": norm,
        "epsilon": level_text(level) if level else "",
        "first": pair[0],
        "second": pair[1],
        "status": _missing(request, results, dataset, pair, attack),
        "interval": "",
        "scale": request.context.scale,
        "protocol": request.context.protocol,
        "source": "",
    }
    estimate = results.difference(first, second, level, metric)
    if estimate is None:
        return row
    values = results.pairs(first, second, level, metric)
    differences = [one - other for one, other in values.values()]
    p = resampled_t_p(differences, results.shared(first, second))
    return row | {
        "status": "reproduced",
        "first_value": sum(one for one, _ in values.values()) / len(values),
        "second_value": sum(other for _, other in values.values()) / len(values),
        "difference": estimate.value,
        "ci_low": estimate.ci_low,
        "ci_high": estimate.ci_high,
        "p": min(p) if p else None,
        "n": estimate.n,
        "folds": estimate.folds,
        "replicates": estimate.replicates,
        "interval": estimate.basis,
        "source": results.robust.sources[dataset],
    }


def _missing(
    request: Request, results: BinaryResults, dataset: str, pair: Pair, attack: str
) -> str:
    """Returns why there is no difference: what was not run or failed, or that it is not defined."""
    there = [one for one in pair if (dataset, one, attack) in results.robust.tallies]
    lacking = [one for one in pair if one not in results.models(dataset)]
    failed = [one for one in results.failed if one.dataset == dataset and one.model in pair]
    if lacking:
        return NOT_RUN
    if failed:
        return request.context.status_without_results(dataset, failed[0].model)
    return "not defined" if len(there) == 2 or attack == NO_ATTACK else NOT_RUN


# --- printing ---------------------------------------------------------------------------


def _panels(frame: pd.DataFrame) -> list[Panel]:
    """Returns a panel for each data set and metric: a row for each pair, a column each attack.

    Pairs that were not run on a data set are in the numbers alone.
    """
    panels = []
    for (dataset, metric), part in frame.groupby(["dataset", "metric"], sort=False):
        ran = part.groupby(["first", "second"], sort=False)["status"].transform(
            lambda one: (one != NOT_RUN).any()
        )
        shown = part[ran] if ran.any() else part
        title = with_synthetic_mark(f"{metric}, {dataset}", set(shown["source"]))
        panels.append(Panel(_cells(shown), title=title))
    return panels


def _cells(part: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    several = part[part["epsilon"] != ""].groupby("attack")["epsilon"].nunique().max() > 1
    shown: dict[Pair, dict[str, str]] = {}
    for row in plain(part):
        name = "no attack" if row["attack"] == NO_ATTACK else row["attack"]
        if several and row["epsilon"]:
            name += f", ε {row['epsilon']}"
        pair = (row["first"], row["second"])
        cells = shown.setdefault(pair, {"first": pair[0], "less": pair[1]})
        cells[name] = _text(row)
    return pd.DataFrame(list(shown.values())).fillna(NOT_RUN)


def _text(row: Mapping[str, Any]) -> str:
    if row["difference"] is None:
        told = row["status"]
        return told if told == "not defined" else in_place_of(told)
    text = signed(row["difference"], DECIMALS)
    interval = with_interval(0.0, row["ci_low"], row["ci_high"], DECIMALS).partition(" ")[2]
    return f"{text} {interval}".strip()
