"""What images that look alike do across folds: plain folds beside folds that keep them together.

Where two images that look alike lie in different folds, a model is tested on what it was nearly
trained on. The data sets ``*_together`` keep such images in one fold. Their folds are others, so
the two cross-validations are not compared fold by fold.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.evaluation.statistics import Estimate
from medrobust.reporting.artefacts import NOT_RUN, Panel, with_interval
from medrobust.reporting.binary_results import NO_ATTACK, BinaryResults, read_binary_results
from medrobust.reporting.binary_tables import write_binary_table
from medrobust.reporting.request import Request
from medrobust.reporting.rows import plain, signed, with_synthetic_mark
from medrobust.studies.mirst.catalogue import METRICS, PRINTED_ATTACKS

if TYPE_CHECKING:
    import pandas as pd

TITLE = "Images that look alike: plain folds, and folds that keep them together"
#: Data set with plain folds -> the same images with others, as printed.
TOGETHER = {
    "BUSI+BUSIS": "bus_together",
    "busi": "busi_together",
    "busi_64": "busi_64_together",
}
COLUMNS = (
    *("dataset", "together", "model", "metric", "attack", "status"),
    *("plain", "plain_low", "plain_high", "kept", "kept_low", "kept_high"),
    *("difference", "ci_low", "ci_high", "scale", "protocol", "source"),
)
_NUMBERS = COLUMNS[6:15]
_CAPTION = (
    "Cross-validations with plain stratified folds, and with folds that keep images that look "
    "alike together. The difference is the first less the second: what it gains from seeing in "
    "training what is nearly a test image, and from another draw of folds. Its interval adds the "
    "variances of the two, which share their images, so it is approximate. How many images look "
    "alike is on the card of the data set."
)


def draw_folds(request: Request) -> list[Path]:
    """Writes what keeping images that look alike together changes, model by model.

    Raises:
        InputError: a file is missing or wrong, or a data set has more than two classes.
    """
    results = read_binary_results(request)
    frame = fold_rows(request, results)
    return write_binary_table(
        request,
        results,
        frame,
        title=TITLE,
        caption=_CAPTION,
        panels=_panels(frame),
    )


def fold_rows(request: Request, results: BinaryResults) -> pd.DataFrame:
    """Returns a row for each data set with its twin, model, metric and attack: :data:`COLUMNS`.

    A pair of data sets of which one was not run has one row, which says so.
    """
    import pandas as pd

    there = results.datasets()
    known = [pair for pair in TOGETHER.items() if set(pair) & set(there)]
    rows: list[dict[str, Any]] = []
    for pair in known or [next(iter(TOGETHER.items()))]:
        if set(pair) <= set(there):
            rows += _rows(request, results, pair)
        else:
            rows.append(_blank(request, pair) | {"status": NOT_RUN})
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype(dict.fromkeys(_NUMBERS, "float64"))


def _blank(request: Request, pair: tuple[str, str]) -> dict[str, Any]:
    texts = dict.fromkeys(("model", "metric", "attack", "source"), "")
    names = {"dataset": pair[0], "together": pair[1]}
    context = {"scale": request.context.scale, "protocol": request.context.protocol}
    return {**dict.fromkeys(COLUMNS), **texts, **names, **context}


def _rows(request: Request, results: BinaryResults, pair: tuple[str, str]) -> list[dict[str, Any]]:
    models = [model for model in results.models(pair[0]) if model in results.models(pair[1])]
    return [
        _row(request, results, pair, model, metric, attack, level)
        for metric in METRICS
        for model in models
        for attack, level in results.attacked_levels(pair[0])
    ]


def _row(
    request: Request,
    results: BinaryResults,
    pair: tuple[str, str],
    model: str,
    metric: str,
    attack: str,
    level: float,
) -> dict[str, Any]:
    found = [results.estimate((dataset, model, attack), level, metric) for dataset in pair]
    row = _blank(request, pair) | {
        "model": model,
        "metric": metric,
        "attack": PRINTED_ATTACKS.get(attack, attack),
        "source": results.robust.sources[pair[0]],
    }
    if None in found or any(one.value is None for one in found):
        return row | {"status": "not defined"}
    for name, one in zip(("plain", "kept"), found, strict=True):
        row |= {name: one.value, f"{name}_low": one.ci_low, f"{name}_high": one.ci_high}
    difference = found[0].value - found[1].value
    half = _half_width(found)
    ends = (None, None)
    if half is not None:
        ends = max(-1.0, difference - half), min(1.0, difference + half)
    return row | {
        "status": "reproduced",
        "difference": difference,
        "ci_low": ends[0],
        "ci_high": ends[1],
    }


def _half_width(found: list[Estimate]) -> float | None:
    """Returns half the width of the interval of a difference of two means; None without theirs."""
    if any(one.ci_low is None or one.ci_high is None for one in found):
        return None
    # The further end: limits at 0 and 1 cut the other.
    halves = [max(one.ci_high - one.value, one.value - one.ci_low) for one in found]
    return float(np.hypot(*halves))


# --- printing ---------------------------------------------------------------------------


def _panels(frame: pd.DataFrame) -> list[Panel]:
    import pandas as pd

    panels = []
    for (dataset, together), part in frame.groupby(["dataset", "together"], sort=False):
        title = with_synthetic_mark(f"{dataset} and {together}", set(part["source"]))
        if (part["status"] == NOT_RUN).all():
            panels.append(Panel(pd.DataFrame([{"both": NOT_RUN}]), title=title))
            continue
        for metric, of_metric in part.groupby("metric", sort=False):
            cells = pd.DataFrame([_cells(row) for row in plain(of_metric)])
            panels.append(Panel(cells, title=f"{metric}, {title}"))
    return panels


def _cells(row: dict[str, Any]) -> dict[str, str]:
    attack = "no attack" if row["attack"] == NO_ATTACK else row["attack"]
    names = {"model": row["model"], "attack": attack}
    columns = ("plain folds [95 %]", "kept together [95 %]", "difference [95 %]")
    if row["difference"] is None:
        return names | dict.fromkeys(columns, row["status"])
    texts = [
        with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"], 3)
        for name in ("plain", "kept")
    ]
    interval = with_interval(0.0, row["ci_low"], row["ci_high"], 3).partition(" ")[2]
    texts.append(f"{signed(row['difference'], 3)} {interval}".strip())
    return names | dict(zip(columns, texts, strict=True))
