"""All published numbers on classification against the run, as coloured cells."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrobust.reporting import artefacts
from medrobust.reporting.matrix import LARGEST_SHOWN, draw_cells, draw_key, draw_scale
from medrobust.reporting.plotting import model_label
from medrobust.reporting.request import Request
from medrobust.reporting.rows import grey_text, plain, published_outside
from medrobust.studies.ima.results import (
    MAIN_TABLES,
    NORM_NAMES,
    PGD_ATTACKS,
    TABLES,
    PrintedNumbers,
    PrintedTable,
    budget_text,
    read_printed,
    read_results,
    sample_text,
    shown_sources,
)
from medrobust.studies.ima.tables import table_rows

if TYPE_CHECKING:
    import pandas as pd

#: Tables by their place in the picture.
_GRID = (("8", "9", "10"), ("11", "12", "13"), ("B1", "B2", "C4"), ("C5", "C6", "C7"))


def build_matrix(request: Request) -> list[Path]:
    """Writes all numbers on classification as coloured cells: reproduced minus published.

    Args:
        request: with the tallies of PGD.

    Returns:
        The files written.

    Raises:
        InputError: a tally is missing or wrong.
    """
    import pandas as pd

    from medrobust.reporting import plotting

    results, printed = read_results(request, PGD_ATTACKS), read_printed(request.published)
    frames = [table_rows(table, results, printed, request.context) for table in TABLES]
    frame = pd.concat([one for one in frames if not one.empty], ignore_index=True)
    frame = frame[frame["published"].notna()].reset_index(drop=True)
    decimals = {table.number: printed.decimals(table) for table in TABLES}
    frame["outside"] = [published_outside(r, decimals[r["table"]]) for r in plain(frame)]
    ran = frame["reproduced"].notna()
    within = int((ran & ~frame["outside"]).sum())
    with plotting.style():
        figure = _draw(frame, printed)
        return artefacts.write_figure_artefact(
            request.out_stem,
            figure,
            frame,
            title=f"All {len(frame)} numbers on classification: reproduced minus published",
            caption=(
                "Rows are training methods or settings of IMA, columns noise levels; each cell is "
                f"the difference in percentage points. Grey numbers: {grey_text(frame)}, rounding "
                f"allowed for ({within} of {int(ran.sum())} that ran); bold: outside. Hatched: "
                f"not run. Colours end at ±{100 * LARGEST_SHOWN:g} points. val: accuracy on "
                "clean validation points."
            ),
            context=request.context,
            sources=shown_sources(results, dict.fromkeys(table.dataset for table in TABLES)),
            n=sample_text(results, MAIN_TABLES),
            budget=budget_text(request, PGD_ATTACKS),
            inputs=[request.published, *results.files],
        )


def _draw(frame: pd.DataFrame, printed: PrintedNumbers) -> Any:
    from medrobust.reporting import plotting

    by_number = {table.number: table for table in TABLES}
    heights = [
        max(len(printed.methods(by_number[number])) for number in numbers) for numbers in _GRID
    ]
    figure = plotting.new_figure(plotting.DOUBLE_COLUMN, 2.15 + 0.155 * sum(heights))
    grid = figure.subplots(len(_GRID), 3, height_ratios=heights)
    image = None
    for row, numbers in zip(grid, _GRID, strict=True):
        for axes, number in zip(row, numbers, strict=True):
            table = by_number[number]
            part = frame[(frame["table"] == number) & (frame["dataset"] == table.dataset)]
            image = _draw_table(axes, part, table)
    draw_key(figure)
    draw_scale(figure, image, grid)
    return figure


def _draw_table(axes: Any, part: pd.DataFrame, table: PrintedTable) -> Any:
    rows = list(dict.fromkeys(part["method"]))
    columns = list(dict.fromkeys(part["epsilon"]))
    cells: dict[tuple[int, int], Mapping[str, Any]] = {
        (rows.index(row["method"]), columns.index(row["epsilon"])): row for row in plain(part)
    }
    return draw_cells(
        axes,
        cells,
        [_short(method) for method in rows],
        [_column(level) for level in columns],
        title=f"Table {table.number}: {table.dataset}, {NORM_NAMES[table.norm]}",
    )


def _short(method: str) -> str:
    """Returns a row's name; "emax=10dEps" as "10 steps"."""
    if method.startswith("emax="):
        return f"{method.removeprefix('emax=').removesuffix('dEps')} steps"
    return method.replace("beta=", "β ") if method.startswith("beta=") else model_label(method)


def _column(level: str) -> str:
    if level == "0(val)":
        return "val"
    return level.removeprefix("0") or "0"
