"""Curves of ima: accuracy by noise level (Figures 7 and 8), with decision regions (Figure 6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.reporting import artefacts
from medrobust.reporting.artefacts import NOT_RUN
from medrobust.reporting.levels import curve_frame, draw_curve, share_axis
from medrobust.reporting.plotting import model_label
from medrobust.reporting.request import Entry, Request
from medrobust.studies.ima.results import (
    FASHION,
    L2,
    LINF,
    MOONS,
    NORM_NAMES,
    SVHN,
    ImaResults,
    PrintedNumbers,
    PrintedTable,
    attack_text,
    budget_text,
    in_order,
    main_table,
    method_of,
    model_in,
    read_printed,
    read_results,
    sample_text,
    shown_sources,
)

if TYPE_CHECKING:
    import pandas as pd

REPRODUCED, PUBLISHED = "reproduced", "published"
#: Ends of a band: with several trainings, and with one.
RANGE, INTERVAL = ("lowest", "highest"), ("ci_low", "ci_high")
_BAND_ALPHA = 0.16
COLUMNS = (
    "part",
    "origin",
    "dataset",
    "norm",
    "method",
    "epsilon",
    "value",
    "ci_low",
    "ci_high",
    "lowest",
    "highest",
    "replicates",
    "source",
)
_TEXT = ("part", "origin", "dataset", "norm", "method", "source")


# --- numbers ----------------------------------------------------------------------------


def curve_points(
    table: PrintedTable, results: ImaResults, printed: PrintedNumbers, part: str = "curves"
) -> pd.DataFrame:
    """Returns what the curves of a table show.

    Returns:
        The columns :data:`COLUMNS`: ``origin`` is "reproduced" or "published"; the interval, the
        range over replicates and the source are of reproduced numbers.
    """
    added = [
        method_of(model)
        for model in results.models[table.dataset]
        if model not in printed.models(table.dataset)
        and results.of(table.dataset, model, table.attack)
    ]
    rows = []
    levels = sorted({*printed.levels(table), *results.levels(table.attack, table.dataset)})
    for method in in_order(dict.fromkeys([*printed.methods(table), *added])):
        named = {"part": part, "dataset": table.dataset, "norm": table.norm, "method": method}
        for level in levels:
            value = printed.value(table, method, f"{level:g}")
            if value is not None:
                rows.append({**named, "origin": PUBLISHED, "epsilon": level, "value": value})
            rows += _reproduced(table, results, named, level)
    return curve_frame(rows, COLUMNS, _TEXT)


def _reproduced(
    table: PrintedTable, results: ImaResults, named: dict[str, Any], level: float
) -> list[dict[str, Any]]:
    model = model_in(table, results, table.dataset, named["method"])
    one = results.estimate(table.dataset, model, table.attack, level)
    if one is None:
        return []
    shares = results.shares(table.dataset, model, table.attack, level)
    return [
        {
            **named,
            "origin": REPRODUCED,
            "epsilon": level,
            "value": one.value,
            "ci_low": one.ci_low,
            "ci_high": one.ci_high,
            "lowest": min(shares),
            "highest": max(shares),
            "replicates": one.replicates,
            "source": results.sources[table.dataset],
        }
    ]


def missing_text(drawn: pd.DataFrame) -> str:
    """Returns which printed methods have no curve of this run, as a sentence; "" for none."""
    ran = set(drawn.loc[drawn["origin"] == REPRODUCED, "method"])
    missing = [m for m in dict.fromkeys(drawn["method"]) if m not in ran]
    return f" Not run: {', '.join(map(model_label, missing))}." if missing else ""


# --- what lines and bands are -----------------------------------------------------------


@dataclass(frozen=True)
class RunLines:
    """What the solid lines of a picture are, and their bands, in words.

    Attributes:
        line: in a legend.
        band: in a legend.
        caption: both, as a clause.
    """

    line: str
    band: str
    caption: str


def run_lines(drawn: pd.DataFrame) -> RunLines | None:
    """Returns what this run's lines and bands are; None where nothing was run.

    Args:
        drawn: rows of :func:`curve_points`, of one table or several.
    """
    ours = drawn[drawn["origin"] == REPRODUCED]
    if ours.empty:
        return None
    curves = [curve for _, curve in ours.groupby(["dataset", "norm", "method"])]
    ranges = [band_ends(curve) == RANGE for curve in curves]
    counts = sorted({int(one) for one in ours["replicates"]})
    number = " to ".join(map(str, dict.fromkeys([counts[0], counts[-1]])))
    if all(ranges):
        line, band = f"mean of {number} trainings", "lowest to highest training"
        caption = f"the mean of {number} trainings; bands: from the lowest to the highest of them"
    elif not any(ranges) and counts == [1]:
        line, band = "one training", "95 % interval"
        caption = "one training; bands: the 95 % interval over test points"
    else:
        line = f"mean of {number} trainings"
        band = "lowest to highest training, or 95 % interval"
        caption = (
            f"the mean of {number} trainings; bands: from the lowest to the highest of them, and "
            "the 95 % interval of models trained once"
        )
    return RunLines(f"this run, {line}", band, caption)


def curve_note(drawn: pd.DataFrame) -> str:
    """Returns what the lines and bands of :func:`draw_curves` are, for a caption."""
    printed = "the printed numbers, one training each."
    ours = run_lines(drawn)
    if ours is None:
        return f"Dashed lines: {printed}"
    return f"Solid lines, with marks: this run, {ours.caption}. Dashed lines: {printed}"


def band_ends(curve: pd.DataFrame) -> tuple[str, str]:
    """Returns the columns between which the band of one curve of this run lies."""
    return RANGE if (curve["replicates"] > 1).all() else INTERVAL


# --- curves -----------------------------------------------------------------------------


def draw_curves(axes: Any, drawn: pd.DataFrame, *, norm: str) -> None:
    """Draws accuracy by noise level, this run's and the printed one.

    Args:
        axes: where.
        drawn: rows of :func:`curve_points` of one table.
        norm: "Linf" or "L2".
    """
    from medrobust.reporting import plotting

    for (method, origin), curve in drawn.groupby(["method", "origin"], sort=False):
        style = plotting.model_style(method)
        front = 1 if method == "IMA" else 0
        if origin == PUBLISHED:
            axes.plot(
                curve["epsilon"],
                curve["value"],
                color=style["color"],
                linestyle=(0, (3.2, 1.8)),
                linewidth=0.8,
                alpha=0.85,
                zorder=2 + front,
            )
            continue
        draw_curve(
            axes,
            curve["epsilon"],
            curve,
            style | {"linestyle": "-"},
            ends=band_ends(curve),
            linewidth=1.2 + 0.4 * front,
            zorder=4 + front,
            alpha=_BAND_ALPHA,
        )
    share_axis(axes, step=0.2)
    axes.set_xlim(0, max(drawn["epsilon"], default=1.0) * 1.02)
    axes.set_xlabel(f"Noise level ε ({NORM_NAMES[norm]})")
    if not (drawn["origin"] == REPRODUCED).any():
        # Below the legend.
        axes.text(0.97, 0.62, "this run: not run", transform=axes.transAxes, ha="right", va="top")


def legend_of(target: Any, drawn: pd.DataFrame, *, brief: bool = True, **settings: Any) -> None:
    """Draws a legend of the methods, and of the two kinds of lines.

    Args:
        target: a figure or axes.
        drawn: rows of :func:`curve_points`.
        brief: leave to the caption what bands are, and of how many trainings lines are: for a
            legend that has no room for it.
        settings: of matplotlib's legend.
    """
    _draw_legend(target, [*_method_handles(drawn), *_line_handles(drawn, brief=brief)], settings)


def _draw_legend(target: Any, handles: Sequence[Any], settings: Mapping[str, Any]) -> None:
    target.legend(handles=handles, handlelength=2.2, columnspacing=1.2, **settings)


def _method_handles(drawn: pd.DataFrame) -> list[Any]:
    from matplotlib.lines import Line2D

    from medrobust.reporting import plotting

    handles = []
    for method in in_order(dict.fromkeys(drawn["method"])):
        style = plotting.model_style(method)
        handles.append(
            Line2D(
                [],
                [],
                color=style["color"],
                marker=style["marker"],
                markersize=4,
                markeredgewidth=0.4 if style["marker"] not in "123" else 0.9,
                markeredgecolor="white" if style["marker"] not in "123" else style["color"],
                label=model_label(method),
            )
        )
    return handles


def _line_handles(drawn: pd.DataFrame, *, brief: bool = False) -> list[Any]:
    """Returns what explains the lines and bands; those of this run where there are any."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    from medrobust.reporting import plotting

    grey, handles = {"color": plotting.MUTED}, []
    ours = run_lines(drawn)
    if ours is not None:
        handles.append(Line2D([], [], **grey, label="this run" if brief else ours.line))
    if ours is not None and not brief:
        # Darker than one band: grey is paler than the methods' colours.
        handles.append(Patch(**grey, alpha=2 * _BAND_ALPHA, linewidth=0, label=ours.band))
    handles.append(Line2D([], [], **grey, linestyle=(0, (3.2, 1.8)), label="as printed"))
    return handles


