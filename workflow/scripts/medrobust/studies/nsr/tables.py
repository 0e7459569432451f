"""Tables 1 to 12, the figures and the reading of Ma and Liang (2020), from tallies of attacks.

The paper prints accuracy (ACC) and precision (PREC) of nine methods for two networks (MLP, CNN)
under three attacks (20-PGD, 100-PGD, SPSA), at seven noise levels: 756 numbers. Each table has
all of its rows and columns, whatever was run; what was not says "not run". A number is compared
in the reading ``attack``, each level as it was attacked, which is the paper's; the worst over
all levels up to it stands in a column of its own (:mod:`medrobust.evaluation.tally`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrobust.evaluation.tally import WORST_CASE
from medrobust.reporting import artefacts
from medrobust.reporting.artefacts import Panel, RunContext, in_place_of, number
from medrobust.reporting.comparison import read_published
from medrobust.reporting.levels import (
    NO_LEVEL,
    PanelKind,
    attack_notes,
    dataset_panels,
    difference_text,
    mismatch_notes,
    published_text,
    reproduced_text,
    spent,
)
from medrobust.reporting.plotting import model_label
from medrobust.reporting.request import Request
from medrobust.reporting.rows import (
    ROW_COLUMNS,
    STARS,
    estimate_columns,
    interval_notes,
    level_text,
    number_row,
    printed_values,
    published_outside,
    remark_notes,
    star,
    typed,
)
from medrobust.studies.nsr.results import (
    DATASET,
    LEVELS,
    METHODS,
    PAPER_PER_CLASS,
    PRINTED_ATTACKS,
    STUDY,
    TABLES,
    NsrResults,
    PrintedTable,
    absent_classes,
    attack_text,
    printed_dataset,
    read_results,
    remark,
    sample_text,
    split_name,
)

if TYPE_CHECKING:
    import pandas as pd


_OWN_COLUMNS = (
    "interval",
    "selection",
    "worst_case",
    "non_monotone",
    "attacked",
    "queries_per_point",
    "gradients_per_point",
)
_TEXT = frozenset({"interval", "selection"})
_WHOLE = frozenset({"non_monotone", "attacked"})
#: Decimals of a reproduced number: one more than the paper's.
DECIMALS = 3
PRINTED_DECIMALS = 2


# --- rows -------------------------------------------------------------------------------


def table_rows(
    table: PrintedTable, results: NsrResults, published: pd.DataFrame, context: RunContext
) -> pd.DataFrame:
    """Returns one row per data set, model and noise level of a table.

    Args:
        table: which one.
        results: the run's.
        published: as :func:`medrobust.reporting.comparison.read_published` reads it.
        context: the run.

    Returns:
        The columns :data:`medrobust.reporting.rows.ROW_COLUMNS`, then ``interval`` (what it
        covers), ``selection`` (which points), ``worst_case`` (the metric if every level up to
        this one counts), ``non_monotone`` (points fooled at a smaller level but not at this
        one), ``attacked`` (points that are correct without attack) and the queries and gradient
        evaluations per point of the test set.
    """
    import pandas as pd

    part = published[published["table"] == str(table.number)]
    printed = printed_values(part, "dataset", "method", "epsilon")
    rows = [
        _row(table, results, printed, context, dataset, model, epsilon)
        for dataset in results.models
        for model in _models(table, results, dataset)
        for epsilon in _levels(table, results, dataset)
    ]
    columns = [*ROW_COLUMNS, *_OWN_COLUMNS]
    return typed(pd.DataFrame(rows, columns=columns), _TEXT, _WHOLE)


def _models(table: PrintedTable, results: NsrResults, dataset: str) -> list[str]:
    """Returns the table's methods, then added models; of other data sets, what was run."""
    mine = [m for m in results.models[dataset] if split_name(m)[0] in (table.network, "")]
    if dataset == DATASET:
        return mine
    return [model for model in mine if results.of(dataset, model, table.attack)]


def _levels(table: PrintedTable, results: NsrResults, dataset: str) -> list[float]:
    return sorted({*LEVELS, *results.levels(table.attack, dataset)})


def _row(
    table: PrintedTable,
    results: NsrResults,
    printed: Mapping[tuple[str, ...], float],
    context: RunContext,
    dataset: str,
    model: str,
    epsilon: float,
) -> dict[str, Any]:
    named = printed_dataset(table.attack, dataset)
    value = printed.get((named, model, level_text(epsilon)))
    row = number_row(
        (*ROW_COLUMNS, *_OWN_COLUMNS),
        value,
        context,
        table=str(table.number),
        dataset=named,
        method=model,
        metric=table.metric,
        attack=PRINTED_ATTACKS[table.attack],
        norm="Linf",
        epsilon=level_text(epsilon),
        status=context.status_without_results(dataset, model),
    )
    tallies = results.of(dataset, model, table.attack)
    if not tallies:
        return row
    estimate = results.estimate(model, table.attack, epsilon, table.metric, dataset=dataset)
    if estimate is None:
        return row | {"status": NO_LEVEL}
    worst = results.value(
        model, table.attack, epsilon, table.metric, dataset=dataset, reading=WORST_CASE
    )
    return {
        **row,
        **estimate_columns(estimate, value, results.sources[dataset]),
        **spent(tallies, epsilon),
        "worst_case": worst,
    }


