"""Tables 1 to 12, the figures and the reading of Ma and Liang (2020), from tallies of attacks.

The paper prints accuracy (ACC) and precision (PREC) of nine methods for two networks (MLP, CNN)
under three attacks (20-PGD, 100-PGD, SPSA), at seven noise levels: 756 numbers. Each table has
all of its rows and columns, whatever was run; what was not says "not run". A number is compared
in the reading ``attack``, each level as it was attacked, which is the paper's; the worst over
all levels up to it stands in a column of its own (:mod:`medrobust.evaluation.tally`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrobust.evaluation.tally import WORST_CASE
from medrobust.reporting import artefacts
from medrobust.reporting.artefacts import NOT_RUN, Panel, RunContext, number, with_interval
from medrobust.reporting.comparison import read_published
from medrobust.reporting.plotting import model_label
from medrobust.reporting.request import Request
from medrobust.reporting.rows import (
    ROW_COLUMNS,
    level_text,
    plain,
    printed_values,
    published_outside,
    signed,
    typed,
    with_synthetic_mark,
)
from medrobust.studies.nsr.results import (
    DATASET,
    LEVELS,
    METHODS,
    PAPER_PER_CLASS,
    PRINTED_ATTACKS,
    STUDY,
    TABLES,
    PrintedTable,
    Results,
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
    table: PrintedTable, results: Results, published: pd.DataFrame, context: RunContext
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


def _models(table: PrintedTable, results: Results, dataset: str) -> list[str]:
    """Returns the table's methods, then added models; of other data sets, what was run."""
    mine = [m for m in results.models[dataset] if split_name(m)[0] in (table.network, "")]
    if dataset == DATASET:
        return mine
    return [model for model in mine if results.of(model, table.attack, dataset)]


def _levels(table: PrintedTable, results: Results, dataset: str) -> list[float]:
    return sorted({*LEVELS, *results.levels(table.attack, dataset)})


def _row(
    table: PrintedTable,
    results: Results,
    printed: Mapping[tuple[str, ...], float],
    context: RunContext,
    dataset: str,
    model: str,
    epsilon: float,
) -> dict[str, Any]:
    named = printed_dataset(table.attack, dataset)
    value = printed.get((named, model, level_text(epsilon)))
    row: dict[str, Any] = dict.fromkeys((*ROW_COLUMNS, *_OWN_COLUMNS))
    row |= {
        "table": str(table.number),
        "dataset": named,
        "method": model,
        "metric": table.metric,
        "attack": PRINTED_ATTACKS[table.attack],
        "norm": "Linf",
        "epsilon": level_text(epsilon),
        "origin": "added" if value is None else "paper",
        "status": NOT_RUN,
        "published": value,
        "scale": context.scale,
        "protocol": context.protocol,
        "source": "",
    }
    if not results.of(model, table.attack, dataset):
        return row
    estimate = results.estimate(model, table.attack, epsilon, table.metric, dataset=dataset)
    if estimate is None:
        return row | {"status": "this noise level is not part of this run"}
    return row | {
        "status": "reproduced",
        "reproduced": estimate.value,
        "ci_low": estimate.ci_low,
        "ci_high": estimate.ci_high,
        "n": estimate.n,
        "replicates": estimate.replicates,
        "difference": None if value is None else estimate.value - value,
        "source": results.sources[dataset],
        "interval": estimate.basis,
        **_spent(table, results, dataset, model, epsilon),
    }


def _spent(
    table: PrintedTable, results: Results, dataset: str, model: str, epsilon: float
) -> dict[str, Any]:
    tallies = results.of(model, table.attack, dataset)
    rows = [tally.rows(epsilon) for tally in tallies]
    points = sum(int(one["points"].sum()) for one in rows)
    total = {
        name: sum(int(one[name].sum()) for one in rows)
        for name in ("attacked", "non_monotone", "queries", "gradient_evaluations")
    }
    return {
        "selection": tallies[0].selection,
        "worst_case": results.value(
            model, table.attack, epsilon, table.metric, dataset=dataset, reading=WORST_CASE
        ),
        "non_monotone": total["non_monotone"],
        "attacked": total["attacked"],
        "queries_per_point": total["queries"] / points,
        "gradients_per_point": total["gradient_evaluations"] / points,
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
        notes=_notes(table, frame, results),
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
        "interval. Difference: reproduced minus published; * marks those whose published number "
        "lies outside the interval, rounding allowed for."
    )


