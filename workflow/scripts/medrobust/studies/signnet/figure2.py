"""Figure 2 of the sign-network paper: one heartbeat and its adversarial version for each model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.evaluation import statistics
from medrobust.reporting import artefacts
from medrobust.reporting.artefacts import RunContext
from medrobust.reporting.plotting import model_label
from medrobust.reporting.request import Request
from medrobust.studies.signnet.results import (
    MODELS,
    AttackInput,
    attack_inputs,
    attack_text,
    cells_of,
    grouped,
    sampling_rate,
    smallest_distances,
    sources_of,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class _Trace:
    """What one panel of Figure 2 shows; ``adversarial`` is None where there is none."""

    model: str
    restarts: int
    adversarial: np.ndarray | None
    distance: float
    distance_at_boundary: float
    prediction: int
    remark: str = ""


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

    groups = grouped(inputs)
    if not groups:
        raise InputError("Figure 2 needs the attack on at least one model.")
    datasets = list(dict.fromkeys(dataset for dataset, _ in groups))
    if len(datasets) > 1 or any(len(items) > 1 for items in groups.values()):
        raise InputError("Figure 2 shows one data set and one replicate.", where=str(datasets))
    point = _chosen(point_id, cohort)
    ordered = [groups[key][0] for key in cells_of(groups) if key in groups]
    label, x, traces = _read_traces(ordered, point)
    with plotting.style():
        rate = sampling_rate(datasets[0])
        figure = _draw_heartbeats(x, label, traces, class_names, rate)
        rest = [model for model in MODELS if (datasets[0], model) not in groups]
        return artefacts.write_figure_artefact(
            out_stem,
            figure,
            _drawn(x, traces, rate),
            title=f"Figure 2. One heartbeat of {datasets[0]} and its adversarial versions",
            caption=_figure2_caption(
                point,
                point_id is None,
                label,
                class_names,
                rest if not_run is None else not_run,
                rate,
            )
            + f" {statistics.upper_bound_text(trace.restarts for trace in traces)}",
            context=context,
            sources=sources_of(inputs),
            n=f"1 of {len(cohort)} attacked points",
            budget=attack,
            notes=[trace.remark for trace in traces if trace.remark],
            inputs=[path for item in ordered for path in (*item.chunks, *item.arrays)],
        )


def _chosen(point_id: int | None, cohort: Sequence[int]) -> int:
    if not len(cohort):
        raise InputError("The cohort has no points.")
    if point_id is None:
        return int(cohort[0])
    if point_id not in set(cohort):
        raise InputError(
            f"Point {point_id} is not among the {len(cohort)} attacked points.",
            remedy="leave the point out to show the first of the cohort.",
        )
    return int(point_id)


def _figure2_caption(
    point: int,
    first: bool,
    label: int,
    class_names: Sequence[str],
    not_run: Sequence[str],
    rate: float,
) -> str:
    choice = (
        "the first of the cohort in its seeded random order" if first else "chosen by its number"
    )
    others = f" Not run: {', '.join(model_label(name) for name in not_run)}." if not_run else ""
    return (
        f"Test point {point} (class {_class(label, class_names)}), {choice}. Grey: the original; "
        "coloured: the attack's last iterate of its best restart, as the paper shows it, with its "
        "L2 distance to the original and, in brackets, the distance after projection to the "
        "decision boundary, and the class that the model then sees; below, adversarial minus "
        "original, on one scale for all models. Amplitudes are scaled to [0, 1] per heartbeat; "
        f"time at {rate:g} samples per second."
        f"{others}"
    )


def _class(label: int, class_names: Sequence[str]) -> str:
    return str(class_names[label]) if 0 <= label < len(class_names) else str(label)


def _read_traces(items: Sequence[AttackInput], point: int) -> tuple[int, np.ndarray, list[_Trace]]:
    """Returns the point's label, its signal, and the trace of each model."""
    label, x, traces = None, None, []
    for item in items:
        points = smallest_distances(item).set_index("point_id")
        if point not in points.index:
            raise InputError(f"{item.model} was not attacked at point {point}.")
        row = points.loc[point]
        arrays = _read_arrays(item, point)
        if x is None:
            label, x = int(row["label"]), arrays["x"]
        elif not np.array_equal(x, arrays["x"]) or label != int(row["label"]):
            raise InputError(
                f"The models disagree about the original of point {point}.", where=item.model
            )
        traces.append(_trace(item.model, row, arrays, point))
    return label, x, traces


