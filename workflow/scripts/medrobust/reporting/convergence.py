"""Figure of convergence: the distance that an attack has reached against its queries.

For each model and data set, from traces (:mod:`medrobust.evaluation.traces`): every point's
smallest distance over the restarts, all with the same number of queries, then quartiles over
points. A point without an adversarial example counts as infinitely far, so a curve begins where
half of the points have one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core.errors import InputError
from medrobust.evaluation.effort import iteration_counts
from medrobust.evaluation.statistics import upper_bound_text
from medrobust.evaluation.traces import StoredTraces, read_traces
from medrobust.reporting import artefacts
from medrobust.reporting.artefacts import NOT_RUN, RunContext
from medrobust.reporting.attack_runs import (
    NORM_LABELS,
    AttackFiles,
    Norm,
    by_dataset,
    counts,
    named,
)
from medrobust.reporting.plotting import model_label

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Numbers of queries at which a curve is computed.
BUDGETS = 240
#: How lines other than a model's own are drawn.
_ITERATE = {"color": "#222222", "linewidth": 0.7, "linestyle": (0, (4, 1.5)), "zorder": 4}
_OTHERS = {"color": "#C4C4C4", "linewidth": 0.7, "zorder": 1}
#: What quartiles at 0 and at infinity are drawn as, beyond the ends of any axis.
_FAR = (1e-30, 1e30)


@dataclass(frozen=True)
class Curve:
    """Distance against queries of the attack on one model on one data set.

    Attributes:
        dataset, model, source: as in :class:`medrobust.reporting.attack_runs.AttackFiles`.
        n: points, counted once per replicate.
        replicates: number of replicates pooled.
        restarts: restarts per point.
        budgets: int64 ``[m]``, queries per restart, ascending; empty where no run has begun.
        boundary: float64 ``[3, m]``, lower quartile, median and upper quartile over points of
            the smallest distance at the boundary; +inf where too few points have one.
        iterate: float64 ``[m]``, median of the smallest distance of unprojected iterates.
        with_example: int64 ``[m]``, points that have an adversarial example.
        marks: iterations to the median of the queries that runs spent on them.
    """

    dataset: str
    model: str
    source: str
    n: int
    replicates: int
    restarts: int
    budgets: np.ndarray
    boundary: np.ndarray
    iterate: np.ndarray
    with_example: np.ndarray
    marks: Mapping[int, float]


def quartiles(values: np.ndarray) -> np.ndarray:
    """Returns lower quartile, median and upper quartile over the first axis.

    Quartiles between two observations take the outer one, since nothing lies between a number and
    infinity; a median is the mean of the middle two.

    Args:
        values: ``[n, m]``, +inf allowed.

    Returns:
        float64 ``[3, m]``.
    """
    lower = np.quantile(values, 0.25, axis=0, method="lower")
    upper = np.quantile(values, 0.75, axis=0, method="higher")
    return np.stack([lower, np.median(values, axis=0), upper])


def convergence_curve(files: AttackFiles, replicates: Sequence[StoredTraces]) -> Curve:
    """Returns the curve of one model on one data set; points of all replicates are pooled.

    Args:
        files: whose traces these are.
        replicates: the traces of each replicate.

    Raises:
        InputError: the replicates have different numbers of restarts or iterations.
    """
    if len({(one.restarts, one.max_iter) for one in replicates}) > 1:
        raise InputError(
            "The replicates have different numbers of restarts or iterations.",
            where=f"{files.model} on {files.dataset}",
        )
    budgets = _budgets(replicates)
    parts = [one.within_queries(budgets) for one in replicates]
    boundary, iterate = (np.concatenate(values) for values in zip(*parts, strict=True))
    return Curve(
        files.dataset,
        files.model,
        files.source,
        len(boundary),
        len(replicates),
        replicates[0].restarts,
        budgets,
        quartiles(boundary),
        np.median(iterate, axis=0),
        np.isfinite(boundary).sum(axis=0),
        _marks(replicates),
    )


def _begun(one: StoredTraces) -> np.ndarray:
    """Tells of each run whether it attacked: it found a start, and the point needed one."""
    first = one.boundary[..., 0]
    return np.isfinite(first) & (first > 0)


def _budgets(replicates: Sequence[StoredTraces]) -> np.ndarray:
    """Returns numbers of queries from the first start to the end of the longest run."""
    queries = np.concatenate([one.queries[_begun(one)] for one in replicates])
    if not len(queries):
        return np.empty(0, dtype=np.int64)
    low, high = max(1, queries[:, 0].min()), queries[:, -1].max()
    steps = np.geomspace(low, high, BUDGETS)
    # Rounding must not lose the last iteration of the longest run.
    return np.unique(np.append(np.floor(steps).astype(np.int64), high))


def _marks(replicates: Sequence[StoredTraces]) -> dict[int, float]:
    queries = np.concatenate([one.queries[_begun(one)] for one in replicates])
    if not len(queries):
        return {}
    return {
        t: float(np.median(queries[:, t]))
        for t in iteration_counts(replicates[0].max_iter)
        if t > 0
    }


def build_convergence(
    models: Sequence[AttackFiles],
    out_stem: str | os.PathLike[str],
    context: RunContext,
    attack: str,
    *,
    norm: Norm = 2,
    notes: Sequence[str] = (),
) -> list[Path]:
    """Writes the figure of distance against queries for every model and data set with traces.

    Args:
        models: the attack on each model and data set, in the order to draw.
        out_stem: path without suffix.
        context: the run.
        attack: the attack and its budget in words.
        norm: the norm that the attack minimises.
        notes: lines on the data, for the provenance.

    Returns:
        The files written.

    Raises:
        InputError: no model, or traces that are not valid
            (:func:`medrobust.evaluation.traces.read_traces`).
    """
    from medrobust.reporting import plotting

    groups = by_dataset(models)
    curves, without = [], []
    for files in models:
        found = [read_traces(arrays) for arrays in files.arrays]
        if any(one is None for one in found):
            without.append((files.dataset, files.model))
        else:
            curves.append(convergence_curve(files, found))
    drawn = _drawn(curves)
    left_out = f" Not run (no trace was kept): {named(without)}." if without else ""
    with plotting.style():
        return artefacts.write_figure_artefact(
            out_stem,
            _draw(curves, norm) if curves else _nothing(),
            drawn,
            title="Convergence of the attack: distance against queries",
            caption=_caption(curves, norm) + left_out,
            context=context,
            sources={dataset: group[0].source for dataset, group in groups.items()},
            n=counts(drawn),
            budget=attack,
            notes=notes,
            inputs=[file for one in models for part in one.arrays for file in part],
        )


def _drawn(curves: Sequence[Curve]) -> pd.DataFrame:
    import pandas as pd

    columns = (
        *("dataset", "model", "queries_per_restart", "boundary_median", "boundary_lower_quartile"),
        *("boundary_upper_quartile", "iterate_median", "with_example", "n", "replicates"),
        *("restarts", "source"),
    )
    frames = [
        pd.DataFrame(
            {
                "dataset": one.dataset,
                "model": one.model,
                "queries_per_restart": one.budgets,
                "boundary_median": one.boundary[1],
                "boundary_lower_quartile": one.boundary[0],
                "boundary_upper_quartile": one.boundary[2],
                "iterate_median": one.iterate,
                "with_example": one.with_example,
                "n": one.n,
                "replicates": one.replicates,
                "restarts": one.restarts,
                "source": one.source,
            }
        )
        for one in curves
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(columns))


def _caption(curves: Sequence[Curve], norm: Norm) -> str:
    if not curves:
        return "Nothing is drawn: the engine of the attack keeps no traces."
    restarts = sorted({one.restarts for one in curves})
    times = _by_model(curves, [f"{one.restarts}" for one in curves])
    dots = _by_model(curves, [", ".join(map(str, sorted(one.marks))) for one in curves])
    most = max(one.replicates for one in curves)
    pooled = f" Points of all {most} replicates are pooled." if most > 1 else ""
    return (
        f"{NORM_LABELS[norm]} distance against queries per restart, both on logarithmic scales; "
        f"a point costs {times} times as many. For each point the smallest distance over the "
        "restarts, each with so many queries; thick line: the median over points of the distance "
        "at the decision boundary; band: its quartiles over points; dashed line: the median "
        "of the last unprojected iterate, which the paper reports. Points without an "
        "adversarial example count as infinitely far, so a line begins where half of the points "
        f"have one. Dots: iterations {dots}, at the median of their queries. "
        f"Grey: the medians at the boundary of the other models.{pooled} "
        f"{upper_bound_text(restarts)}"
    )


def _by_model(curves: Sequence[Curve], texts: Sequence[str]) -> str:
    """Returns what most curves have in common, and in brackets which ones have something else."""
    known: dict[str, list[Curve]] = {}
    for curve, text in zip(curves, texts, strict=True):
        if text:
            known.setdefault(text, []).append(curve)
    if not known:
        return "none"
    usual = max(known, key=lambda text: len(known[text]))
    others = [
        f"{named([(c.dataset, c.model) for c in own])}: {text}"
        for text, own in known.items()
        if text != usual
    ]
    return f"{usual} ({'; '.join(others)})" if others else usual


# --- drawing ----------------------------------------------------------------------------


def _nothing() -> Figure:
    from medrobust.reporting import plotting

    figure = plotting.new_figure(plotting.SINGLE_COLUMN, 1.4)
    figure.text(0.5, 0.6, f"{NOT_RUN}: no engine that keeps traces", ha="center", va="center")
    return figure


def _draw(curves: Sequence[Curve], norm: Norm) -> Figure:
    """Draws a panel for each model, and a block of panels for each data set."""
    from medrobust.reporting import plotting

    datasets = list(dict.fromkeys(one.dataset for one in curves))
    widest = max(sum(one.dataset == name for one in curves) for name in datasets)
    # So that it fits on a page.
    columns = plotting.panels_across(widest, 3 if len(datasets) < 3 else 6)
    rows = {name: -(-sum(c.dataset == name for c in curves) // columns) for name in datasets}
    height = 0.5 + 1.75 * sum(rows.values())
    figure = plotting.new_figure(plotting.DOUBLE_COLUMN, height)
    blocks = figure.subfigures(len(datasets), 1, height_ratios=list(rows.values()), squeeze=False)
    for block, name in zip(blocks.flat, datasets, strict=True):
        shown = [one for one in curves if one.dataset == name]
        source = shown[0].source
        synthetic = f" ({artefacts.SYNTHETIC})" if artefacts.is_synthetic(source) else ""
        block.suptitle(f"{name}{synthetic}", x=0.01, ha="left", fontsize=9, fontweight="bold")
        panels = block.subplots(rows[name], columns, sharex=True, sharey=True, squeeze=False)
        for axes, one in zip(panels.flat, shown, strict=False):
            _panel(axes, one, shown)
        _finish(panels, shown, norm)
        block.supxlabel("Queries per restart", fontsize=8)
    _legend(blocks.flat[0])
    return figure


def _legend(block: Any) -> None:
    """Names the kinds of lines, beside the heading of a data set."""
    from matplotlib.lines import Line2D

    lines = {
        "at the boundary, with quartiles": {"color": "#666666", "linewidth": 1.5},
        "last iterate, unprojected": _ITERATE,
        "other models": _OTHERS,
    }
    handles = [Line2D([], [], label=name, **look) for name, look in lines.items()]
    block.legend(handles=handles, loc="upper right", ncols=len(handles), borderaxespad=0.2)


def _panel(axes: Axes, curve: Curve, shown: Sequence[Curve]) -> None:
    """Draws one model in colour over the medians of the others on its data set."""
    from medrobust.reporting import plotting

    for other in shown:
        if other is not curve:
            x, median = _visible(other.budgets, other.boundary[1])
            axes.plot(x, median, **_OTHERS, drawstyle="steps-post")
    axes.set_title(model_label(curve.model))
    colour = plotting.model_colour(curve.model)
    x, median = _visible(curve.budgets, curve.boundary[1])
    if not len(x):
        text = "the median distance\nis 0 or infinite"
        axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, fontsize=7)
        return
    band = np.clip(curve.boundary[:, np.isin(curve.budgets, x)], *_FAR)
    axes.fill_between(x, band[0], band[2], step="post", color=colour, alpha=0.22, linewidth=0)
    axes.plot(x, median, color=colour, linewidth=1.5, zorder=3, drawstyle="steps-post")
    axes.plot(*_visible(curve.budgets, curve.iterate), **_ITERATE, drawstyle="steps-post")
    dots = np.array([queries for queries in curve.marks.values() if queries >= x[0]])
    heights = median[np.searchsorted(x, dots, side="right") - 1]
    axes.plot(dots, heights, "o", color=colour, markersize=3.5, zorder=3)


def _visible(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns what logarithmic axes can show: neither 0 nor infinity."""
    shown = np.isfinite(y) & (y > 0)
    return x[shown], y[shown]


def _finish(panels: Any, shown: Sequence[Curve], norm: Norm) -> None:
    """Sets the axes of a data set's panels, which they share, and takes away empty panels."""
    from matplotlib.ticker import LogLocator, NullFormatter

    heights = [_visible(c.budgets, y)[1] for c in shown for y in (*c.boundary[:2], c.iterate)]
    heights = np.concatenate(heights)
    columns = panels.shape[1]
    for position, axes in enumerate(panels.flat):
        if position >= len(shown):
            axes.remove()
            continue
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        if heights.size:
            axes.set_ylim(heights.min() / 1.15, heights.max() * 1.15)
        if position + columns >= len(shown):
            axes.tick_params(labelbottom=True)
        if position % columns == 0:
            axes.set_ylabel(f"{NORM_LABELS[norm]} distance")
