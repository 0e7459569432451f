"""Figures of nsr: curves (1, 2, 4 to 7), the geometry (3), one beat at all levels (8), matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.reporting import artefacts
from medrobust.reporting.comparison import read_published
from medrobust.reporting.levels import curve_frame, draw_curve, model_legend, share_axis
from medrobust.reporting.matrix import LARGEST_SHOWN, draw_cells, draw_key, draw_scale
from medrobust.reporting.plotting import model_label
from medrobust.reporting.request import Request
from medrobust.reporting.rows import (
    MITBIH_SAMPLING_RATE,
    covered,
    draw_not_run,
    grey_text,
    level_text,
    plain,
)
from medrobust.studies.nsr.results import (
    DATASET,
    LEVELS,
    METHODS,
    METRIC_NAMES,
    METRICS,
    NETWORKS,
    PRINTED_ATTACKS,
    STUDY,
    TABLES,
    NsrResults,
    Printed,
    absent_classes,
    attack_text,
    budget_text,
    model_name,
    read_printed,
    read_results,
    sample_text,
    split_name,
)
from medrobust.studies.nsr.tables import outside, table_rows

if TYPE_CHECKING:
    import pandas as pd


# --- curves -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Curves:
    """One of the paper's figures of curves.

    Attributes:
        number: of the figure.
        attack: name in the study.
        network: "MLP" or "CNN".
    """

    number: int
    attack: str
    network: str


CURVES = (
    Curves(1, "pgd100", "MLP"),
    Curves(2, "pgd100", "CNN"),
    Curves(4, "pgd20", "MLP"),
    Curves(5, "pgd20", "CNN"),
    Curves(6, "spsa", "MLP"),
    Curves(7, "spsa", "CNN"),
)


def draw_curves(request: Request, *, number: int) -> list[Path]:
    """Writes the figure with the number ``number``; see :func:`build_curves`."""
    return build_curves(next(curves for curves in CURVES if curves.number == number), request)


def build_curves(curves: Curves, request: Request) -> list[Path]:
    """Writes accuracy and precision by noise level, of this run above, as printed below.

    Args:
        curves: which figure.
        request: with the tallies of its attack.

    Returns:
        The files written.

    Raises:
        InputError: a tally is missing or wrong.
    """
    from medrobust.reporting import plotting

    results = read_results(request, [curves.attack], curves.network)
    drawn = curve_points(curves, results, read_printed(request.published))
    attack = PRINTED_ATTACKS[curves.attack]
    missing = sorted(set(METHODS) - _methods(drawn, "reproduced"), key=METHODS.index)
    with plotting.style():
        figure = _draw_curves(curves, drawn)
        return artefacts.write_figure_artefact(
            request.out_stem,
            figure,
            drawn,
            title=f"Figure {curves.number}. {attack} attack on the {curves.network}s",
            caption=(
                "(a) Accuracy and (b) precision (unweighted mean over classes; 0 for a class never "
                "predicted) by noise level, whose steps are not to scale, as in the paper. Above: "
                "this run, with 95 % intervals over "
                f"{covered(map(len, results.tallies.values()))}. Below: the printed numbers, with "
                "two decimals."
                + (f" Not run: {', '.join(map(model_label, missing))}." if missing else "")
                + "".join(f" {text}" for text in absent_classes(results, request.class_names))
            ),
            context=request.context,
            sources=results.sources,
            n=sample_text(results, [curves.attack]),
            budget=attack_text(request, curves.attack),
            inputs=[request.published, *results.files],
        )


def curve_points(curves: Curves, results: NsrResults, printed: Printed) -> pd.DataFrame:
    """Returns what the curves show.

    Returns:
        ``origin`` ("reproduced", "published"), ``metric``, ``method``, ``epsilon``, ``value``,
        ``ci_low``, ``ci_high`` (NaN for published), ``source`` (empty for published).
    """
    rows = []
    for metric in METRICS:
        for model in results.models[DATASET]:
            network, method = split_name(model)
            if network not in (curves.network, ""):
                continue
            for epsilon in sorted({*LEVELS, *results.levels(curves.attack, DATASET)}):
                shared_part = {"metric": metric, "method": method, "epsilon": epsilon}
                key = (model, curves.attack, metric, epsilon)
                if key in printed:
                    rows.append({"origin": "published", **shared_part, "value": printed[key]})
                one = results.estimate(model, curves.attack, epsilon, metric)
                if one is not None:
                    rows.append(
                        {
                            "origin": "reproduced",
                            **shared_part,
                            "value": one.value,
                            "ci_low": one.ci_low,
                            "ci_high": one.ci_high,
                            "source": results.sources[DATASET],
                        }
                    )
    columns = ["origin", "metric", "method", "epsilon", "value", "ci_low", "ci_high", "source"]
    return curve_frame(rows, columns, text=("origin", "metric", "method", "source"))


def _methods(drawn: pd.DataFrame, origin: str) -> set[str]:
    return set(drawn.loc[drawn["origin"] == origin, "method"])


def _draw_curves(curves: Curves, drawn: pd.DataFrame) -> Any:
    from medrobust.reporting import plotting

    figure = plotting.new_figure(plotting.DOUBLE_COLUMN, 6.6)
    grid = figure.subplots(2, 2, sharex=True, sharey=True)
    levels = sorted(set(drawn["epsilon"]))
    origins = {"reproduced": "this run", "published": "as printed"}
    for row, origin in enumerate(origins):
        for column, metric in enumerate(METRICS):
            axes = grid[row][column]
            part = drawn[(drawn["origin"] == origin) & (drawn["metric"] == metric)]
            _draw_panel(axes, part, levels)
            letter = "ab"[column]
            axes.set_title(f"({letter}) {METRIC_NAMES[metric].capitalize()}, {origins[origin]}")
            if part.empty:
                axes.text(0.5, 0.5, "not run", transform=axes.transAxes, ha="center")
            if column == 0:
                axes.set_ylabel("Share")
            if row == 1:
                axes.set_xlabel("Noise level ε (L∞)")
    model_legend(figure, grid.ravel(), [model_label(method) for method in METHODS])
    return figure


def _draw_panel(axes: Any, part: pd.DataFrame, levels: Sequence[float]) -> None:
    from medrobust.reporting import plotting

    place = {level: position for position, level in enumerate(levels)}
    for method, curve in part.groupby("method", sort=False):
        proposed = method in ("loss1", "loss2")
        draw_curve(
            axes,
            [place[level] for level in curve["epsilon"]],
            curve,
            plotting.model_style(method),
            label=model_label(method),
            linewidth=1.7 if proposed else 1.0,
            zorder=3 if proposed else 2,
            alpha=0.13,
        )
    axes.set_xticks(range(len(levels)), [level_text(level) for level in levels])
    axes.set_xlim(-0.15, len(levels) - 0.85)
    share_axis(axes, step=0.1)


# --- geometry ---------------------------------------------------------------------------


def nearest_sign_change(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Returns the smallest perturbation (L2) after which w.x is 0: -(w.x / w.w) w.

    Args:
        x: float64 ``[d]``.
        w: float64 ``[d]``, not 0.
    """
    return -(w @ x) / (w @ w) * w