def _read_arrays(item: AttackInput, point: int) -> dict[str, np.ndarray]:
    for path in item.arrays:
        if not Path(path).is_file():
            raise InputError("This file of adversarial arrays does not exist.", where=str(path))
        tensors = io.read_tensors(path)
        missing = {"point_id", "x", "x_adv", "x_final_iterate"} - set(tensors)
        if missing:
            raise InputError(f"Arrays are missing: {', '.join(sorted(missing))}.", where=str(path))
        found = np.flatnonzero(tensors["point_id"] == point)
        if found.size:
            return {
                name: tensors[name][found[0]].reshape(-1).astype(np.float64)
                for name in ("x", "x_adv", "x_final_iterate")
            }
    raise InputError(
        f"The adversarial arrays of point {point} are missing.",
        where=item.model,
        remedy="run the attack again with its arrays kept.",
    )


def _trace(model: str, row: pd.Series, arrays: Mapping[str, np.ndarray], point: int) -> _Trace:
    name, restarts = model_label(model), int(row["restarts"])
    if row["clean_prediction"] != row["label"]:
        remark = f"{name}: misclassified without attack."
        return _Trace(model, restarts, None, 0.0, 0.0, int(row["clean_prediction"]), remark)
    if not np.isfinite(row["l2"]):
        remark = f"{name}: no adversarial example in {restarts} restarts."
        return _Trace(model, restarts, None, np.inf, np.inf, -1, remark)
    if not np.isfinite(arrays["x_adv"]).all():
        raise InputError(f"The adversarial array of point {point} is not finite.", where=model)
    final = float(np.linalg.norm(arrays["x_final_iterate"] - arrays["x"]))
    projected = float(np.linalg.norm(arrays["x_adv"] - arrays["x"]))
    # Equal where the arrays are those of the best restart; the last iterate of another
    # restart may be nearer, never the one drawn.
    agrees = np.isclose(projected, row["l2"], rtol=1e-3, atol=1e-6)
    lost = not np.isfinite(row["l2_final_iterate"])
    nearer = final < row["l2_final_iterate"] * (1 - 1e-3) - 1e-6
    if not agrees or (nearer and not lost):
        raise InputError(
            f"Arrays and records disagree at point {point}: distances {projected:.6g} and "
            f"{row['l2']:.6g}.",
            where=model,
            remedy="run the attack again.",
        )
    prediction = int(row["adversarial_prediction"])
    if lost or not np.isfinite(final):
        remark = f"{name}: no last iterate is adversarial; drawn is the projected point."
        return _Trace(model, restarts, arrays["x_adv"], projected, projected, prediction, remark)
    return _Trace(model, restarts, arrays["x_final_iterate"], final, projected, prediction)


def _drawn(x: np.ndarray, traces: Sequence[_Trace], rate: float) -> pd.DataFrame:
    import pandas as pd

    samples = np.arange(x.size)
    frames = []
    for trace in traces:
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


def _draw_heartbeats(
    x: np.ndarray, label: int, traces: Sequence[_Trace], class_names: Sequence[str], rate: float
) -> Any:
    """Draws the original and one panel per model, each over its difference trace."""
    from medrobust.reporting import plotting

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
            upper.set_title(f"Original\nclass {_class(label, class_names)}")
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
    trace: _Trace,
    class_names: Sequence[str],
) -> None:
    from medrobust.reporting import plotting

    colour = plotting.model_colour(trace.model)
    name = model_label(trace.model)
    upper.plot(time, x, color="#B5B5B5", linewidth=1.6, zorder=1)
    if trace.adversarial is None:
        text = "misclassified without attack" if trace.distance == 0 else "attack failed"
        upper.set_title(f"{name}\n{text}")
        return
    upper.plot(time, trace.adversarial, color=colour, linewidth=0.9, zorder=2)
    upper.set_title(
        f"{name}\nL₂ {trace.distance:.3f} ({trace.distance_at_boundary:.3f}), "
        f"read as {_class(trace.prediction, class_names)}"
    )
    difference = trace.adversarial - x
    lower.fill_between(time, difference, 0, color=colour, alpha=0.35, linewidth=0)
    lower.plot(time, difference, color=colour, linewidth=0.5, alpha=0.8)


def draw_figure2(request: Request) -> list[Path]:
    return build_figure2(
        attack_inputs(request),
        request.out_stem,
        request.context,
        attack_text(request),
        io.read_table(request.cohort)["point_id"].tolist(),
        class_names=request.class_names,
    )
