"""Tables of increasing-margin adversarial training (ima), from tallies of attacks.

The paper prints accuracies of six networks in seven kinds of training, on four data sets, at
seven to nine noise levels: Tables 8 to 13, and for settings of IMA Tables B1, B2 and C4 to C7.
Each table has all of its rows and columns, whatever was run; what was not says so. A number is
compared in the reading ``attack``, the worse of two runs of PGD with one loss each, which is the
paper's (:mod:`medrobust.evaluation.tally`). Tables 14 to 19, on segmentation, are those of
the study ima_segmentation: the comparison here lists them as not run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrobust.evaluation.statistics import Estimate
from medrobust.evaluation.tally import FIRST_PER_CLASS, WORST_CASE
from medrobust.reporting import artefacts
from medrobust.reporting.artefacts import Panel, RunContext, in_place_of, number
from medrobust.reporting.levels import (
    NO_LEVEL,
    PanelKind,
    attack_notes,
    dataset_panels,
    difference_text,
    mismatch_notes,
    points_text,
    published_text,
    reproduced_text,
    spent,
)
from medrobust.reporting.request import Request
from medrobust.reporting.rows import (
    ROW_COLUMNS,
    STARS,
    estimate_columns,
    interval_notes,
    level_text,
    number_row,
    remark_notes,
    star,
    typed,
)
from medrobust.studies.ima.results import (
    DATASETS,
    METRIC,
    NORM_NAMES,
    PRINTED_ATTACK,
    SAME_AS_IMA,
    TABLES,
    VALIDATION_LEVEL,
    ImaResults,
    PrintedNumbers,
    PrintedTable,
    attack_text,
    method_of,
    model_in,
    read_printed,
    read_results,
    remark,
    sample_text,
    shown_sources,
)

if TYPE_CHECKING:
    import pandas as pd


_OWN_COLUMNS = (
    "interval",
    "lowest",
    "highest",
    "published_in_spread",
    "selection",
    "worst_case",
    "non_monotone",
    "attacked",
    "gradients_per_point",
    "clean_all",
)
_TEXT = frozenset({"interval", "selection", "published_in_spread"})
_WHOLE = frozenset({"non_monotone", "attacked"})
#: Decimals of a reproduced number: those of the paper.
DECIMALS = 4
NO_VALIDATION = "the accuracy on clean validation points is not part of this run"
#: Column ``selection`` of an accuracy on validation points.
VALIDATION_SET = "validation_set"


# --- rows -------------------------------------------------------------------------------


def table_rows(
    table: PrintedTable, results: ImaResults, printed: PrintedNumbers, context: RunContext
) -> pd.DataFrame:
    """Returns one row per data set, model and noise level of a table.

    Args:
        table: which one.
        results: the run's.
        printed: the paper's.
        context: the run.

    Returns:
        The columns :data:`medrobust.reporting.rows.ROW_COLUMNS` (``method`` as the table prints
        it), then ``interval`` (what it covers), ``lowest`` and ``highest`` over
        replicates, missing for one, ``published_in_spread`` ("yes", "no", empty
        for fewer than two replicates: whether the published number, rounding allowed for, lies
        between lowest and highest), ``selection`` (which points), ``worst_case`` (the accuracy if
        every level up to this one counts), ``non_monotone`` (points fooled at a smaller level but
        not at this one), ``attacked`` (points correct without attack), both summed over
        replicates, the gradient evaluations per test point, and ``clean_all``, the accuracy
        without attack on all test points, beside level 0 where attacks took a part of them.
    """
    import pandas as pd

    rows = [
        _row(table, results, printed, context, dataset, method, level)
        for dataset in _datasets(table, results)
        for method in _methods(table, results, printed, dataset)
        for level in _levels(table, results, printed, dataset)
    ]
    columns = [*ROW_COLUMNS, *_OWN_COLUMNS]
    return typed(pd.DataFrame(rows, columns=columns), _TEXT, _WHOLE)


def _datasets(table: PrintedTable, results: ImaResults) -> list[str]:
    """Returns the table's data set, then added ones on which its attack was run."""
    added = [
        name
        for name in results.sources
        if table.main and name not in DATASETS and results.attacked(table.attack, name)
    ]
    return [table.dataset, *added]


def _methods(
    table: PrintedTable, results: ImaResults, printed: PrintedNumbers, dataset: str
) -> list[str]:
    """Returns the table's rows, then models of no table that its attack was run on."""
    known = printed.methods(table) if dataset == table.dataset else []
    if not table.main:
        return known
    elsewhere = printed.models(dataset) if dataset in DATASETS else []
    added = [
        method_of(model)
        for model in results.models[dataset]
        if model not in elsewhere and results.of(dataset, model, table.attack)
    ]
    return [*known, *added]


