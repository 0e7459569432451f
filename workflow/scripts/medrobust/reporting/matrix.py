"""Differences of reproduced and published numbers as coloured cells, for the studies' matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

#: Difference at which the colours end, as a share.
LARGEST_SHOWN = 0.5
#: Of numbers within the interval, of cells that were not run, and of their hatching.
_WITHIN, _EMPTY, _HATCHING = "#6E6E6E", "#F2F2F2", {"hatch": "////", "edgecolor": "#CFCFCF"}


def draw_cells(
    axes: Any,
    cells: Mapping[tuple[int, int], Mapping[str, Any]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
) -> Any:
    """Draws one table of differences in percentage points, and returns its image.

    Args:
        axes: where.
        cells: (row, column) to a number with ``difference`` (a share; None: not run, hatched)
            and ``outside`` (printed bold).
        rows, columns: their names.
        title: of the table.
    """
    import matplotlib

    from medrobust.reporting import plotting

    values = np.full((len(rows), len(columns)), np.nan)
    for at, row in cells.items():
        values[at] = np.nan if row["difference"] is None else 100 * row["difference"]
    limit = 100 * LARGEST_SHOWN
    colours = matplotlib.colormaps["RdBu"].with_extremes(bad=_EMPTY)
    image = axes.imshow(values, cmap=colours, vmin=-limit, vmax=limit, aspect="auto")
    for (i, j), row in cells.items():
        if row["difference"] is None:
            _hatch(axes, i, j)
            continue
        strong = abs(values[i, j]) > 0.62 * limit
        axes.text(
            j,
            i,
            points_text(values[i, j]),
            ha="center",
            va="center",
            fontsize=5.6,
            fontweight="bold" if row["outside"] else "normal",
            color="white" if strong else plotting.ORIGINAL if row["outside"] else _WITHIN,
        )
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0, labelsize=6)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=6.5)
    return image


def draw_scale(figure: Any, image: Any, grid: Any) -> None:
    """Draws the scale of the colours below all tables.

    Args:
        figure: the picture.
        image: of one of its tables (:func:`draw_cells`).
        grid: the axes of all tables.
    """
    bar = figure.colorbar(
        image,
        ax=grid,
        orientation="horizontal",
        location="bottom",
        fraction=0.03,
        pad=0.02,
        aspect=50,
        extend="both",
    )
    bar.set_label("Reproduced minus published (percentage points)")


def draw_key(figure: Any) -> None:
    """Draws above all tables what the print of a number means, and the hatching."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    from medrobust.reporting import plotting

    def number(text: str, colour: str) -> Line2D:
        marker = {"marker": f"${text}$", "markersize": 8.5, "markeredgewidth": 0}
        return Line2D([], [], linestyle="none", color=colour, **marker)

    handles = {
        "published within the 95 % interval": number("+3", _WITHIN),
        "published outside it": number(r"\mathbf{+3}", plotting.ORIGINAL),
        "not run": Patch(facecolor=_EMPTY, linewidth=0, **_HATCHING),
    }
    figure.legend(
        list(handles.values()), list(handles), loc="outside upper center", ncols=len(handles)
    )


def points_text(value: float) -> str:
    """Returns a difference in whole percentage points: "+12", "−3", "0"."""
    rounded = round(value)
    return "0" if rounded == 0 else f"+{rounded}" if rounded > 0 else f"−{-rounded}"


def _hatch(axes: Any, i: int, j: int) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, linewidth=0, **_HATCHING))