#: Angle in degrees between x and w in the two panels.
FAR, NEAR = 70.0, 15.0


def build_geometry(request: Request) -> list[Path]:
    """Writes Figure 3: x, w_y and the smallest perturbation that changes the sign of w_y.x."""
    import pandas as pd

    from medrobust.reporting import plotting

    x = np.array([0.9, 0.55])
    x = x / np.linalg.norm(x)
    rows = []
    with plotting.style():
        figure = plotting.new_figure(plotting.DOUBLE_COLUMN, 3.7)
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        for letter, axes, angle in zip("ab", panels, (FAR, NEAR), strict=True):
            turn = np.deg2rad(angle)
            rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            w = rotation @ x
            step = nearest_sign_change(x, w)
            _draw_geometry(axes, x, w, step)
            axes.set_title(f"({letter}) angle {angle:g}°: ‖ε‖ = {np.linalg.norm(step):.2f} ‖x‖")
            rows.append(
                {
                    "panel": letter,
                    "angle_degrees": angle,
                    **{
                        f"{n}_{i + 1}": v[i]
                        for n, v in (("x", x), ("w", w), ("epsilon", step))
                        for i in (0, 1)
                    },
                    "epsilon_norm_over_x_norm": float(np.linalg.norm(step)),
                }
            )
        return artefacts.write_figure_artefact(
            request.out_stem,
            figure,
            pd.DataFrame(rows),
            title="Figure 3. Why loss1 aligns w with x",
            caption=(
                "An input x, the weights w_y of its class's logit z_y = w_y·x (both of length 1), "
                "and the smallest perturbation ε after which z_y is 0: ε = −(w_y·x / ‖w_y‖²) w_y, "
                "of length ‖x‖ |cos of the angle| (L2). (a) w_y far from x's direction: a small "
                "ε is enough. (b) w_y near x's direction: ε must nearly undo x. The dotted line is "
                "where z_y = 0. Computed, not measured: no data of this run enters."
            ),
            context=request.context,
            sources={"two vectors": "generated"},
            n="no data points",
            budget="none",
        )