_PAIRS = {7: FASHION, 8: SVHN}


def draw_pair(request: Request, *, number: int) -> list[Path]:
    """Writes the figure with the number ``number``; see :func:`build_pair`."""
    return build_pair(number, request)


def build_pair(number: int, request: Request) -> list[Path]:
    """Writes Figure 7 or 8: accuracy by noise level in Linf and in L2.

    Args:
        number: of the figure.
        request: with the tallies of both attacks.

    Returns:
        The files written.

    Raises:
        InputError: a tally is missing or wrong.
    """
    import pandas as pd

    from medrobust.reporting import plotting

    dataset = _PAIRS[number]
    tables = [main_table(dataset, norm) for norm in (LINF, L2)]
    attacks = [table.attack for table in tables]
    results, printed = read_results(request, attacks), read_printed(request.published)
    parts = [curve_points(table, results, printed) for table in tables]
    drawn = pd.concat(parts, ignore_index=True)
    added = "".join(_ddn_note(table, printed) for table in tables)
    with plotting.style():
        figure = plotting.new_figure(plotting.DOUBLE_COLUMN, 4.1)
        panels = figure.subplots(1, 2, sharey=True)
        for letter, axes, table, part in zip("ab", panels, tables, parts, strict=True):
            draw_curves(axes, part, norm=table.norm)
            axes.set_title(f"({letter}) Trained and attacked in {NORM_NAMES[table.norm]}")
            _draw_legend(axes, _method_handles(part), {"loc": "upper right", "ncols": 2})
        _draw_legend(figure, _line_handles(drawn), {"loc": "outside upper center", "ncols": 3})
        panels[0].set_ylabel("Accuracy")
        missing = "".join(
            f" {NORM_NAMES[table.norm]}:{missing_text(part)}"
            for table, part in zip(tables, parts, strict=True)
            if missing_text(part)
        )
        return artefacts.write_figure_artefact(
            request.out_stem,
            figure,
            drawn,
            title=f"Figure {number}. {dataset}: accuracy under attack",
            caption=(
                "Accuracy by noise level of models trained and attacked in (a) L∞ and (b) L2; the "
                f"model ce is the same in both. {curve_note(drawn)}{added}{missing}"
            ),
            context=request.context,
            sources=shown_sources(results, (dataset,)),
            n=sample_text(results, tables),
            budget=budget_text(request, attacks),
            inputs=[request.published, *results.files],
        )