# --- printing ---------------------------------------------------------------------------


def draw_table(request: Request, *, number: int) -> list[Path]:
    """Writes the table with the number ``number``; see :func:`build_table`."""
    return build_table(next(table for table in TABLES if table.number == number), request)


def build_table(table: PrintedTable, request: Request) -> list[Path]:
    """Writes one of Tables 1 to 12: reproduced, published, difference.

    Args:
        table: which one.
        request: with the tallies of its attack.

    Returns:
        The files written.

    Raises:
        InputError: a tally is missing or wrong, or two entries are the same.
    """
    results = read_results(request, [table.attack], table.network)
    published = read_published(request.published, STUDY)
    frame = table_rows(table, results, published, request.context)
    attack = PRINTED_ATTACKS[table.attack]
    return artefacts.write_table_artefact(
        request.out_stem,
        frame,
        title=f"Table {table.number}. {table.metric} of the {table.network}s under {attack}",
        caption=_caption(table),
        context=request.context,
        sources=results.sources,
        n=sample_text(results, [table.attack]),
        budget=attack_text(request, table.attack),
        notes=[
            *_notes(table, frame, results),
            *absent_classes(results, request.class_names),
        ],
        panels=_panels(frame),
        inputs=[request.published, *results.files],
    )


def _caption(table: PrintedTable) -> str:
    meaning = (
        "Accuracy, the share of the test points that are classified correctly"
        if table.metric == "ACC"
        else "Precision, the unweighted mean over the classes (0 for a class never predicted)"
    )
    where = (
        f"on the first {PAPER_PER_CLASS} test points of each class in the paper"
        if table.attack == "spsa"
        else "on the class-balanced test set"
    )
    return (
        f"{meaning}, {where}, by noise level (L-infinity radius; 0 is clean). A point that is "
        "misclassified without attack counts as its clean prediction. Reproduced: with 95 % "
        f"interval. Difference: reproduced minus published; {STARS}."
    )


def _notes(table: PrintedTable, frame: pd.DataFrame, results: NsrResults) -> list[str]:
    notes = [*interval_notes(frame), *attack_notes(frame)]
    tallies = results.attacked(table.attack, DATASET)
    per_class = {tally.per_class for tally in tallies}
    if table.attack == "spsa" and per_class - {PAPER_PER_CLASS}:
        points = sample_text(results, [table.attack])
        notes.append(f"{points}; the paper: the first {PAPER_PER_CLASS} of each class.")
    lost = frame.groupby("method", sort=False)["non_monotone"].max()
    if (lost > 0).any():
        worst = lost.idxmax()
        notes.append(
            "Some points are fooled at a level but not at a larger one (column non_monotone; "
            f"at most {int(lost.max()):,} points of a level, {worst}); worst_case counts them "
            "as fooled."
        )
    return [*notes, *mismatch_notes(tallies), *remark_notes(frame, remark)]


def _panels(frame: pd.DataFrame) -> list[Panel]:
    """Returns the panels of the paper's data set, and those of each added data set."""
    stars = partial(star, decimals=PRINTED_DECIMALS)
    kinds = (
        PanelKind("Reproduced [95 % interval]", partial(reproduced_text, decimals=DECIMALS)),
        PanelKind("Standard deviation between trainings", _deviation_text, filled="sd"),
        PanelKind(
            "Published",
            partial(published_text, decimals=PRINTED_DECIMALS),
            first_only=True,
            marked=False,
        ),
        PanelKind(
            "Difference",
            partial(difference_text, decimals=DECIMALS, stars=stars),
            first_only=True,
        ),
    )
    return dataset_panels(
        frame,
        kinds,
        in_paper=lambda model: split_name(model)[1] in METHODS,
        label=lambda model: model_label(split_name(model)[1]),
    )


def _deviation_text(row: Mapping[str, Any]) -> str:
    return in_place_of(row["status"]) if row["reproduced"] is None else number(row["sd"], DECIMALS)


def outside(row: Mapping[str, Any]) -> bool:
    """Tells whether a published number lies outside the interval that it is held against."""
    return published_outside(row, PRINTED_DECIMALS)