def _draw_geometry(axes: Any, x: np.ndarray, w: np.ndarray, step: np.ndarray) -> None:
    from medrobust.reporting import plotting

    across = np.array([w[1], -w[0]]) / np.linalg.norm(w)
    line = np.stack([-2 * across, 2 * across])
    axes.plot(*line.T, color=plotting.MUTED, linewidth=0.9, linestyle=(0, (1.2, 1.4)), zorder=1)
    # Where the line leaves the picture on the right or below, its name stands below it.
    edge = min((1.0 - 0.05) / across[0], (0.42 / -across[1]) if across[1] < 0 else np.inf)
    axes.text(*(edge * across - 0.09 * w), "$z_y=0$", color="#555555", ha="center", va="center")
    orange = plotting.model_colour("mseMargin")
    _arrow(axes, np.zeros(2), x, plotting.ORIGINAL)
    _arrow(axes, np.zeros(2), w, plotting.model_colour("loss2"))
    _arrow(axes, x, x + step, orange)
    for tip, name, colour in (
        (x, "$x$", plotting.ORIGINAL),
        (w, "$w_y$", plotting.model_colour("loss2")),
    ):
        axes.text(*(1.08 * tip), name, color=colour, ha="center", va="center", fontsize=10)
    axes.text(*(x + 0.62 * step + 0.07 * across), "ε", color=orange, fontsize=10, va="center")
    axes.set_aspect("equal")
    axes.set_xlim(-0.55, 1.2)
    axes.set_ylim(-0.55, 1.15)
    axes.spines[:].set_visible(False)
    axes.plot(0, 0, "o", color=plotting.ORIGINAL, markersize=2.5)
    axes.text(-0.03, -0.07, "0", ha="center", va="center", color="#555555")
    axes.set_xticks([])
    axes.set_yticks([])


def _arrow(axes: Any, start: np.ndarray, end: np.ndarray, colour: str) -> None:
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=end, xytext=start, arrowprops=style, zorder=3)


# --- one beat ---------------------------------------------------------------------------