def _ddn_note(table: PrintedTable, printed: PrintedNumbers) -> str:
    """Returns where DDN's curve is from: the paper's text does not speak of this method."""
    if "DDN" not in printed.methods(table):
        return ""
    return (
        f" DDN in {NORM_NAMES[table.norm]} is drawn from the numbers of Table {table.number}; the "
        "paper's text does not speak of it."
    )


# --- Moons ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plane:
    """A model of two-dimensional data, evaluated on a grid.

    Attributes:
        method: as printed.
        replicate: number of the training.
        first: float64 ``[w]``, coordinates of the columns.
        second: float64 ``[h]``, of the rows.
        probability: float64 ``[h, w]``, of class 1, in [0, 1].
        points: float64 ``[k, 2]``, test points.
        labels: int ``[k]``.
    """

    method: str
    replicate: int
    first: np.ndarray
    second: np.ndarray
    probability: np.ndarray
    points: np.ndarray
    labels: np.ndarray


_PLANE = ("first", "second", "probability", "points", "labels")
#: Colours of the two classes: regions light, points dark.
_REGIONS, _POINTS = ("#D6E6F2", "#F8DDCF"), ("#0072B2", "#C4451C")
#: Every so many columns and rows of a grid stand in the figure's CSV.
_GRID_STEP = 8


def read_plane(entry: Entry) -> Plane:
    """Reads the grid of a model.

    Raises:
        InputError: the file is missing, or is no such grid.
    """
    found = io.read_tensors(entry.plane)
    missing = set(_PLANE) - set(found)
    shape = None if missing else (len(found["second"]), len(found["first"]))
    if missing or found["probability"].shape != shape or found["points"].ndim != 2:
        raise InputError(
            "This is not a model evaluated on a grid of the plane.",
            where=entry.plane,
            remedy="delete the file and run the same command.",
        )
    arrays = {name: found[name].astype(np.float64) for name in _PLANE[:-1]}
    labels = found["labels"].astype(np.int64)
    return Plane(method_of(entry.model), entry.replicate, **arrays, labels=labels)


