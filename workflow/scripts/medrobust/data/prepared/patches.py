"""Patches of one size, cut from slices for evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medrobust.core.seeds import generator
from medrobust.data.prepared.slices import SliceSet


def cut_patches(
    slices: SliceSet, numbers: Sequence[int], size: tuple[int, int], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns one patch of each slice, and its classes.

    A side of the slice that is longer than the patch is cut at a place drawn from the seed and the
    slice's number; a shorter one is filled with zeros, which is the mean of a standardised image,
    and background, on both sides alike (public code of ima).

    Args:
        slices: the data set.
        numbers: of the slices.
        size: height and width of a patch.
        seed: of the places.

    Returns:
        float32 ``[n, channels, h, w]`` and int64 ``[n, h, w]``.
    """
    images = np.zeros((len(numbers), slices.channels, *size), dtype=np.float32)
    targets = np.zeros((len(numbers), *size), dtype=np.int64)
    for k, number in enumerate(numbers):
        mask = slices.mask(number)
        random = generator(seed, "patch", int(number))
        spans = [_span(have, want, random) for have, want in zip(mask.shape, size, strict=True)]
        (rows, at_rows), (columns, at_columns) = spans
        images[k][:, at_rows, at_columns] = slices.image(number)[:, rows, columns]
        targets[k][at_rows, at_columns] = np.maximum(mask[rows, columns], 0)
    return images, targets


def _span(have: int, want: int, random: np.random.Generator) -> tuple[slice, slice]:
    """Returns which part of a side is taken, and where in the patch it lies."""
    if have > want:
        first = int(random.integers(have - want + 1))
        return slice(first, first + want), slice(0, want)
    first = (want - have) // 2
    return slice(0, have), slice(first, first + have)