def build_beat(request: Request) -> list[Path]:
    """Writes Figure 8: one heartbeat without noise and at each noise level.

    Raises:
        InputError: several models kept arrays, or the arrays are not of one beat.
    """
    from medrobust.reporting import plotting

    title = "Figure 8. One heartbeat at all noise levels"
    if (found := _beat_file(request)) is None:
        return draw_not_run(request, title, "the attack of one heartbeat")
    entry, path = found
    x, adversarial, levels, point = _read_beat(path)
    _, method = split_name(entry.model)
    with plotting.style():
        figure = _draw_beat(x, adversarial, levels)
        return artefacts.write_figure_artefact(
            request.out_stem,
            figure,
            _beat_rows(x, adversarial, levels),
            title=title,
            caption=(
                f"Heartbeat {point} and what the attack makes of it in the model "
                f"{model_label(method)} ({entry.model.partition(':')[0]}), one panel per noise "
                "level (L∞ radius). Grey: the heartbeat without noise. Titles tell the largest "
                "change of a sample and the root of the mean square change. Amplitudes are scaled "
                f"to [0, 1] per heartbeat; time at {MITBIH_SAMPLING_RATE:g} samples per second."
            ),
            context=request.context,
            sources={entry.dataset: entry.source},
            n="1 heartbeat",
            budget=attack_text(request, "beat"),
            inputs=[path],
        )


def _beat_file(request: Request) -> tuple[Any, str] | None:
    found = [
        (entry, entry.attack_arrays["beat"])
        for entry in request.entries
        if "beat" in entry.attack_arrays and entry.replicate == 0  # of several trainings the first
    ]
    if len(found) > 1:
        raise InputError(
            f"Figure 8 needs the arrays of one attacked beat, found {len(found)}.",
            where="attack 'beat' of the study",
            remedy="attack one beat in one model.",
        )
    return found[0] if found else None


def _read_beat(path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Returns x ``[d]``, x_adv ``[levels, d]``, the levels in ascending order, the point's id."""
    if not Path(path).is_file():
        raise InputError("This file of adversarial arrays does not exist.", where=path)
    arrays = io.read_tensors(path)
    missing = {"point_id", "x", "x_adv", "epsilon"} - set(arrays)
    if missing:
        raise InputError(f"Arrays are missing: {', '.join(sorted(missing))}.", where=path)
    x, adversarial, levels = (arrays[name].astype(np.float64) for name in ("x", "x_adv", "epsilon"))
    if len(x) != 1 or adversarial.shape != (1, len(levels), x[0].size):
        raise InputError(
            f"These arrays are not of one beat at {len(levels)} levels: x has shape {x.shape}, "
            f"x_adv {adversarial.shape}.",
            where=path,
        )
    order = np.argsort(levels)
    return x[0].ravel(), adversarial[0][order], levels[order], int(arrays["point_id"][0])


def _beat_rows(x: np.ndarray, adversarial: np.ndarray, levels: np.ndarray) -> pd.DataFrame:
    import pandas as pd

    samples = np.arange(x.size)
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "epsilon": level,
                    "sample": samples,
                    "time_s": samples / MITBIH_SAMPLING_RATE,
                    "original": x,
                    "adversarial": signal,
                }
            )
            for level, signal in [(0.0, x), *zip(levels, adversarial, strict=True)]
        ],
        ignore_index=True,
    )


