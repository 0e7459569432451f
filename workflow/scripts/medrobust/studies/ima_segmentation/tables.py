"""Tables of ima on segmentation: its two scores by noise level, and what each class adds to them.

The numbers of Figures 10 to 12 stand in the technical appendix as Tables 14 to 19.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrobust.evaluation import segmentation
from medrobust.reporting import artefacts
from medrobust.reporting.artefacts import Panel, RunContext, number
from medrobust.reporting.generic_tables import attacks_in_words
from medrobust.reporting.levels import (
    NO_LEVEL,
    PanelKind,
    attack_notes,
    dataset_panels,
    difference_text,
    published_text,
    reproduced_text,
)
from medrobust.reporting.request import Request
from medrobust.reporting.rows import (
    ROW_COLUMNS,
    STARS,
    estimate_columns,
    interval_notes,
    level_text,
    number_row,
    star,
    typed,
)
from medrobust.studies.ima_segmentation.catalogue import SCORES, task_of
from medrobust.studies.ima_segmentation.results import (
    PrintedNumbers,
    SegmentationResults,
    read_printed,
    read_results,
)

if TYPE_CHECKING:
    import pandas as pd

PRINTED_ATTACK, NORM = "100-PGD", "L2"
#: Decimals of a reproduced number, and of the paper's.
DECIMALS, PRINTED_DECIMALS = 3, 2
_COLUMNS = (*ROW_COLUMNS, "interval")
MEANS = (
    "TVDI: Dice of each class from the pixels of all slices together, mean over classes. ADI: the "
    "mean over slices of each slice's Dice, mean over classes. Only slices that contain every "
    "class count."
)


def table_rows(
    results: SegmentationResults,
    printed: PrintedNumbers,
    context: RunContext,
    dataset: str,
    score: str,
) -> pd.DataFrame:
    """Returns one row per model and noise level of a table.

    Returns:
        The columns :data:`medrobust.reporting.rows.ROW_COLUMNS`, then ``interval``.
    """
    import pandas as pd

    methods = list(dict.fromkeys([*printed.methods(dataset), *results.models[dataset]]))
    levels = sorted({*printed.levels(dataset), *results.levels(dataset)})
    rows = [
        _row(results, printed.values(), context, dataset, score, method, level)
        for method in methods
        for level in levels
    ]
    return typed(pd.DataFrame(rows, columns=list(_COLUMNS)), frozenset({"interval"}), frozenset())


def _row(
    results: SegmentationResults,
    printed: Mapping[tuple[str, ...], float],
    context: RunContext,
    dataset: str,
    score: str,
    method: str,
    level: float,
) -> dict[str, Any]:
    value = printed.get((dataset, score, method, level_text(level)))
    row = number_row(
        _COLUMNS,
        value,
        context,
        table=task_of(dataset).tables[score],
        dataset=dataset,
        method=method,
        metric=score,
        attack=PRINTED_ATTACK,
        norm=NORM,
        epsilon=level_text(level),
    )
    if not results.of(dataset, method):
        return row
    estimate = results.estimate(dataset, method, score, level)
    if estimate is None:
        return row | {"status": NO_LEVEL}
    columns = estimate_columns(estimate, value, results.sources[dataset])
    return {name: one for name, one in (row | columns).items() if name in _COLUMNS}


def draw_table(request: Request, *, dataset: str, score: str) -> list[Path]:
    """Writes the table of a score on a data set: reproduced, published, difference.

    Raises:
        InputError: records are missing or wrong.
    """
    results, printed = read_results(request), read_printed(request.published)
    frame = table_rows(results, printed, request.context, dataset, score)
    task = task_of(dataset)
    with_stars = partial(star, decimals=PRINTED_DECIMALS)
    kinds = (
        PanelKind("Reproduced [95 % interval]", partial(reproduced_text, decimals=DECIMALS)),
        PanelKind("Published", partial(published_text, decimals=PRINTED_DECIMALS), marked=False),
        PanelKind("Difference", partial(difference_text, decimals=DECIMALS, stars=with_stars)),
    )
    shown = {dataset: results.sources[dataset]} if dataset in results.sources else {}
    return artefacts.write_table_artefact(
        request.out_stem,
        frame,
        title=f"Table {task.tables[score]}. {dataset}: {SCORES[score]} under {PRINTED_ATTACK}",
        caption=f"{score} by noise level (L2 norm of the noise on a slice, in standard deviations "
        f"of the image; 0 is clean). {MEANS} Difference: reproduced minus published; {STARS}.",
        context=request.context,
        sources=shown,
        n=results.size_text(dataset) or "not run",
        budget=attacks_in_words(request, [task.attack]),
        notes=[*interval_notes(frame), *attack_notes(frame)],
        panels=dataset_panels(
            frame, kinds, in_paper=lambda method: method in printed.methods(dataset)
        ),
        inputs=[request.published, *results.files],
    )


# --- classes ----------------------------------------------------------------------------


def class_rows(results: SegmentationResults) -> pd.DataFrame:
    """Returns a row for each model, noise level and class.

    Returns:
        ``dataset``, ``method``, ``replicate``, ``epsilon``, ``class`` (its number), ``dice`` (of
        the pixels of all slices), ``hd95`` (mean over slices that have both outlines, in
        millimetres), ``without_outline`` (share of slices that have not), ``source``.
    """
    import pandas as pd

    rows = []
    for (dataset, method), parts in results.records.items():
        for replicate, part in enumerate(parts):
            totals = segmentation.total_dice(part)
            for (level, kind), own in part.groupby(["epsilon", "class"]):
                rows.append(
                    {
                        "dataset": dataset,
                        "method": method,
                        "replicate": replicate,
                        "epsilon": level,
                        "class": int(kind),
                        "dice": float(totals.loc[level, kind]),
                        "hd95": float(own["hd95"].mean()),
                        "without_outline": float(own["hd95"].isna().mean()),
                        "source": results.sources[dataset],
                    }
                )
    columns = ("dataset", "method", "replicate", "epsilon", "class", "dice", "hd95")
    return pd.DataFrame(rows, columns=[*columns, "without_outline", "source"])


def draw_classes(request: Request) -> list[Path]:
    """Writes Dice and the 95 % Hausdorff distance of each class.

    Raises:
        InputError: records are missing or wrong.
    """
    results = read_results(request)
    frame = class_rows(results)
    return artefacts.write_table_artefact(
        request.out_stem,
        frame,
        title="Classes. Dice and Hausdorff distance by noise level",
        caption="Dice of the pixels of all slices, and in brackets the mean 95 % Hausdorff "
        "distance in millimetres over slices in which the class was predicted; means over "
        "trainings, each of which is in the CSV. Not in the paper.",
        context=request.context,
        sources=dict(results.sources),
        n="; ".join(
            f"{d}: {results.size_text(d)}, {results.trainings_text(d)}"
            if results.size_text(d)
            else f"{d}: not run"
            for d in results.sources
        ),
        budget=attacks_in_words(request, list(request.attacks)),
        panels=[_class_panel(part, *key) for key, part in frame.groupby(["dataset", "class"])],
        inputs=results.files,
    )


def _class_panel(part: pd.DataFrame, dataset: str, kind: int) -> Panel:
    import pandas as pd

    shown: dict[str, dict[str, str]] = {}
    for (method, level), own in part.groupby(["method", "epsilon"], sort=False):
        cells = shown.setdefault(method, {"noise level": method})
        # A training without any outline has no distance, and is left out of the mean.
        distance = number(own["hd95"].mean(), 1) if own["hd95"].notna().any() else "–"
        cells[level_text(level)] = f"{number(own['dice'].mean(), 3)} ({distance})"
    return Panel(pd.DataFrame(list(shown.values())), title=f"{dataset}, class {kind}")
