"""Figure 2 of the sign-network paper: one heartbeat and its adversarial version for each model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import io
from medrobust.reporting import artefacts
from medrobust.reporting.artefacts import RunContext
from medrobust.reporting.plotting import model_label
from medrobust.reporting.request import Request
from medrobust.reporting.rows import draw_not_run
from medrobust.studies.signnet.one_point import Adversary, ShownPoint, class_name, read_point
from medrobust.studies.signnet.results import (
    AttackInput,
    attack_inputs,
    attack_text,
    sampling_rate,
    sources_of,
)

if TYPE_CHECKING:
    import pandas as pd


def build_figure2(
    inputs: Sequence[AttackInput],
    out_stem: str | os.PathLike[str],
    context: RunContext,
    attack: str,
    cohort: Sequence[int],
    *,
    point_id: int | None = None,
    class_names: Sequence[str] = (),
    not_run: Sequence[str] | None = None,
) -> list[Path]:
    """Writes Figure 2: one heartbeat and its adversarial version for each model.

    Args:
        inputs: attack records with arrays of the models to show, all on one data set, one
            replicate.
        out_stem: path without suffix.
        context: the run.
        attack: the attack and its budget in words.
        cohort: the attacked points in their seeded order.
        point_id: the point to show; by default the first of the cohort.
        class_names: names of the classes, for the predictions in the panel titles.
        not_run: models that the caption lists as not run; by default the paper's others.

    Returns:
        The files written.

    Raises:
        InputError: no input, several data sets or replicates, an unknown point, or arrays
            that disagree with the records.
    """
    from medrobust.reporting import plotting

    shown = read_point(inputs, cohort, "Figure 2", point_id, not_run)
    rate = sampling_rate(shown.dataset)
    with plotting.style():
        return artefacts.write_figure_artefact(
            out_stem,
            _draw_heartbeats(shown, class_names, rate),
            _drawn(shown, rate),
            title=f"Figure 2. One heartbeat of {shown.dataset} and its adversarial versions",
            caption=_caption(shown, class_names, rate),
            context=context,
            sources=sources_of(inputs),
            n=shown.n_text,
            budget=attack,
            notes=shown.remarks,
            inputs=shown.inputs,
        )


def _caption(shown: ShownPoint, class_names: Sequence[str], rate: float) -> str:
    return (
        f"Test point {shown.point_id} (class {class_name(shown.label, class_names)}), "
        f"{shown.choice}. Grey: the original; "
        "coloured: the attack's last iterate of its best restart, as the paper shows it, with its "
        "L2 distance to the original and, in brackets, the distance after projection to the "
        "decision boundary, and the class that the model then sees; below, adversarial minus "
        "original, on one scale for all models. Amplitudes are scaled to [0, 1] per heartbeat; "
        f"time at {rate:g} samples per second.{shown.not_run_text} {shown.bounds_text}"
    )


def _drawn(shown: ShownPoint, rate: float) -> pd.DataFrame:
    import pandas as pd

    x = shown.x.reshape(-1)
    samples = np.arange(x.size)
    frames = []
    for trace in shown.adversaries:
        adversarial = np.full(x.size, np.nan) if trace.adversarial is None else trace.adversarial
        frames.append(
            pd.DataFrame(
                {
                    "model": trace.model,
                    "sample": samples,
                    "time_s": samples / rate,
                    "original": x,
                    "adversarial": adversarial,
                    "difference": adversarial - x,
                    "distance": trace.distance,
                    "distance_at_boundary": trace.distance_at_boundary,
                    "prediction": trace.prediction,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _draw_heartbeats(shown: ShownPoint, class_names: Sequence[str], rate: float) -> Any:
    """Draws the original and one panel per model, each over its difference trace."""
    from medrobust.reporting import plotting

    x, traces = shown.x.reshape(-1), shown.adversaries
    panels = len(traces) + 1
    columns = plotting.panels_across(panels, 3)
    rows = -(-panels // columns)
    figure = plotting.new_figure(plotting.DOUBLE_COLUMN, 0.4 + 2.1 * rows)
    heights = [3.0, 1.3] * rows
    grid = figure.add_gridspec(2 * rows, columns, height_ratios=heights)
    time = np.arange(x.size) / rate
    everything = np.concatenate([x, *(t.adversarial for t in traces if t.adversarial is not None)])
    margin = 0.06 * max(float(np.ptp(everything)), 1e-6)
    signal_limits = (float(everything.min()) - margin, float(everything.max()) + margin)
    largest = max(
        (float(np.abs(t.adversarial - x).max()) for t in traces if t.adversarial is not None),
        default=0.0,
    )
    difference_limit = 1.15 * largest or 1.0
    for position in range(panels):
        row, column = divmod(position, columns)
        upper = figure.add_subplot(grid[2 * row, column])
        lower = figure.add_subplot(grid[2 * row + 1, column], sharex=upper)
        trace = traces[position - 1] if position else None
        if trace is None:
            upper.plot(time, x, color=plotting.ORIGINAL, linewidth=1.1)
            upper.set_title(f"Original\nclass {class_name(shown.label, class_names)}")
        else:
            _draw_trace(upper, lower, time, x, trace, class_names)
        upper.set_ylim(signal_limits)
        upper.tick_params(labelbottom=False)
        lower.axhline(0.0, color=plotting.MUTED, linewidth=0.5, zorder=1)
        lower.set_ylim(-difference_limit, difference_limit)
        lower.set_xlim(0, time[-1])
        upper.tick_params(labelleft=column == 0)
        lower.tick_params(labelleft=column == 0)
        lower.set_xticks(np.arange(0.0, time[-1], 0.5))
        if column == 0:
            upper.set_ylabel("Amplitude")
            lower.set_ylabel("Change")
        last_of_column = position + columns >= panels
        lower.tick_params(labelbottom=last_of_column)
        if last_of_column:
            lower.set_xlabel("Time (s)")
    figure.align_ylabels()
    return figure


def _draw_trace(
    upper: Any,
    lower: Any,
    time: np.ndarray,
    x: np.ndarray,
    trace: Adversary,
    class_names: Sequence[str],
) -> None:
    from medrobust.reporting import plotting

    colour = plotting.model_colour(trace.model)
    name = model_label(trace.model)
    upper.plot(time, x, color="#B5B5B5", linewidth=1.6, zorder=1)
    if trace.adversarial is None:
        upper.set_title(f"{name}\n{trace.absent}")
        return
    upper.plot(time, trace.adversarial, color=colour, linewidth=0.9, zorder=2)
    upper.set_title(
        f"{name}\nL₂ {trace.distance:.3f} ({trace.distance_at_boundary:.3f}), "
        f"read as {class_name(trace.prediction, class_names)}"
    )
    difference = trace.adversarial - x
    lower.fill_between(time, difference, 0, color=colour, alpha=0.35, linewidth=0)
    lower.plot(time, difference, color=colour, linewidth=0.5, alpha=0.8)


def draw_figure2(request: Request) -> list[Path]:
    """Writes Figure 2 of the first data set of heartbeats."""
    if not request.entries:
        return draw_not_run(request, "Figure 2", "no model was attacked on heartbeats")
    return build_figure2(
        attack_inputs(request),
        request.out_stem,
        request.context,
        attack_text(request),
        io.read_table(request.cohort)["point_id"].tolist(),
        class_names=request.class_names,
    )