def _draw_beat(x: np.ndarray, adversarial: np.ndarray, levels: np.ndarray) -> Any:
    from medrobust.reporting import plotting

    panels = [(0.0, x), *zip(levels, adversarial, strict=True)]
    columns = plotting.panels_across(len(panels), 4 if len(panels) > 6 else 3)
    rows = -(-len(panels) // columns)
    figure = plotting.new_figure(plotting.DOUBLE_COLUMN, 0.5 + 1.75 * rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    time = np.arange(x.size) / MITBIH_SAMPLING_RATE
    for position, axes in enumerate(grid):
        if position >= len(panels):
            axes.set_visible(False)
            continue
        level, signal = panels[position]
        letter = "abcdefghijklmnopqrstuvwxyz"[position]
        if not level:
            axes.plot(time, x, color=plotting.ORIGINAL, linewidth=1.0)
            axes.set_title(f"({letter}) no noise\n ")
        else:
            axes.plot(time, x, color="#B5B5B5", linewidth=1.5, zorder=1)
            axes.plot(time, signal, color=plotting.ADVERSARIAL, linewidth=0.8, zorder=2)
            axes.set_title(f"({letter}) ε = {level:g}\n{_change_text(signal - x)}")
        axes.set_xlim(0, time[-1])
        axes.set_ylim(-0.03, 1.03)
        if position % columns == 0:
            axes.set_ylabel("Amplitude")
        if position + columns >= len(panels):
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("Time (s)")
    return figure


def _change_text(change: np.ndarray) -> str:
    """Returns the size of a change in words; a failed attack leaves NaN."""
    if not np.isfinite(change).all():
        return "the attack failed"
    return f"largest {np.abs(change).max():.2f}, RMS {np.sqrt(np.mean(change**2)):.3f}"


# --- matrix -----------------------------------------------------------------------------


def build_matrix(request: Request) -> list[Path]:
    """Writes all 756 numbers as coloured cells: reproduced minus published."""
    import pandas as pd

    from medrobust.reporting import plotting

    results = read_results(request, PRINTED_ATTACKS)
    published = read_published(request.published, STUDY)
    frames = [table_rows(table, results, published, request.context) for table in TABLES]
    frame = pd.concat(frames, ignore_index=True)
    frame = frame[frame["published"].notna()].reset_index(drop=True)
    frame["outside"] = [outside(row) for row in plain(frame)]
    ran = frame["reproduced"].notna()
    within = int((ran & ~frame["outside"]).sum())
    with plotting.style():
        figure = _draw_matrix(frame)
        return artefacts.write_figure_artefact(
            request.out_stem,
            figure,
            frame,
            title="All 756 numbers: reproduced minus published",
            caption=(
                "Rows are methods, columns noise levels; each cell is the difference in percentage "
                f"points. Grey numbers: {grey_text(frame)}, rounding allowed for "
                f"({within} of {int(ran.sum())} that were run); bold: outside. Hatched: not run. "
                f"Colours end at ±{100 * LARGEST_SHOWN:g} points."
            ),
            context=request.context,
            sources=results.sources,
            n=sample_text(results, PRINTED_ATTACKS),
            budget=budget_text(request, PRINTED_ATTACKS),
            inputs=[request.published, *results.files],
        )


def _draw_matrix(frame: pd.DataFrame) -> Any:
    from medrobust.reporting import plotting

    figure = plotting.new_figure(plotting.DOUBLE_COLUMN, 6.65)
    grid = figure.subplots(3, 4, sharex=True, sharey=True)
    image = None
    for axes, table in zip(grid.ravel(), _by_place(), strict=True):
        part = frame[frame["table"] == str(table.number)]
        image = _draw_cells(axes, part, table)
    draw_key(figure)
    draw_scale(figure, image, grid)
    return figure


def _by_place() -> list[Any]:
    """Returns the tables by rows of the picture: one attack each."""
    return [
        next(t for t in TABLES if (t.attack, t.network, t.metric) == (attack, network, metric))
        for attack in PRINTED_ATTACKS
        for network in NETWORKS
        for metric in METRICS
    ]


def _draw_cells(axes: Any, part: pd.DataFrame, table: Any) -> Any:
    place = {
        (model_name(table.network, method), level_text(level)): (i, j)
        for i, method in enumerate(METHODS)
        for j, level in enumerate(LEVELS)
    }
    name = PRINTED_ATTACKS[table.attack]
    return draw_cells(
        axes,
        {place[row["method"], row["epsilon"]]: row for row in plain(part)},
        [model_label(method) for method in METHODS],
        [level_text(e).removeprefix("0") or "0" for e in LEVELS],
        title=f"Table {table.number}: {table.network}, {table.metric}, {name}",
    )