def _levels(
    table: PrintedTable, results: ImaResults, printed: PrintedNumbers, dataset: str
) -> list[str]:
    levels = sorted({*printed.levels(table), *results.levels(table.attack, dataset)})
    more = [VALIDATION_LEVEL] if printed.has_validation(table) else []
    return [*map(level_text, levels), *more]


def _row(
    table: PrintedTable,
    results: ImaResults,
    printed: PrintedNumbers,
    context: RunContext,
    dataset: str,
    method: str,
    level: str,
) -> dict[str, Any]:
    value = printed.value(table, method, level) if dataset == table.dataset else None
    row = number_row(
        (*ROW_COLUMNS, *_OWN_COLUMNS),
        value,
        context,
        table=table.number,
        dataset=dataset,
        method=method,
        metric=METRIC,
        attack=PRINTED_ATTACK,
        norm=table.norm,
        epsilon=level,
    )
    model = model_in(table, results, dataset, method)
    row["status"] = context.status_without_results(dataset, model)
    if not results.of(dataset, model, table.attack):
        return row
    if level == VALIDATION_LEVEL:
        estimate = results.validation_estimate(dataset, model)
        shares = [right / n for right, n in results.validation.get((dataset, model), ())]
        effort = {"selection": VALIDATION_SET}
    else:
        estimate = results.estimate(dataset, model, table.attack, float(level))
        shares = results.shares(dataset, model, table.attack, float(level))
        effort = _spent(table, results, dataset, model, float(level)) if estimate else {}
    if estimate is None:
        return row | {"status": NO_VALIDATION if level == VALIDATION_LEVEL else NO_LEVEL}
    return {
        **row,
        **estimate_columns(estimate, value, results.sources[dataset]),
        "status": _status(estimate),
        **_spread(shares, value, printed.decimals(table)),
        **effort,
    }


def _status(estimate: Estimate) -> str:
    k = estimate.replicates
    return "reproduced, one training" if k == 1 else f"reproduced, mean of {k} trainings"


def _spread(shares: Sequence[float], value: float | None, decimals: int) -> dict[str, Any]:
    """Returns the range over replicates, and whether a published number lies in it."""

    if len(shares) < 2:
        return {}
    lowest, highest = min(shares), max(shares)
    # A billionth of slack: the ends of the rounding range are not exact in binary.
    half = 0.5 * 10.0**-decimals * (1 + 1e-9)
    inside = value is not None and lowest - half <= value <= highest + half
    return {
        "lowest": lowest,
        "highest": highest,
        "published_in_spread": "" if value is None else "yes" if inside else "no",
    }


def _spent(
    table: PrintedTable, results: ImaResults, dataset: str, model: str, epsilon: float
) -> dict[str, Any]:
    where = (dataset, model, table.attack, epsilon)
    worst = results.estimate(*where, WORST_CASE)
    return {
        **spent(results.of(*where[:3]), epsilon),
        "worst_case": None if worst is None else worst.value,
        "clean_all": _clean_of_all(results, where) if epsilon == 0 else None,
    }


def _clean_of_all(results: ImaResults, where: tuple[str, str, str, float]) -> float | None:
    """Returns the accuracy on all test points, if attacks took a part of them and it is known."""
    counts = results.clean.get(where[:2], ())
    if not counts or results.of(*where[:3])[0].selection != FIRST_PER_CLASS:
        return None
    return sum(right / n for right, n in counts) / len(counts)


# --- printing ---------------------------------------------------------------------------


def draw_table(request: Request, *, number: str) -> list[Path]:
    """Writes the table with the number ``number``; see :func:`build_table`."""
    return build_table(next(table for table in TABLES if table.number == number), request)


def build_table(table: PrintedTable, request: Request) -> list[Path]:
    """Writes one of the tables: reproduced, published, difference.

    Args:
        table: which one.
        request: with the tallies of its attack.

    Returns:
        The files written.

    Raises:
        InputError: a tally is missing or wrong, or two entries are the same.
    """
    results = read_results(request, [table.attack])
    printed = read_printed(request.published)
    frame = table_rows(table, results, printed, request.context)
    return artefacts.write_table_artefact(
        request.out_stem,
        frame,
        title=f"Table {table.number}. {_subject(table)}",
        caption=_caption(table, int(frame["replicates"].fillna(1).max())),
        context=request.context,
        sources=shown_sources(results, dict.fromkeys(frame["dataset"])),
        n=sample_text(results, [table]),
        budget=attack_text(request, table.attack),
        notes=_notes(table, frame, results),
        panels=_panels(frame, printed.decimals(table), printed.methods(table)),
        inputs=[request.published, *results.files],
    )


