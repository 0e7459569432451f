"""Curves that serve any study: accuracy under attack by noise level, with bands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrobust.reporting import artefacts
from medrobust.reporting.generic_results import (
    NORM_LABELS,
    interval_text,
    read_robust_results,
)
from medrobust.reporting.generic_rows import read_printed, robust_rows
from medrobust.reporting.generic_tables import attacks_in_words, robust_points
from medrobust.reporting.levels import draw_curve, model_legend, share_axis
from medrobust.reporting.plotting import model_label
from medrobust.reporting.request import Request
from medrobust.reporting.rows import dataset_sources, draw_not_run

if TYPE_CHECKING:
    import pandas as pd

TITLE = "Accuracy under attack, by noise level"
#: Columns of the CSV, those of the table of the same numbers.
COLUMNS = (
    "dataset",
    "attack",
    "norm",
    "method",
    "epsilon",
    "published",
    "reproduced",
    "ci_low",
    "ci_high",
    "n",
    "replicates",
    "interval",
    "folds",
    "source",
)
#: Panels beside each other, at most.
_COLUMNS = 3


def draw_robust_curves(request: Request) -> list[Path]:
    """Writes accuracy by noise level: a panel for each data set and attack, a curve for each model.

    Args:
        request: with tallies.

    Returns:
        The files written.

    Raises:
        InputError: a tally is missing or wrong.
    """
    from medrobust.reporting import plotting

    results = read_robust_results(request)
    if not results.tallies:
        return draw_not_run(request, TITLE, "the attacks within a ball")
    frame = robust_rows(request, results, read_printed(request))
    drawn = frame[list(COLUMNS)].astype({"epsilon": "float64"})
    dashed = " Dashed: the published numbers." if drawn["published"].notna().any() else ""
    with plotting.style():
        figure = _draw(drawn)
        return artefacts.write_figure_artefact(
            request.out_stem,
            figure,
            drawn,
            title=TITLE,
            caption=(
                "Share of the test points that are classified correctly, by the radius ε of the "
                "attack (0: without attack). Bands are the intervals."
                f"{interval_text(frame)}{dashed}"
            ),
            context=request.context,
            sources=dataset_sources(request.entries, ()),
            n=robust_points(results),
            budget=attacks_in_words(request, [attack for _, attack in results.attacks()]),
            inputs=[*([request.published] if request.published else []), *results.files],
        )


def _draw(drawn: pd.DataFrame) -> Any:
    from medrobust.reporting import plotting

    parts = list(drawn.groupby(["dataset", "attack"], sort=False))
    across = plotting.panels_across(len(parts), _COLUMNS)
    down = -(-len(parts) // across)
    width = plotting.SINGLE_COLUMN if across == 1 else plotting.DOUBLE_COLUMN
    figure = plotting.new_figure(width, 0.9 + 2.3 * down)
    grid = figure.subplots(down, across, sharey=True, squeeze=False)
    for axes, ((dataset, attack), part) in zip(grid.ravel(), parts, strict=False):
        _draw_panel(axes, part, f"{dataset}, {attack}")
    for axes in grid.ravel()[len(parts) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel("Accuracy")
    model_legend(figure, grid.ravel())
    return figure


def _draw_panel(axes: Any, part: pd.DataFrame, title: str) -> None:
    from medrobust.reporting import plotting

    for method, curve in part.groupby("method", sort=False):
        style = plotting.model_style(method)
        ran = curve[curve["reproduced"].notna()].rename(columns={"reproduced": "value"})
        solid = style | {"linestyle": "-"}  # dashes are what is in print
        draw_curve(axes, ran["epsilon"], ran, solid, label=model_label(method))
        printed = curve[curve["published"].notna()]
        if not printed.empty:
            _draw_published(axes, printed, style["color"])
    axes.set_title(title)
    axes.set_xlim(0, part["epsilon"].max() * 1.02)
    axes.set_xlabel(f"Noise level ε ({NORM_LABELS[part['norm'].iloc[0]]})")
    share_axis(axes, step=0.2)


def _draw_published(axes: Any, printed: pd.DataFrame, colour: str) -> None:
    dashes: Sequence[Any] = (0, (3.2, 1.8))
    axes.plot(
        printed["epsilon"],
        printed["published"],
        color=colour,
        linestyle=dashes,
        linewidth=0.8,
        zorder=2,
    )
