"""The picture of a card of volumes: slices of a few training cases, without and with the mask.

Of each case the slice along the third axis that holds most of the mask is shown, each channel in a
row of its own, standardised by itself; the last row has the outlines of the classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medrobust.core import io
from medrobust.data.prepared.volumes import VolumeDataset

_CASES = 5
_DPI = 150
_COLOURS = ("#D55E00", "#56B4E9", "#F0E442", "#009E73", "#CC79A7")


def write_volume_preview(path: str | Path, data: VolumeDataset) -> None:
    """Draws slices of at most five training cases as a PNG.

    Args:
        path: file to write, atomically.
        data: the prepared volumes; a stand-in is marked SYNTHETIC across the picture, a subset
            says so in the title.
    """
    from medrobust.reporting import plotting

    card = data.card
    channels = card["channels"]
    rows = data.train_index[
        np.unique(np.linspace(0, len(data.train_index) - 1, _CASES).round().astype(int))
    ]
    with plotting.style():
        width = plotting.DOUBLE_COLUMN
        figure = plotting.new_figure(width, 1.45 * (len(channels) + 1) + 0.6)
        axes = figure.subplots(len(channels) + 1, len(rows), squeeze=False)
        for axis in axes.ravel():
            axis.set_axis_off()
        for column, row in zip(axes.T, rows.tolist(), strict=True):
            _draw_case(column, data, row)
        for number, name in enumerate([*channels, f"{channels[0]} and mask"]):
            axes[number, 0].text(
                -0.04, 0.5, name, rotation=90, va="center", ha="right", fontsize=8,
                transform=axes[number, 0].transAxes,
            )  # fmt: skip
        _legend(figure, card["class_names"])
        prefix = "SYNTHETIC: " if card["synthetic"] else "" if card["complete"] else "SUBSET: "
        title = f"{prefix}{card['title']} ({card['source']})"
        figure.suptitle(title, fontsize=9, x=0.01, ha="left")
        if card["synthetic"]:
            plotting.mark_synthetic(figure)
        with io.atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=_DPI, metadata={"Software": None})


def fullest_slice(mask: np.ndarray) -> int:
    """Returns the slice along the third axis with most voxels of any class, the middle if none."""
    filled = (mask > 0).sum(axis=(0, 1))
    return int(filled.argmax()) if filled.any() else mask.shape[2] // 2


def _draw_case(column: np.ndarray, data: VolumeDataset, row: int) -> None:
    image, mask = data.image(row), data.label(row)
    number = fullest_slice(mask)
    for axis, channel in zip(column, [*image, image[0]], strict=True):
        # One odd voxel must not make all others black.
        low, high = np.percentile(channel, [0.5, 99.5])
        axis.imshow(
            channel[:, :, number].T, cmap="gray", origin="lower", vmin=low, vmax=max(high, low + 1)
        )
    column[0].set_title(f"{data.cases[row]}\nslice {number + 1} of {mask.shape[2]}", fontsize=6)
    for k in range(1, len(data.card["class_names"])):
        area = (mask[:, :, number] == k).T
        if area.any():
            column[-1].contour(area, levels=[0.5], colors=[_colour(k)], linewidths=1.1)


def _colour(label: int) -> str:
    return _COLOURS[(label - 1) % len(_COLOURS)]


def _legend(figure: object, class_names: list[str]) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=_colour(k)) for k in range(1, len(class_names))]
    figure.legend(lines, class_names[1:], loc="outside lower left", ncols=len(lines))
