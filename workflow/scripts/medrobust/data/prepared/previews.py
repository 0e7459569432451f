"""The picture of a data card: a few training examples of every class.

Signals are drawn as traces, images as one strip of tiles per class, points of the plane as a
scatter plot per split. A stand-in is marked SYNTHETIC across the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medrobust.core import io
from medrobust.data.prepared.splits import SPLIT_TITLES, SPLITS
from medrobust.data.prepared.store import Prepared

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TRACES = 4
_POINTS = 1500
_GAP = 0.04
"""Space between two tiles, in widths of a tile."""
_DPI = 150
_CLASS_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")
_CLASS_MARKERS = ("o", "^", "s", "D", "v", "P", "X")


def write_preview(path: str | Path, data: Prepared, title: str, *, subset: bool = False) -> None:
    """Draws a few training examples of each class as a PNG.

    Args:
        path: file to write, atomically.
        data: signals ``[n, length]``, points ``[n, 2]`` or images ``[n, channels, height,
            width]``, whose values are uint8 or lie in ``data.input_range``. Images with one
            channel are drawn in grey, with three in colour; of others the first channel is shown.
        title: printed above; a stand-in is marked SYNTHETIC across the picture.
        subset: say so in the title.
    """
    from medrobust.reporting import plotting

    with plotting.style():
        figure = _drawing(data)(data)
        prefix = "SYNTHETIC: " if data.synthetic else "SUBSET: " if subset else ""
        figure.suptitle(prefix + title, fontsize=9, x=0.01, ha="left")
        if data.synthetic:
            plotting.mark_synthetic(figure)
        with io.atomic_path(path) as temporary:
            # No date or version in the file, so that equal pictures are equal bytes.
            figure.savefig(temporary, format="png", dpi=_DPI, metadata={"Software": None})


def _drawing(data: Prepared) -> Callable[[Prepared], Figure]:
    if data.x.ndim == 4:
        return _draw_images
    return _draw_points if data.x.shape[1] == 2 else _draw_signals


def examples(data: Prepared, count: int) -> list[np.ndarray]:
    """Returns, for each class, at most ``count`` training rows spread evenly over the class."""
    train = data.folds[0][0]
    of_class = [train[data.y[train] == label] for label in range(len(data.class_names))]
    return [
        rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]
        for rows in of_class
    ]


def _caption(data: Prepared, label: int) -> str:
    parts = [
        f"{int((data.y[rows] == label).sum()):,} {SPLIT_TITLES[name]}"
        for name, rows in zip(SPLITS, data.folds[0], strict=True)
        if len(rows)
    ]
    return f"{data.class_names[label]}  ({', '.join(parts)})"


def _draw_signals(data: Prepared) -> Figure:
    from medrobust.reporting import plotting

    drawn = examples(data, _TRACES)
    # One panel per trace: laid over each other, heartbeats cannot be told apart.
    figure = plotting.new_figure(plotting.DOUBLE_COLUMN, 0.95 * len(drawn) + 0.6)
    axes = figure.subplots(len(drawn), _TRACES, sharex=True, sharey=True, squeeze=False)
    low, high = data.input_range
    margin = 0.06 * (high - low)
    for label, rows in enumerate(drawn):
        for axis, row in zip(axes[label], rows, strict=False):
            axis.plot(data.x[row], color=plotting.ORIGINAL, linewidth=0.9)
            axis.set_ylim(low - margin, high + margin)
        for axis in axes[label][len(rows) :]:
            axis.set_axis_off()
        axes[label][0].set_title(_caption(data, label), fontweight="bold")
    figure.supxlabel("sample", fontsize=8)
    figure.supylabel("scaled amplitude", fontsize=8)
    return figure


def _tiles(n_classes: int) -> int:
    """Returns how many examples of a class stand side by side: more where classes are many."""
    return 5 if n_classes <= 3 else 8 if n_classes <= 6 else 12


def _draw_images(data: Prepared) -> Figure:
    from medrobust.reporting import plotting

    columns = _tiles(len(data.class_names))
    height, width = data.x.shape[2:]
    tile = plotting.DOUBLE_COLUMN / columns
    row_height = tile * height / width + 0.22
    figure = plotting.new_figure(plotting.DOUBLE_COLUMN, row_height * len(data.class_names) + 0.4)
    axes = figure.subplots(len(data.class_names), 1, squeeze=False)[:, 0]
    # Enlarged pixels stay squares, which keeps the file small too.
    interpolation = "nearest" if tile * _DPI > width else "antialiased"
    for label, rows in enumerate(examples(data, columns)):
        axes[label].set_axis_off()
        axes[label].set_title(_caption(data, label), fontweight="bold", pad=2)
        axes[label].imshow(image_strip(data, rows, columns), interpolation=interpolation)
    return figure


def image_strip(data: Prepared, rows: np.ndarray, columns: int) -> np.ndarray:
    """Returns images side by side on white ground, as RGB.

    Args:
        data: images ``[n, channels, height, width]``, uint8 or float in ``data.input_range``.
        rows: which images, at most ``columns``.
        columns: tiles of the strip; those left over stay white.

    Returns:
        float64 ``[height, columns * width + gaps, 3]`` in [0, 1].
    """
    height, width = data.x.shape[2:]
    step = width + max(1, round(_GAP * width))
    strip = np.ones((height, columns * step - (step - width), 3))
    low, high = (0, 255) if data.x.dtype == np.uint8 else data.input_range
    for place, row in enumerate(rows):
        picture = np.moveaxis(np.asarray(data.x[row], np.float64), 0, -1)
        # Broadcasting turns one channel into three equal ones: grey.
        picture = picture if picture.shape[-1] == 3 else picture[..., :1]
        strip[:, place * step : place * step + width] = (picture - low) / (high - low)
    return strip.clip(0, 1)


def _draw_points(data: Prepared) -> Figure:
    from medrobust.reporting import plotting

    parts = [(name, rows) for name, rows in zip(SPLITS, data.folds[0], strict=True) if len(rows)]
    figure = plotting.new_figure(plotting.DOUBLE_COLUMN, 2.0 + 0.18 * len(data.class_names))
    axes = figure.subplots(1, len(parts), sharex=True, sharey=True, squeeze=False)[0]
    for axis, (name, rows) in zip(axes, parts, strict=True):
        # Thousands of points per class would lie one above the other.
        stride = max(1, round(len(rows) / len(data.class_names) / _POINTS))
        for label in range(len(data.class_names)):
            axis.scatter(
                *data.x[rows[data.y[rows] == label][::stride]].T,
                s=4,
                linewidths=0,
                alpha=0.6,
                color=_CLASS_COLOURS[label % len(_CLASS_COLOURS)],
                marker=_CLASS_MARKERS[label % len(_CLASS_MARKERS)],
                label=_caption(data, label),
            )
        shown = f" (1 point in {stride} shown)" if stride > 1 else ""
        axis.set_title(SPLIT_TITLES[name] + shown, fontweight="bold")
        axis.set_aspect("equal")
        axis.set_xlabel("first value")
    axes[0].set_ylabel("second value")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", markerscale=2.5)
    return figure
