"""Segmentations counted: records of slices, and the scores of ima.

A record is of one slice, class and noise level: true positive, false positive and false negative
pixels, the 95 % Hausdorff distance, and the L2 norm of the noise. The scores (ima, equations 9 and
10):

* Total Voxel Dice Index, TVDI: of each class ``2 TP / (2 TP + FP + FN)`` of the sums over slices;
* Average Dice Index, ADI: the mean over slices of each slice's Dice.

Of several classes the mean, background left out. Equation 10 averages over "samples", which are
slices in the authors' code, and only slices that contain every class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

#: Files of an attack on networks of pixels: records, kept slices, what it is made from.
PIXEL_RECORDS, PIXEL_ARRAYS, PIXEL_SUMMARY = (
    "slices.parquet",
    "slices.safetensors",
    "slices.json",
)
#: In the denominator of a slice's Dice, as the authors of ima have it.
TINY = 1e-8


def counted(
    labels: np.ndarray, targets: np.ndarray, n_classes: int, spacing: tuple[float, float]
) -> dict[str, np.ndarray]:
    """Counts the pixels of each class in each slice, background left out.

    Args:
        labels: predicted classes, int64 ``[n, h, w]``.
        targets: classes, int64 ``[n, h, w]``.
        n_classes: background included.
        spacing: height and width of a pixel, in millimetres.

    Returns:
        ``tp``, ``fp``, ``fn`` int64, ``hd95`` float64 in millimetres, each ``[n, classes - 1]``;
        ``hd95`` is NaN where the class is not there or not predicted.
    """
    said, there = (_by_class(values, n_classes) for values in (labels, targets))
    counts = dict(zip(("tp", "fp", "fn"), pixel_counts(labels, targets, n_classes), strict=True))
    return counts | {"hd95": _hausdorff(said, there, spacing)}


def pixel_counts(
    labels: np.ndarray, targets: np.ndarray, n_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns true positive, false positive and false negative pixels, int64 ``[n, classes - 1]``.

    Args:
        labels, targets: classes, integers ``[n, h, w]``.
        n_classes: background included, which is not counted.
    """
    said, there = (_by_class(values, n_classes) for values in (labels, targets))
    pairs = (said & there, said & ~there, ~said & there)
    true, false, missed = (pair.sum(axis=(2, 3), dtype=np.int64) for pair in pairs)
    return true, false, missed


def _by_class(values: np.ndarray, n_classes: int) -> np.ndarray:
    """Returns where each class but the background is, bool ``[n, classes - 1, h, w]``."""
    return np.stack([values == k for k in range(1, n_classes)], axis=1)


def _hausdorff(said: np.ndarray, there: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Returns the 95 % Hausdorff distance of outlines, float64 ``[n, classes]``, by MONAI."""
    import torch
    from monai.metrics import compute_hausdorff_distance

    both = said.any(axis=(2, 3)) & there.any(axis=(2, 3))
    found = np.full(both.shape, np.nan)
    for k in range(both.shape[1]):
        rows = np.flatnonzero(both[:, k])
        if len(rows):
            pair = (torch.from_numpy(v[rows, k : k + 1].astype(np.float32)) for v in (said, there))
            distance = compute_hausdorff_distance(
                *pair, include_background=True, percentile=95, spacing=list(spacing)
            )
            found[rows, k] = distance[:, 0].numpy()
    return found


def dice_of(tp: Any, fp: Any, fn: Any) -> Any:
    """Returns ``2 TP / (2 TP + FP + FN)``, 0 where all are 0."""
    return 2 * tp / (2 * tp + fp + fn + TINY)


def dice(counts: pd.DataFrame) -> pd.Series:
    """Returns the Dice of each record."""
    return dice_of(counts["tp"], counts["fp"], counts["fn"])


def total_dice(records: pd.DataFrame) -> pd.DataFrame:
    """Returns TVDI by noise level and class.

    Args:
        records: with ``epsilon``, ``class``, ``tp``, ``fp``, ``fn``.

    Returns:
        index ``epsilon``, a column for each class. Their mean is the index of several classes.
    """
    sums = records.groupby(["epsilon", "class"])[["tp", "fp", "fn"]].sum()
    return dice(sums).unstack("class")


def slice_dice(records: pd.DataFrame) -> pd.DataFrame:
    """Returns the Dice of each slice, the mean over classes; the mean over slices is ADI.

    Returns:
        index ``number`` (of the slice), a column for each noise level.
    """
    known = records.assign(dice=dice(records))
    return known.groupby(["number", "epsilon"])["dice"].mean().unstack("epsilon")