def _notes(table: PrintedTable, frame: pd.DataFrame, results: Results) -> list[str]:
    notes = [f"Intervals: {text}." for text in dict.fromkeys(frame["interval"]) if text]
    if (frame["status"] == NOT_RUN).any():
        notes.append('"not run": this run has no results of that model under this attack.')
    tallies = results.attacked(table.attack)
    per_class = {tally.per_class for tally in tallies}
    if table.attack == "spsa" and per_class - {PAPER_PER_CLASS}:
        found = sample_text(results, [table.attack])
        notes.append(f"{found}; the paper: the first {PAPER_PER_CLASS} of each class.")
    lost = frame.groupby("method", sort=False)["non_monotone"].max()
    if (lost > 0).any():
        worst = lost.idxmax()
        notes.append(
            "Some points are fooled at a level but not at a larger one (column non_monotone; "
            f"at most {int(lost.max()):,} points of a level, {worst}); worst_case counts them "
            "as fooled."
        )
    mismatches = sum(int(tally.frame["clean_mismatches"].iloc[0]) for tally in tallies)
    if mismatches:
        notes.append(
            f"At {mismatches:,} points the attack saw another clean prediction than the "
            "evaluation (rounding of another processor)."
        )
    ran = frame[frame["source"] != ""]
    remarks = dict.fromkeys(map(remark, ran["dataset"], ran["source"]))
    return notes + [f"{text[0].upper()}{text[1:]}." for text in remarks if text]


def _panels(frame: pd.DataFrame) -> list[Panel]:
    """Returns three panels of the paper's data set, and one for each added data set."""
    panels = []
    for position, (dataset, part) in enumerate(frame.groupby("dataset", sort=False)):
        sources = set(part["source"])
        extra = "" if position == 0 else f", added data set {dataset}"
        heading = with_synthetic_mark(f"Reproduced [95 % interval]{extra}", sources)
        panels.append(_panel(part, _reproduced_text, heading))
        if position == 0:
            panels.append(_panel(part, _published_text, "Published"))
            panels.append(
                _panel(part, _difference_text, with_synthetic_mark("Difference", sources))
            )
    return panels


def _panel(part: pd.DataFrame, cell: Callable[[Mapping[str, Any]], str], title: str) -> Panel:
    import pandas as pd

    rows: dict[str, dict[str, str]] = {}
    for row in plain(part):
        method = split_name(row["method"])[1]
        shown = rows.setdefault(row["method"], {"noise level": model_label(method)})
        shown[row["epsilon"]] = cell(row)
    added = [place for place, name in enumerate(rows) if split_name(name)[1] not in METHODS]
    sections = {added[0]: "Added models, not in the paper"} if added else {}
    return Panel(pd.DataFrame(list(rows.values())), title=title, sections=sections)


def _reproduced_text(row: Mapping[str, Any]) -> str:
    if row["reproduced"] is None:
        return NOT_RUN
    return with_interval(row["reproduced"], row["ci_low"], row["ci_high"], DECIMALS)


def _published_text(row: Mapping[str, Any]) -> str:
    return number(row["published"], 2)


def _difference_text(row: Mapping[str, Any]) -> str:
    if row["difference"] is None:
        return NOT_RUN if row["reproduced"] is None else "–"
    return signed(row["difference"], DECIMALS) + ("*" if outside(row) else "")


def outside(row: Mapping[str, Any]) -> bool:
    """Tells whether a published number lies outside the interval of the reproduced one."""
    return published_outside(row, PRINTED_DECIMALS)
