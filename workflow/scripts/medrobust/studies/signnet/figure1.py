"""Figure 1 of the sign-network paper: one image and its adversarial version for each model."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import io
from medrobust.evaluation import image_changes
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
    heading,
    sources_of,
)

if TYPE_CHECKING:
    import pandas as pd

#: From dark orange (less) over white to dark violet (more): colour-blind readers tell them apart.
MAP = "PuOr"
#: The share of a change's pixels that its colours must not cut off.
_NOT_CUT = 0.99


def build_figure1(
    inputs: Sequence[AttackInput],
    out_stem: str | os.PathLike[str],
    context: RunContext,
    attack: str,
    cohort: Sequence[int],
    label: str,
    *,
    point_id: int | None = None,
    class_names: Sequence[str] = (),
) -> list[Path]:
    """Writes one image, its adversarial version for each model, and what changed, amplified.

    The figure's CSV has the numbers of each model, not the pixels: these are in the arrays of the
    attack.

    Args:
        inputs: attack records with arrays of the models to show, all on one data set of images, one
            replicate.
        out_stem: path without suffix.
        context: the run.
        attack: the attack and its budget in words.
        cohort: the attacked points in their seeded order.
        label: what the figure is called, for its title.
        point_id: the point to show; by default the first of the cohort.
        class_names: names of the classes, for the predictions in the panel titles.

    Returns:
        The files written.

    Raises:
        InputError: as :func:`medrobust.studies.signnet.one_point.read_point`.
    """
    from medrobust.reporting import plotting

    shown = read_point(inputs, cohort, label, point_id)
    with plotting.style():
        return artefacts.write_figure_artefact(
            out_stem,
            _draw_images(shown, class_names),
            _numbers(shown),
            title=f"{label}. One image of {heading(shown.dataset)} and its adversarial versions",
            caption=_caption(shown, class_names),
            context=context,
            sources=sources_of(inputs),
            n=shown.n_text,
            budget=attack,
            notes=shown.remarks,
            inputs=shown.inputs,
        )


def amplification(change: np.ndarray) -> float:
    """Returns by how much a change is multiplied so that it fills [-1, 1], to two digits.

    A hundredth of the pixels may lie beyond. A change of nothing is not amplified.

    Args:
        change: ``[height, width]``.
    """
    reach = float(np.quantile(np.abs(change), _NOT_CUT)) or float(np.abs(change).max())
    if reach == 0:
        return 1.0
    # Rounded down, so that what is said is what is drawn, and no more is cut off.
    unit = 10.0 ** (math.floor(math.log10(1 / reach)) - 1)
    return round(math.floor(1 / reach / unit) * unit, 12)


def brightness_change(shown: ShownPoint, adversary: Adversary) -> np.ndarray:
    """Returns the mean change over the channels, ``[height, width]``."""
    return (adversary.adversarial - shown.x).mean(axis=0)


def _caption(shown: ShownPoint, class_names: Sequence[str]) -> str:
    return (
        f"Test point {shown.point_id} (class {class_name(shown.label, class_names)}), "
        f"{shown.choice}. First the original; of each model the attack's last iterate of its best "
        "restart, as the paper shows it, with its L2 distance to the original and, in brackets, "
        "the distance after projection to the decision boundary, and the class that the model then "
        "sees; below it the change, adversarial minus original, mean over the channels, multiplied "
        "by the factor above it: violet where the image became brighter, orange where it became "
        "darker. A factor is such that at most 1 % of the pixels leave the scale. Pixels are in "
        f"[0, 1].{shown.not_run_text} {shown.bounds_text}"
    )


def _numbers(shown: ShownPoint) -> pd.DataFrame:
    import pandas as pd

    original = shown.x[None]
    rows = []
    for one in shown.adversaries:
        row: dict[str, Any] = {
            "model": one.model,
            "point_id": shown.point_id,
            "label": shown.label,
            "prediction": one.prediction,
            "distance": one.distance,
            "distance_at_boundary": one.distance_at_boundary,
        }
        if one.adversarial is not None:
            changed = one.adversarial[None]
            row |= {
                "amplification": amplification(brightness_change(shown, one)),
                "largest_change": float(np.abs(changed - original).max()),
                "total_variation": float(image_changes.total_variation(changed)[0]),
                "total_variation_of_original": float(image_changes.total_variation(original)[0]),
                "structural_similarity": float(
                    image_changes.structural_similarity(original, changed)[0]
                ),
                "high_frequency_share": float(
                    image_changes.high_frequency_share(changed - original)[0]
                ),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def _draw_images(shown: ShownPoint, class_names: Sequence[str]) -> Any:
    """Draws the original and one panel per model, each over its amplified change."""
    from medrobust.reporting import plotting

    panels = len(shown.adversaries) + 1
    columns = plotting.panels_across(panels, 4)
    rows = -(-panels // columns)
    side = plotting.DOUBLE_COLUMN / columns
    figure = plotting.new_figure(plotting.DOUBLE_COLUMN, rows * (2 * side + 0.55))
    grid = figure.add_gridspec(2 * rows, columns)
    for position in range(panels):
        row, column = divmod(position, columns)
        upper, lower = (figure.add_subplot(grid[2 * row + k, column]) for k in (0, 1))
        for axes in (upper, lower):
            axes.set_axis_off()
        if position == 0:
            _picture(upper, shown.x)
            upper.set_title(f"Original\nclass {class_name(shown.label, class_names)}")
            _key(lower)
        else:
            _draw_adversary(upper, lower, shown, shown.adversaries[position - 1], class_names)
    return figure


def _picture(axes: Any, image: np.ndarray) -> None:
    """Shows an image ``[channels, height, width]`` of pixels in [0, 1], each as a square."""
    channels = np.clip(np.moveaxis(image, 0, -1), 0, 1)
    colours = {"cmap": "gray", "vmin": 0, "vmax": 1} if channels.shape[-1] == 1 else {}
    axes.imshow(channels.squeeze(), interpolation="nearest", **colours)


def _key(axes: Any) -> None:
    """Draws what the colours of the changes mean, in the place below the original."""
    strip = axes.inset_axes((0.08, 0.45, 0.84, 0.08))
    strip.imshow(np.linspace(-1, 1, 201)[None], cmap=MAP, aspect="auto", extent=(-1, 1, 0, 1))
    strip.set_yticks([])
    strip.set_xticks([-0.8, 0, 0.8], ["darker", "0", "brighter"])
    strip.set_title("Change of brightness", fontsize=7, pad=3)


def _draw_adversary(
    upper: Any,
    lower: Any,
    shown: ShownPoint,
    one: Adversary,
    class_names: Sequence[str],
) -> None:
    name = model_label(one.model)
    if one.adversarial is None:
        _picture(upper, np.ones_like(shown.x))
        upper.set_title(f"{name}\n{one.absent}")
        return
    _picture(upper, one.adversarial)
    upper.set_title(
        f"{name}\nL₂ {one.distance:.2f} ({one.distance_at_boundary:.2f}),\n"
        f"read as {class_name(one.prediction, class_names)}"
    )
    change = brightness_change(shown, one)
    factor = amplification(change)
    lower.imshow(change * factor, cmap=MAP, vmin=-1, vmax=1, interpolation="nearest")
    lower.set_title(f"Change × {factor:g}", fontsize=7, pad=2)


def draw_figure1(request: Request, label: str) -> list[Path]:
    """Writes Figure 1, or the same of another data set under another ``label``."""
    if not request.entries:
        return draw_not_run(request, label, "no model was attacked on these images")
    return build_figure1(
        attack_inputs(request),
        request.out_stem,
        request.context,
        attack_text(request),
        io.read_table(request.cohort)["point_id"].tolist(),
        label,
        class_names=request.class_names,
    )