def _subject(table: PrintedTable) -> str:
    of = "" if table.main else f", {table.subject} of IMA"
    return f"{table.dataset}: accuracy under {PRINTED_ATTACK} in {NORM_NAMES[table.norm]}{of}"


def _caption(table: PrintedTable, trainings: int) -> str:
    shown = "mean over trainings" if trainings > 1 else "of one training,"
    return (
        "Accuracy, the share of the test points that are classified correctly, by noise level "
        f"(radius in {NORM_NAMES[table.norm]}; 0 is clean). A point counts as misclassified if "
        "either of two runs of PGD, one for each loss, fools the model, or if it is misclassified "
        f"without attack. Reproduced: {shown} with 95 % interval. Difference: reproduced minus "
        f"published; {STARS}."
    )


def _notes(table: PrintedTable, frame: pd.DataFrame, results: ImaResults) -> list[str]:
    notes = interval_notes(frame)
    notes += attack_notes(frame)
    if VALIDATION_LEVEL in set(frame["epsilon"]):
        notes.append(_validation_note(table, results, frame))
    shared_rows = [name for name in SAME_AS_IMA if name in set(frame["method"])]
    if shared_rows:
        notes.append(f"{shared_rows[0]} is the model IMA of the main tables.")
    tallies = results.attacked(table.attack, table.dataset)
    if any(tally.selection == FIRST_PER_CLASS for tally in tallies):
        notes.append(f"{points_text(tallies[0])}; the paper: all test points.")
    notes += [*_clean_note(table, frame, results), *_lost_note(frame)]
    return [*notes, *mismatch_notes(tallies), *remark_notes(frame, remark)]


def _clean_note(table: PrintedTable, frame: pd.DataFrame, results: ImaResults) -> list[str]:
    known = frame[frame["clean_all"].notna() & (frame["dataset"] == table.dataset)]
    if known.empty:
        return []
    n = results.sizes[table.dataset].test
    values = ", ".join(
        f"{method} {number(value, DECIMALS)}"
        for method, value in zip(known["method"], known["clean_all"], strict=True)
    )
    return [f"Without attack, on all {n:,} test points: {values}."]


def _lost_note(frame: pd.DataFrame) -> list[str]:
    lost = frame["non_monotone"].fillna(0)
    if not (lost > 0).any():
        return []
    worst = frame.loc[lost.idxmax()]
    of = int(worst["n"] * worst["replicates"])
    together = " of all trainings together" if worst["replicates"] > 1 else ""
    return [
        "Some points are fooled at a level but not at a larger one (column non_monotone; at most "
        f"{int(lost.max()):,} of {of:,} points{together}: {worst['method']} at "
        f"{worst['epsilon']}); worst_case counts them as fooled."
    ]


def _validation_note(table: PrintedTable, results: ImaResults, frame: pd.DataFrame) -> str:
    rows = frame[frame["epsilon"] == VALIDATION_LEVEL]
    if NO_VALIDATION in set(rows["status"]) or rows["n"].isna().all():
        return f"{VALIDATION_LEVEL}: {NO_VALIDATION}."
    n = int(rows["n"].max())
    return f"{VALIDATION_LEVEL}: clean accuracy on the {n:,} validation points."


def _panels(frame: pd.DataFrame, decimals: int, methods: Sequence[str]) -> list[Panel]:
    """Returns the panels of the paper's data set, and one for each added data set."""
    with_stars = partial(star, decimals=decimals)
    kinds = (
        PanelKind("Reproduced [95 % interval]", partial(reproduced_text, decimals=DECIMALS)),
        PanelKind(
            "Published", partial(published_text, decimals=decimals), first_only=True, marked=False
        ),
        PanelKind(
            "Difference",
            partial(difference_text, decimals=DECIMALS, stars=with_stars),
            first_only=True,
        ),
        PanelKind("Lowest to highest training", _spread_text, filled="lowest"),
    )
    return dataset_panels(frame, kinds, in_paper=lambda method: method in methods)


def _spread_text(row: Mapping[str, Any]) -> str:
    if row["reproduced"] is None:
        return in_place_of(row["status"])
    if row["lowest"] is None:
        return "–"
    return f"{number(row['lowest'], DECIMALS)} to {number(row['highest'], DECIMALS)}"
