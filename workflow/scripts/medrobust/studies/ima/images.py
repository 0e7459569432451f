"""CT images of ima, clean and attacked: Figure 1, and the panel of one image at all levels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.reporting import artefacts
from medrobust.reporting.kept_images import (
    KeptImages,
    colour_bars,
    draw_grey,
    draw_perturbation,
    head,
    read_kept_images,
)
from medrobust.reporting.request import Request
from medrobust.reporting.rows import draw_not_run

if TYPE_CHECKING:
    import pandas as pd

#: Name of the attack that keeps images.
ATTACK = "ct_images"
#: Noise level of Figure 1.
EPSILON = 0.03
#: Classes as the paper names them, label 0 and 1.
CLASSES = ("uninfected", "infected")


def read_images(request: Request) -> KeptImages | None:
    """Returns the kept images of the first model that has some; None where none were run.

    Raises:
        InputError: a file is missing, is not of images, or the records do not fit the arrays.
    """
    entry = next((entry for entry in request.entries if ATTACK in entry.attack_arrays), None)
    return None if entry is None else read_kept_images(entry, ATTACK, entry.records, channels=1)


def class_name(label: int) -> str:
    """Returns how the paper names a class."""
    return CLASSES[label] if 0 <= label < len(CLASSES) else "?" if label < 0 else str(label)


def chosen_image(images: KeptImages) -> tuple[int, str]:
    """Returns the position of the image that both figures show, and why, as a sentence.

    It is the first that the model classifies correctly and that is misclassified at
    :data:`EPSILON`; else the first that it classifies correctly; else the first.
    """
    kept = f"of the {len(images.ids)} kept test images"
    fooled = np.flatnonzero(images.fooled(EPSILON))
    if fooled.size:
        return int(fooled[0]), (
            f"It is the first {kept} that the model classifies correctly and that is misclassified "
            f"at ε = {EPSILON:g}."
        )
    right = np.flatnonzero(images.right)
    if right.size:
        return int(right[0]), (
            f"None {kept} that the model classifies correctly is misclassified at ε = "
            f"{EPSILON:g}; this is the first that it classifies correctly."
        )
    return 0, f"The model classifies none {kept} correctly; this is the first."


def _budget(request: Request) -> str:
    facts = {**request.attacks.get(ATTACK, {})}
    grid = facts.pop("grid", {})
    facts.pop("points_per_class", None)
    return artefacts.describe_attack(
        facts.pop("name", "pgd"),
        facts | {name: ", ".join(f"{value}" for value in values) for name, values in grid.items()},
    )


# --- Figure 1 ---------------------------------------------------------------------------


def build_noisy_image(request: Request) -> list[Path]:
    """Writes Figure 1: a CT image, a perturbation, and both together, with the predicted classes.

    Raises:
        InputError: the files of the attack are missing, or do not fit together.
    """
    from medrobust.reporting import plotting

    title = "Figure 1. A clean and a noisy CT image"
    images = read_images(request)
    if images is None:
        return draw_not_run(request, title, f"the attack {ATTACK} on CT images")
    place, why = chosen_image(images)
    column = images.column(EPSILON)
    x, noisy = images.x[place, 0], images.noisy[place, column, 0]
    with plotting.style():
        figure = plotting.new_figure(plotting.DOUBLE_COLUMN, 3.35)
        clean_axes, noise_axes, noisy_axes = figure.subplots(1, 3)
        draw_grey(clean_axes, x)
        _heading(clean_axes, "(a) clean image $x$", images, place, None)
        noise = draw_perturbation(noise_axes, noisy - x, EPSILON)
        noise_axes.set_title(f"(b) perturbation, |ε| ≤ {EPSILON:g}\n ")
        draw_grey(noisy_axes, noisy)
        _heading(noisy_axes, "(c) noisy image $x + ε$", images, place, column)
        colour_bars(figure, noise, EPSILON, noise_axes, (clean_axes, noisy_axes))
        return _write(
            request,
            images,
            figure,
            image_rows(images, place, [column]),
            title=title,
            caption=(
                f"(a) CT image {images.ids[place]}, class {class_name(images.labels[place])}; (b) "
                f"the perturbation that the attack found at ε = {EPSILON:g} (L∞), in units of the "
                f"pixels, which lie in [0, 1]; (c) their sum. Below (a) and (c): what the model "
                f"{images.entry.model} says. {why}"
            ),
        )


def _write(
    request: Request,
    images: KeptImages,
    figure: Any,
    drawn: pd.DataFrame,
    *,
    title: str,
    caption: str,
) -> list[Path]:
    return artefacts.write_figure_artefact(
        request.out_stem,
        figure,
        drawn,
        title=title,
        caption=f"{caption} Pixels are in the file of the attack's arrays.",
        context=request.context,
        sources={images.entry.dataset: images.entry.source},
        n="1 test image",
        budget=_budget(request),
        inputs=images.files,
    )


def image_rows(images: KeptImages, place: int, columns: Sequence[int]) -> pd.DataFrame:
    """Returns what is told of an image, clean (epsilon 0) and at some levels.

    Returns:
        ``point_id``, ``epsilon``, ``label``, ``prediction`` (missing if there is none),
        ``largest_change`` and ``rms_change`` of the pixels (NaN if the attack left no image).
    """
    import pandas as pd

    x = images.x[place].astype(np.float64)
    shown = [(0.0, images.clean[place], x)]
    shown += [(images.levels[c], images.found[place, c], images.noisy[place, c]) for c in columns]
    rows = [
        {
            "point_id": int(images.ids[place]),
            "epsilon": float(level),
            "label": int(images.labels[place]),
            "prediction": None if prediction < 0 else int(prediction),
            "largest_change": float(np.abs(image - x).max()),
            "rms_change": float(np.sqrt(np.mean((image - x) ** 2))),
        }
        for level, prediction, image in shown
    ]
    whole = {"point_id", "label", "prediction"}
    # Levels are numbers here, where tables of print have them as text.
    frame = pd.DataFrame(rows).astype({"epsilon": "float64"})
    return frame.astype(dict.fromkeys(whole, "Int64"))


def _heading(axes: Any, text: str, images: KeptImages, place: int, column: int | None) -> None:
    """Writes a title and below it the prediction, in red where it is wrong."""
    prediction = images.clean[place] if column is None else images.found[place, column]
    called = "" if prediction < 0 else class_name(int(prediction))
    head(axes, text, called, wrong=prediction != images.labels[place])


# --- panel ------------------------------------------------------------------------------


def build_levels(request: Request) -> list[Path]:
    """Writes the panel: one CT image without noise and at each level, with predictions.

    Raises:
        InputError: the files of the attack are missing, or do not fit together.
    """
    from medrobust.reporting import plotting

    title = "One CT image at all noise levels"
    images = read_images(request)
    if images is None:
        return draw_not_run(request, title, f"the attack {ATTACK} on CT images")
    place, why = chosen_image(images)
    columns: list[int | None] = [None, *range(len(images.levels))]
    across = plotting.panels_across(len(columns), 4 if len(columns) > 6 else 3)
    down = -(-len(columns) // across)
    with plotting.style():
        figure = plotting.new_figure(plotting.DOUBLE_COLUMN, 0.4 + 2.1 * down)
        grid = figure.subplots(down, across, squeeze=False).ravel()
        for letter, axes, column in zip("abcdefghijklmnopqrstuvwxyz", grid, columns, strict=False):
            shown = images.x[place] if column is None else images.noisy[place, column]
            draw_grey(axes, shown[0])
            level = "no noise" if column is None else f"ε = {images.levels[column]:g}"
            _heading(axes, f"({letter}) {level}", images, place, column)
        for axes in grid[len(columns) :]:
            axes.set_visible(False)
        return _write(
            request,
            images,
            figure,
            image_rows(images, place, range(len(images.levels))),
            title=title,
            caption=(
                f"CT image {images.ids[place]}, class {class_name(images.labels[place])}, and what "
                f"the attack makes of it at each noise level (L∞ radius; pixels lie in [0, 1]) in "
                f"the model {images.entry.model}. Below the letters: what the model says. {why} "
                "The paper holds that images noisier than 0.1 cannot be from a working scanner."
            ),
        )