def build_moons(request: Request) -> list[Path]:
    """Writes Figure 6: decision regions and accuracy by noise level on Moons.

    Args:
        request: with the tallies of its attack and the grids of its models.

    Returns:
        The files written.

    Raises:
        InputError: a file is missing or wrong.
    """
    import pandas as pd

    from medrobust.reporting import plotting

    table = main_table(MOONS, LINF)
    results, printed = read_results(request, [table.attack]), read_printed(request.published)
    drawn = curve_points(table, results, printed)
    planes, files = _first_planes(request)
    methods = in_order(dict.fromkeys([*printed.methods(table), *planes]))
    grid_rows = _grid_rows(planes.values(), results.sources.get(MOONS, ""))
    with plotting.style():
        rows = -(-len(methods) // 5)
        figure = plotting.new_figure(plotting.DOUBLE_COLUMN, 3.5 + 1.35 * rows)
        above, below = figure.subfigures(2, 1, height_ratios=(1.45 * rows, 3.2))
        grid = above.subplots(rows, 5, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, method in zip(grid, methods, strict=False):
            draw_regions(axes, planes.get(method))
            axes.set_title(f"{model_label(method)}", fontsize=7.5)
        for axes in grid[len(methods) :]:
            axes.set_visible(False)
        axes = below.subplots()
        draw_curves(axes, drawn, norm=LINF)
        axes.set_ylabel("Accuracy")
        lowest = min(drawn["value"].min(), drawn["lowest"].min())
        axes.set_ylim(np.floor(10 * lowest) / 10 if np.isfinite(lowest) else 0, 1)
        legend_of(axes, drawn, brief=False, loc="lower left", ncols=2)
        return artefacts.write_figure_artefact(
            request.out_stem,
            figure,
            pd.concat([drawn, grid_rows], ignore_index=True),
            title="Figure 6. Moons: decision regions, and accuracy under attack",
            caption=(
                f"Above: regions of the two classes by model{_shown_replicates(planes)}, the line "
                "where both have probability 0.5, and the test points of both classes. Below: "
                f"accuracy by noise level. {curve_note(drawn)}{missing_text(drawn)} The method adv "
                f"of Table {table.number} is adv0.3 in the paper's text, trained with ε = 0.3. "
                "The axis of accuracy does not begin at 0. Coordinates are those that the points "
                f"were generated in; the CSV has every {_GRID_STEP}th column and row of the grids."
            ),
            context=request.context,
            sources=shown_sources(results, (MOONS,)),
            n=sample_text(results, [table]),
            budget=attack_text(request, table.attack),
            inputs=[request.published, *results.files, *files],
        )


def _first_planes(request: Request) -> tuple[dict[str, Plane], list[str]]:
    """Returns the grid of the first replicate of each method on Moons, and the files read."""
    entries = [entry for entry in request.entries if entry.plane and entry.dataset == MOONS]
    first: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda one: one.replicate):
        first.setdefault(method_of(entry.model), entry)
    planes = {method: read_plane(entry) for method, entry in first.items()}
    return planes, [entry.plane for entry in first.values()]


def _shown_replicates(planes: dict[str, Plane]) -> str:
    numbers = sorted({plane.replicate for plane in planes.values()})
    return f" (training {', '.join(map(str, numbers))})" if numbers else " (none were mapped)"


def draw_regions(axes: Any, plane: Plane | None) -> None:
    """Draws the regions of both classes, the boundary and the test points."""
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color("#BBBBBB")
    if plane is None:
        axes.text(0.5, 0.5, NOT_RUN, transform=axes.transAxes, ha="center", va="center")
        return
    axes.contourf(
        plane.first, plane.second, plane.probability, levels=[-0.1, 0.5, 1.1], colors=_REGIONS
    )
    axes.contour(
        plane.first,
        plane.second,
        plane.probability,
        levels=[0.5],
        colors="#222222",
        linewidths=0.9,
        zorder=4,
    )
    for label, colour in enumerate(_POINTS):
        chosen = plane.points[plane.labels == label]
        axes.plot(
            *chosen.T,
            ".",
            color=colour,
            markersize=1.7,
            markeredgewidth=0,
            rasterized=True,
            zorder=3,
        )


def _grid_rows(planes: Iterable[Plane], source: str) -> pd.DataFrame:
    import pandas as pd

    frames: Sequence[pd.DataFrame] = [
        pd.DataFrame(
            {
                "part": "regions",
                "method": plane.method,
                "replicate": plane.replicate,
                "source": source,
                "first": np.tile(plane.first[::_GRID_STEP], len(plane.second[::_GRID_STEP])),
                "second": np.repeat(plane.second[::_GRID_STEP], len(plane.first[::_GRID_STEP])),
                "value": plane.probability[::_GRID_STEP, ::_GRID_STEP].ravel(),
            }
        )
        for plane in planes
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
