"""Generated stand-ins of image data sets: evidence of nothing.

A class is a pattern of soft coloured spots. A picture shows the pattern of its class, moved a
little, with a weaker one of another class laid over it, its own brightness, contrast and noise:
learnable but not trivial, in any shape and with any classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medrobust.core.errors import InputError
from medrobust.core.seeds import generator
from medrobust.data.prepared.store import Prepared

_SPOTS = 7
_SHIFT = 0.08
"""How far a pattern moves at most, as a share of the picture's sides."""


def image_standin(
    n_train: int,
    n_test: int,
    classes: Sequence[str],
    shape: Sequence[int],
    *,
    seed: int,
    n_val: int = 0,
) -> Prepared:
    """Returns a generated data set of images.

    Args:
        n_train, n_test: numbers of training and test rows.
        classes: two or more names; labels by position, as evenly spread as can be.
        shape: (channels, height, width).
        seed: root seed.
        n_val: how many of the ``n_train`` rows are for validation.

    Returns:
        x uint8 ``[n_train + n_test, channels, height, width]``, to be scaled to [0, 1]; rows of
        training come first, then those of validation, then those of test.

    Raises:
        InputError: fewer than two classes, or a part has fewer rows than there are classes.
    """
    import pandas as pd

    parts = [n_train - n_val, n_val, n_test]
    smallest = min(parts) if n_val else min(n_train, n_test)
    if len(classes) < 2 or smallest < len(classes):
        raise InputError(
            f"No stand-in with {len(classes)} classes, {parts[0]} training, {n_val} validation and "
            f"{n_test} test images can be generated.",
            remedy="use at least two classes and at least one row per class and split.",
        )
    random = generator(seed, "standin", "image", *classes, *shape, n_train, n_test, n_val)
    y = np.concatenate([random.permutation(np.arange(n) % len(classes)) for n in parts])
    ends = np.cumsum([0, *parts])
    rows = np.arange(len(y))
    return Prepared(
        x=_pictures(y, classes, tuple(shape), seed, random),
        y=y.astype(np.int64),
        ids=pd.DataFrame({"row_id": rows, "file": "generated", "position": rows}),
        folds=[(rows[: ends[1]], rows[ends[1] : ends[2]], rows[ends[2] :])],
        class_names=tuple(classes),
        input_range=(0.0, 1.0),
        synthetic=True,
        complete=True,
        notes=("SYNTHETIC: generated patterns in the shape of the images; evidence of nothing.",),
        of_patients=False,
    )


def _pictures(
    y: np.ndarray,
    classes: Sequence[str],
    shape: tuple[int, ...],
    seed: int,
    random: np.random.Generator,
) -> np.ndarray:
    patterns = np.stack([_pattern(seed, name, shape) for name in classes])
    other = (y + random.integers(1, len(classes), len(y))) % len(classes)
    weight = random.uniform(0.55, 1.05, len(y))
    contrast = random.uniform(0.35, 0.65, len(y))
    level = random.uniform(-0.08, 0.08, len(y))
    limits = [max(1, round(_SHIFT * side)) for side in shape[1:]]
    shifts = np.stack([random.integers(-m, m + 1, (2, len(y))) for m in limits], axis=-1)
    x = np.empty((len(y), *shape), np.uint8)
    for row in range(len(y)):
        shown, laid_over = (
            np.roll(patterns[label], tuple(shifts[which, row]), axis=(1, 2))
            for which, label in enumerate((y[row], other[row]))
        )
        picture = shown + weight[row] * laid_over
        noise = random.normal(0, 0.08, shape)
        value = 0.5 + level[row] + contrast[row] * (picture - 0.5) + noise
        x[row] = (255 * value).round().clip(0, 255)
    return x


def _pattern(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the pattern of a class, float64 ``[channels, height, width]`` in [0, 0.8].

    Its spots are wrapped around the edges, so that it can be moved without a seam.
    """
    random = generator(seed, "standin", "image", name, *shape)
    vertical, horizontal = (np.arange(side) / side for side in shape[1:])
    total = np.zeros(shape)
    for _ in range(_SPOTS):
        centre = random.uniform(0, 1, 2)
        width = random.uniform(0.06, 0.16)
        colour = random.uniform(-0.6, 1, shape[0])
        down, across = (
            np.exp(-0.5 * (_around(line - middle) / width) ** 2)
            for line, middle in zip((vertical, horizontal), centre, strict=True)
        )
        total += colour[:, None, None] * down[:, None] * across
    low, high = total.min(), total.max()
    return 0.8 * (total - low) / (high - low)


def _around(distance: np.ndarray) -> np.ndarray:
    """Returns distances on a circle of circumference 1, in [-0.5, 0.5)."""
    return (distance + 0.5) % 1 - 0.5
