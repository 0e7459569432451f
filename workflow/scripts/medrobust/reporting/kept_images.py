"""Images that an attack kept, clean and attacked, with what the model says of them.

An attack on points of a split keeps the arrays of the first of them (``keep_arrays``); its records
tell labels and predictions. Figures of several studies show them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.evaluation.records import read_records

if TYPE_CHECKING:
    import pandas as pd

    from medrobust.reporting.request import Entry

WRONG = "#B00020"


@dataclass(frozen=True)
class KeptImages:
    """Kept images of one model.

    Attributes:
        entry: the model.
        attack: name in the study.
        files: arrays and records.
        ids: int64 ``[k]``.
        x: ``[k, channels, h, w]``.
        noisy: ``[k, levels, channels, h, w]``.
        levels: radii in ascending order, ``[levels]``.
        labels, clean: true and predicted class of the clean images, int ``[k]``.
        found: predicted class of the noisy ones, int ``[k, levels]``; -1 where there is none.
    """

    entry: Entry
    attack: str
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
                where=f"attack {self.attack!r} of the study, key grid.epsilon",
                remedy=f"add {level:g}.",
            )
        return int(places[0])


def read_kept_images(
    entry: Entry, attack: str, records: Sequence[str], *, channels: int | None = None
) -> KeptImages:
    """Returns the images that an attack on a model kept.

    Args:
        entry: the model, with ``attack_arrays`` of the attack.
        attack: name in the study.
        records: files of its records.
        channels: that images must have; None: any number.

    Raises:
        InputError: a file is missing, is not of images, or the records do not fit the arrays.
    """
    path = entry.attack_arrays[attack]
    for file in (path, *records):
        if not Path(file).is_file():
            raise InputError("This file of attacked images does not exist.", where=file)
    arrays = io.read_tensors(path)
    missing = {"point_id", "x", "x_adv", "epsilon"} - set(arrays)
    if missing:
        raise InputError(f"Arrays are missing: {', '.join(sorted(missing))}.", where=path)
    x, noisy, levels = (arrays[name] for name in ("x", "x_adv", "epsilon"))
    wrong = x.ndim != 4 or x.shape[1] != (channels or x.shape[1])
    if wrong or noisy.shape != (len(x), len(levels), *x.shape[1:]):
        kind = "grey images" if channels == 1 else "images"
        raise InputError(
            f"These are not {kind} at {len(levels)} levels: x has shape {x.shape}, x_adv "
            f"{noisy.shape}.",
            where=path,
        )
    table = read_records(list(records)) if records else None
    if len(levels) == 1 and np.isnan(levels[0]) and table is not None:
        # An attack without a grid: its radius is in the records alone.
        levels = np.unique(table["epsilon"])
    order = np.argsort(levels)
    ids, levels = arrays["point_id"], levels[order].astype(np.float64)
    labels, clean, found = _predictions(table, records, ids, levels, path)
    return KeptImages(
        entry,
        attack,
        (path, *records),
        ids,
        x,
        noisy[:, order],
        levels,
        labels,
        clean,
        found,
    )


def _predictions(
    table: pd.DataFrame | None,
    records: Sequence[str],
    ids: np.ndarray,
    levels: np.ndarray,
    path: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns labels and clean predictions ``[k]``, and noisy predictions ``[k, levels]``."""
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


# --- drawing ----------------------------------------------------------------------------


def bare(axes: Any) -> None:
    """Takes ticks and frame from axes that show a picture."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def draw_grey(axes: Any, image: np.ndarray) -> None:
    """Draws a picture ``[h, w]`` with values in [0, 1], in grey; says so where there is none."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    bare(axes)
    if not np.isfinite(image).all():
        axes.text(0.5, 0.5, "the attack\nleft no image", transform=axes.transAxes, ha="center")


def draw_perturbation(axes: Any, noise: np.ndarray, radius: float) -> Any:
    """Draws a perturbation ``[h, w]``, grey from ``-radius`` to ``radius``; returns the picture."""
    drawn = axes.imshow(noise, cmap="gray", vmin=-radius, vmax=radius, interpolation="nearest")
    bare(axes)
    return drawn


def head(axes: Any, text: str, called: str, *, wrong: bool) -> None:
    """Writes a title and below it what the model says, in red where that is wrong.

    Args:
        axes: of the picture.
        text: the title.
        called: name of the class that the model gives it; "": none.
        wrong: whether that is not its label.
    """
    axes.set_title(f"{text}\n ")
    says = f"called {called}" if called else "no prediction"
    axes.annotate(
        says + (" (wrong)" if wrong and called else ""),
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 5),
        textcoords="offset points",
        color=WRONG if wrong else "#222222",
        fontweight="bold" if wrong else "normal",
        fontsize=8,
        va="bottom",
    )


def colour_bars(figure: Any, noise: Any, radius: float, axes: Any, others: Sequence[Any]) -> None:
    """Puts a bar below a drawn perturbation, and as much room below the pictures beside it.

    Args:
        figure: the figure.
        noise: what :func:`draw_perturbation` returned.
        radius: of the perturbation.
        axes: where it is drawn.
        others: axes that stay of the same size.
    """
    bar = figure.colorbar(noise, ax=axes, location="bottom", fraction=0.05, pad=0.03)
    bar.set_ticks([-radius, 0, radius], labels=[f"−{radius:.3g}", "0", f"{radius:.3g}"])
    bar.outline.set_visible(False)
    for one in others:
        blank = figure.colorbar(noise, ax=one, location="bottom", fraction=0.05, pad=0.03)
        blank.ax.set_visible(False)
