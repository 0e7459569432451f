"""Figures of ima on segmentation: scores by noise level, and outlines on slices."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import io
from medrobust.reporting import artefacts
from medrobust.reporting.artefacts import number
from medrobust.reporting.generic_tables import attacks_in_words
from medrobust.reporting.levels import curve_frame, draw_curve, model_legend, share_axis
from medrobust.reporting.request import Request
from medrobust.reporting.rows import draw_not_run
from medrobust.studies.ima_segmentation.catalogue import SCORES, task_of
from medrobust.studies.ima_segmentation.results import (
    PrintedNumbers,
    SegmentationResults,
    read_printed,
    read_results,
)
from medrobust.studies.ima_segmentation.tables import MEANS

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("score", "origin", "dataset", "method", "epsilon", "value", "ci_low", "ci_high")
_TEXT = ("score", "origin", "dataset", "method")
REPRODUCED, PUBLISHED = "reproduced", "published"
#: Colours of true and predicted outlines.
TRUE, SAID = "#FFD400", "#00C2FF"
#: Models of classification whose looks adversarial training has here, by rising radius.
ADVERSARIAL = ("adv0.1", "adv0.2", "adv0.3")


def curve_points(
    results: SegmentationResults, printed: PrintedNumbers, dataset: str
) -> pd.DataFrame:
    """Returns what the curves of a data set show, columns :data:`COLUMNS`."""
    rows: list[dict[str, Any]] = []
    known = printed.values()
    for score in SCORES:
        for method in dict.fromkeys([*printed.methods(dataset), *results.models[dataset]]):
            for level in sorted({*printed.levels(dataset), *results.levels(dataset)}):
                named = {"score": score, "dataset": dataset, "method": method, "epsilon": level}
                value = known.get((dataset, score, method, f"{level:g}"))
                if value is not None:
                    rows.append(named | {"origin": PUBLISHED, "value": value})
                one = results.estimate(dataset, method, score, level)
                if one is not None:
                    ends = {"ci_low": one.ci_low, "ci_high": one.ci_high}
                    rows.append(named | {"origin": REPRODUCED, "value": one.value} | ends)
    return curve_frame(rows, COLUMNS, _TEXT)


def draw_scores(request: Request, *, dataset: str) -> list[Path]:
    """Writes Figure 10, 11 or 12: TVDI on the left, ADI on the right, by noise level.

    Raises:
        InputError: records are missing or wrong.
    """
    from medrobust.reporting import plotting

    results, printed = read_results(request), read_printed(request.published)
    task, drawn = task_of(dataset), curve_points(results, printed, dataset)
    with plotting.style():
        figure = plotting.new_figure(plotting.DOUBLE_COLUMN, 3.9)
        panels = figure.subplots(1, 2, sharey=True)
        styles = method_styles(list(drawn["method"].unique()), task.ima)
        for letter, axes, (score, name) in zip("ab", panels, SCORES.items(), strict=True):
            _draw_panel(axes, drawn[drawn["score"] == score], styles)
            axes.set_title(f"({letter}) {name[0].upper()}{name[1:]} ({score})")
        panels[0].set_ylabel("Dice")
        model_legend(figure, panels, printed.methods(dataset))
        ran = drawn["origin"].eq(REPRODUCED).any()
        trainings = results.trainings_text(dataset)
        solid = f"Solid lines: this run, {trainings}" if ran else "This run: not run"
        return artefacts.write_figure_artefact(
            request.out_stem,
            figure,
            drawn,
            title=f"Figure {task.figure}. Segmentation of the {task.organ} under 100-PGD in L2",
            caption=f"{solid}; bands: 95 % interval over test cases, where there are enough. "
            f"Dashed lines: as printed. {MEANS}",
            context=request.context,
            sources={d: s for d, s in results.sources.items() if d == dataset},
            n=results.size_text(dataset) or "not run",
            budget=attacks_in_words(request, [task.attack]),
            inputs=[request.published, *results.files],
        )


def method_styles(methods: Sequence[str], ima: str) -> dict[str, dict[str, Any]]:
    """Returns how the curves of a data set's methods look: adversarial training in one hue.

    It is darker with its radius, as in the figures on classification.

    Args:
        methods: as printed, or of the user's own.
        ima: that which is increasing-margin training.
    """
    from medrobust.reporting import plotting

    radii = sorted((m for m in methods if re.fullmatch(r"adv\d+(\.\d+)?", m)), key=_radius)
    alike = {"nnUnet": "ce", ima: "IMA"} | dict(zip(radii, ADVERSARIAL, strict=False))
    return {method: plotting.model_style(alike.get(method, method)) for method in methods}


def _radius(method: str) -> float:
    return float(method.removeprefix("adv"))


def _draw_panel(axes: Any, drawn: pd.DataFrame, styles: Mapping[str, dict[str, Any]]) -> None:
    ran = set(drawn.loc[drawn["origin"] == REPRODUCED, "method"])
    for (method, origin), curve in drawn.groupby(["method", "origin"], sort=False):
        style = styles[method]
        if origin == PUBLISHED:
            axes.plot(
                curve["epsilon"],
                curve["value"],
                color=style["color"],
                linestyle=(0, (3.2, 1.8)),
                linewidth=0.8,
                zorder=2,
                label=None if method in ran else f"{method} (printed)",
            )
        else:
            draw_curve(axes, curve["epsilon"], curve, style | {"linestyle": "-"}, label=method)
    share_axis(axes, step=0.2)
    axes.set_xlim(0, max(drawn["epsilon"], default=1.0) * 1.02)
    axes.set_xlabel("Noise level (L2 norm, standard deviations)")


# --- outlines ---------------------------------------------------------------------------


def draw_outlines(request: Request, *, dataset: str) -> list[Path]:
    """Writes slices with true and predicted outlines: a row for each model, a column per level.

    Shown is the second of the slices that the attack kept, or the only one.

    Raises:
        InputError: a file is missing.
    """
    from medrobust.reporting import plotting

    task = task_of(dataset)
    title = f"Outlines. One slice of the {task.organ} and its noisy versions"
    entries = [
        one
        for one in request.entries
        if one.dataset == dataset and one.replicate == 0 and task.attack in one.pixel_arrays
    ]
    if not entries:
        return draw_not_run(request, title, f"the attack {task.attack} with slices that it keeps")
    kept = {one.model: io.read_tensors(one.pixel_arrays[task.attack]) for one in entries}
    levels = next(iter(kept.values()))["epsilon"]
    with plotting.style():
        height = 0.4 + len(kept) * 7.2 / len(levels)
        figure = plotting.new_figure(plotting.DOUBLE_COLUMN, min(height, 9.0))
        grid = np.atleast_2d(figure.subplots(len(kept), len(levels), squeeze=False))
        rows = []
        for line, (model, arrays) in zip(grid, kept.items(), strict=True):
            rows += _draw_line(line, model, arrays)
        return artefacts.write_figure_artefact(
            request.out_stem,
            figure,
            _frame(rows),
            title=title,
            caption="Yellow: the outlines of the classes as marked; blue: as predicted. Columns: "
            "noise level, the L2 norm of the noise on the slice; each model is shown the noise "
            "that was made against it. Below: mean Dice of the classes in this slice.",
            context=request.context,
            sources={dataset: entries[0].source},
            n=f"slice number {rows[0]['number']}",
            budget=attacks_in_words(request, [task.attack]),
            inputs=[one.pixel_arrays[task.attack] for one in entries],
        )


def _draw_line(line: Sequence[Any], model: str, arrays: dict[str, np.ndarray]) -> list[dict]:
    from medrobust.evaluation import segmentation

    place = min(1, len(arrays["number"]) - 1)
    target = arrays["target"][place].astype(np.int64)
    low, high = np.percentile(arrays["image"][place, 0], (1, 99))
    rows = []
    for axes, level, image, labels in zip(
        line, arrays["epsilon"], arrays["noisy"][place], arrays["labels"][place], strict=True
    ):
        axes.imshow(image[0], cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        for kind in range(1, int(target.max()) + 1):
            for mask, colour in ((target == kind, TRUE), (labels == kind, SAID)):
                if mask.any():
                    axes.contour(mask, levels=[0.5], colors=[colour], linewidths=0.8)
        counts = segmentation.pixel_counts(labels[None], target[None], int(target.max()) + 1)
        dice = float(segmentation.dice_of(*counts).mean())
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(f"Dice {number(dice, 2)}")
        axes.set_title(f"ε = {level:g}")
        named = {"method": model, "number": int(arrays["number"][place])}
        rows.append(named | {"epsilon": float(level), "dice": dice})
    line[0].set_ylabel(model)
    return rows


def _frame(rows: Sequence[dict]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows)
