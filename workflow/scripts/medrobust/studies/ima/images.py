"""CT images of ima, clean and attacked: Figure 1, and the panel of one image at all levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.reporting import artefacts
from medrobust.reporting.request import Entry, Request
from medrobust.reporting.rows import draw_not_run

if TYPE_CHECKING:
    import pandas as pd

#: Name of the attack that keeps images.
ATTACK = "ct_images"
#: Noise level of Figure 1.
EPSILON = 0.03
#: Classes as the paper names them, label 0 and 1.
CLASSES = ("uninfected", "infected")
WRONG = "#B00020"


@dataclass(frozen=True)
class Images:
    """Kept images of one model.

    Attributes:
        entry: the model.
        files: arrays and records.
        ids: int64 ``[k]``.
        x: ``[k, h, w]``, in [0, 1].
        noisy: ``[k, levels, h, w]``.
        levels: in ascending order, ``[levels]``.
        labels, clean: true and predicted class of the clean images, int ``[k]``.
        found: predicted class of the noisy ones, int ``[k, levels]``; -1 where there is none.
    """

    entry: Entry
    files: tuple[str, ...]
    ids: np.ndarray
    x: np.ndarray
    noisy: np.ndarray
    levels: np.ndarray
    labels: np.ndarray
    clean: np.ndarray
    found: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Whether the model gets the clean image right, bool ``[k]``."""
        return self.clean == self.labels

    def fooled(self, level: float) -> np.ndarray:
        """Whether it is right, and wrong at a level, bool ``[k]``."""
        column = self.column(level)
        return self.right & (self.found[:, column] >= 0) & (self.found[:, column] != self.labels)

    def column(self, level: float) -> int:
        """Returns the place of a level.

        Raises:
            InputError: the level was not run.
        """
        places = np.flatnonzero(np.isclose(self.levels, level))
        if not places.size:
            raise InputError(
                f"The images were not attacked at epsilon {level:g}.",
                where=f"attack {ATTACK!r} of the study, key grid.epsilon",
                remedy=f"add {level:g}.",
            )
        return int(places[0])


def read_images(request: Request) -> Images | None:
    """Returns the kept images of the first model that has some; None where none were run.

    Raises:
        InputError: a file is missing, is not of images, or the records do not fit the arrays.
    """
    entry = next((entry for entry in request.entries if ATTACK in entry.attack_arrays), None)
    if entry is None:
        return None
    path = entry.attack_arrays[ATTACK]
    for file in (path, *entry.records):
        if not Path(file).is_file():
            raise InputError("This file of attacked images does not exist.", where=file)
    arrays = io.read_tensors(path)
    missing = {"point_id", "x", "x_adv", "epsilon"} - set(arrays)
    if missing:
        raise InputError(f"Arrays are missing: {', '.join(sorted(missing))}.", where=path)
    x, noisy, levels = (arrays[name] for name in ("x", "x_adv", "epsilon"))
    if x.ndim != 4 or x.shape[1] != 1 or noisy.shape != (len(x), len(levels), *x.shape[1:]):
        raise InputError(
            f"These are not grey images at {len(levels)} levels: x has shape {x.shape}, x_adv "
            f"{noisy.shape}.",
            where=path,
        )
    order = np.argsort(levels)
    ids, levels = arrays["point_id"], levels[order].astype(np.float64)
    labels, clean, found = _predictions(entry.records, ids, levels, path)
    return Images(
        entry,
        (path, *entry.records),
        ids,
        x[:, 0],
        noisy[:, order, 0],
        levels,
        labels,
        clean,
        found,
    )


def _predictions(
    records: Sequence[str], ids: np.ndarray, levels: np.ndarray, path: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns labels and clean predictions ``[k]``, and noisy predictions ``[k, levels]``."""
    from medrobust.evaluation.records import read_records

    table = read_records(records) if records else None
    labels, clean = np.zeros((2, len(ids)), dtype=np.int64)
    found = np.full((len(ids), len(levels)), -1, dtype=np.int64)
    for row, point in enumerate(ids):
        own = table[table["point_id"] == point] if table is not None else ()
        for column, level in enumerate(levels):
            runs = own[np.isclose(own["epsilon"], level)] if len(own) else ()
            if not len(runs):
                raise InputError(
                    f"There is no record of image {point} at epsilon {level:g}.",
                    where=", ".join(records) or path,
                    remedy="delete the files of this attack and run it again.",
                )
            # As the arrays: the first run that succeeded, else the first.
            run = runs.sort_values(["success", "restart"], ascending=[False, True]).iloc[0]
            labels[row], clean[row] = run["label"], run["clean_prediction"]
            found[row, column] = -1 if _missing(run) else int(run["adversarial_prediction"])
    return labels, clean, found


def _missing(run: pd.Series) -> bool:
    return bool(run.isna()["adversarial_prediction"])


def class_name(label: int) -> str:
    """Returns how the paper names a class."""
    return CLASSES[label] if 0 <= label < len(CLASSES) else "?" if label < 0 else str(label)


def chosen_image(images: Images) -> tuple[int, str]:
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
    x, noisy = images.x[place], images.noisy[place, column]
    with plotting.style():
        figure = plotting.new_figure(plotting.DOUBLE_COLUMN, 3.35)
        clean_axes, noise_axes, noisy_axes = figure.subplots(1, 3)
        _draw_image(clean_axes, x)
        _heading(clean_axes, "(a) clean image $x$", images, place, None)
        noise = _draw_noise(noise_axes, noisy - x)
        noise_axes.set_title(f"(b) perturbation, |ε| ≤ {EPSILON:g}\n ")
        _draw_image(noisy_axes, noisy)
        _heading(noisy_axes, "(c) noisy image $x + ε$", images, place, column)
        bar = figure.colorbar(noise, ax=noise_axes, location="bottom", fraction=0.05, pad=0.03)
        bar.set_ticks([-EPSILON, 0, EPSILON], labels=[f"−{EPSILON:g}", "0", f"{EPSILON:g}"])
        bar.outline.set_visible(False)
        # As much room below the images beside it, so that the three are of one size.
        for axes in (clean_axes, noisy_axes):
            blank = figure.colorbar(noise, ax=axes, location="bottom", fraction=0.05, pad=0.03)
            blank.ax.set_visible(False)
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
    images: Images,
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


def image_rows(images: Images, place: int, columns: Sequence[int]) -> pd.DataFrame:
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


def _draw_image(axes: Any, image: np.ndarray) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    _bare(axes)
    if not np.isfinite(image).all():
        axes.text(0.5, 0.5, "the attack\nleft no image", transform=axes.transAxes, ha="center")


def _draw_noise(axes: Any, noise: np.ndarray) -> Any:
    drawn = axes.imshow(noise, cmap="gray", vmin=-EPSILON, vmax=EPSILON, interpolation="nearest")
    _bare(axes)
    return drawn


def _bare(axes: Any) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _heading(axes: Any, text: str, images: Images, place: int, column: int | None) -> None:
    """Writes a title and below it the prediction, in red where it is wrong."""
    prediction = images.clean[place] if column is None else images.found[place, column]
    wrong = prediction != images.labels[place]
    axes.set_title(f"{text}\n ")
    says = "no prediction" if prediction < 0 else f"called {class_name(int(prediction))}"
    axes.annotate(
        says + (" (wrong)" if wrong and prediction >= 0 else ""),
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 5),
        textcoords="offset points",
        color=WRONG if wrong else "#222222",
        fontweight="bold" if wrong else "normal",
        fontsize=8,
        va="bottom",
    )


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
            _draw_image(axes, images.x[place] if column is None else images.noisy[place, column])
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
