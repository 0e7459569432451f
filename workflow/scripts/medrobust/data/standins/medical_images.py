"""Generated images that stand in for real ones: shaped and labelled alike, evidence of nothing.

Four kinds, each with a sign that differs between the classes and varies from image to image:

* ``xray``: two dark lungs beside a bright spine; hazy spots in the lungs of the second class;
* ``ct``: a bright body with two dark lungs; faint spots at their edges in the second class;
* ``ultrasound``: speckle with one dark lesion: wide, smooth, bright below (first class), or tall,
  ragged and dark below;
* ``tissue``: tinted texture; classes differ in tint and grain.

They are seeded and marked synthetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from medrobust.core.errors import InputError
from medrobust.core.seeds import generator
from medrobust.data.formats.images import ImageSpec
from medrobust.data.prepared.drawn_splits import stratified_folds
from medrobust.data.prepared.splits import Fold
from medrobust.data.prepared.store import Prepared

Kind = Literal["xray", "ct", "ultrasound", "tissue"]

_BLOCK = 32

Drawing = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
"""Labels ``[n]``, size, random numbers -> values ``[n, channels, size, size]``, about [0, 1]."""


def medical_standin(
    kind: Kind,
    classes: Sequence[str],
    spec: ImageSpec,
    n_train: int,
    n_test: int,
    *,
    seed: int,
    folds: int | None = None,
) -> Prepared:
    """Returns a generated image data set.

    Args:
        kind: what the images resemble.
        classes: name of each label.
        spec: size and channels.
        n_train, n_test: numbers of images; classes are of about equal size. Training images come
            first.
        seed: root seed.
        folds: divide all images into so many stratified folds instead.

    Returns:
        x uint8 ``[n_train + n_test, channels, size, size]``.

    Raises:
        InputError: there are fewer images than classes.
    """
    import pandas as pd

    if min(n_train, n_test) < len(classes):
        raise InputError(
            f"No stand-in with {len(classes)} classes, {n_train} training and {n_test} test images "
            "can be generated.",
            remedy="ask for at least one image per class.",
        )
    n = n_train + n_test
    random = generator(seed, "standin", kind, *classes, n_train, n_test)
    parts = [random.permutation(np.arange(size) % len(classes)) for size in (n_train, n_test)]
    y = np.concatenate(parts).astype(np.int64)
    x = np.empty((n, spec.channels, spec.size, spec.size), np.uint8)
    for start in range(0, n, _BLOCK):
        values = _DRAWINGS[kind](y[start : start + _BLOCK], spec.size, random)
        x[start : start + _BLOCK] = np.rint(255 * values.clip(0, 1))
    nothing = np.empty(0, np.int64)
    split: list[Fold] = [(np.arange(n_train), nothing, np.arange(n_train, n))]
    if folds is not None:
        split = stratified_folds(y, folds, seed=seed, name=f"standin-{kind}")
    ids = {
        "row_id": np.arange(n),
        "file": "generated",
        "patient": [f"synthetic{i}" for i in range(n)],
    }
    return Prepared(
        x=x,
        y=y,
        ids=pd.DataFrame(ids),
        folds=split,
        class_names=tuple(classes),
        input_range=(0.0, 1.0),
        synthetic=True,
        complete=True,
        notes=("SYNTHETIC: generated pictures of a similar look; evidence of nothing.",),
    )


def _texture(n: int, size: int, cells: int, random: np.random.Generator) -> np.ndarray:
    """Returns smooth random fields ``[n, size, size]`` of about unit variance."""
    place = np.linspace(0, cells - 1, size)
    weight = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells))).astype(np.float32)
    weight /= np.linalg.norm(weight, axis=1, keepdims=True)
    return weight @ random.normal(size=(n, cells, cells)).astype(np.float32) @ weight.T


def _ellipse(size: int, centre: Sequence, radii: Sequence, ragged: np.ndarray | float = 0.0):
    """Returns soft-edged ellipses ``[n, size, size]``, 1 inside; coordinates are in [-1, 1].

    Args:
        size: pixels.
        centre, radii: (x, y), each a number or ``[n]``.
        ragged: height of waves on the edge, relative to the radius.
    """
    grid = np.linspace(-1, 1, size, dtype=np.float32)

    def shaped(value: np.ndarray | float) -> np.ndarray:
        return np.asarray(value, np.float32).reshape(-1, 1, 1)

    x = (grid[None, None, :] - shaped(centre[0])) / shaped(radii[0])
    y = (grid[None, :, None] - shaped(centre[1])) / shaped(radii[1])
    waves = 1 + shaped(ragged) * np.sin(7 * np.arctan2(y, x) + 9 * shaped(centre[0]))
    return 0.5 + 0.5 * np.tanh(6 * (waves - np.hypot(x, y)))


def _spots(
    lungs: np.ndarray, strength: np.ndarray, size: int, reach: float, random: np.random.Generator
) -> np.ndarray:
    """Returns three hazy spots per image, seen in the lungs only."""
    n = len(strength)
    result = np.zeros((n, size, size), np.float32)
    for _ in range(3):
        side = random.choice([-1, 1], n) * random.uniform(0.25, reach, n)
        centre = side, random.uniform(-0.5, 0.6, n)
        radii = random.uniform(0.08, 0.25, (2, n))
        result += _ellipse(size, centre, radii)
    return np.asarray(strength, np.float32)[:, None, None] * result * lungs


def _xray(y: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    n = len(y)
    shift, tall = random.normal(0, 0.05, n), random.uniform(0.6, 0.8, n)
    lungs = sum(_ellipse(size, (s * 0.42 + shift, 0.05), (0.28, tall)) for s in (-1, 1))
    spine = _ellipse(size, (shift, 0), (0.1, 1.6))
    bright = random.uniform(0.5, 0.7, n).astype(np.float32)[:, None, None]
    strength = random.uniform(0.0, 0.1, n) + random.uniform(0.08, 0.28, n) * y
    values = bright - 0.32 * lungs + 0.2 * spine + _spots(lungs, strength, size, 0.55, random)
    values += 0.04 * _texture(n, size, 12, random) + random.normal(0, 0.02, values.shape)
    return values[:, None]


def _ct(y: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    n = len(y)
    body = _ellipse(size, (0, 0), (random.uniform(0.8, 0.95, n), random.uniform(0.6, 0.8, n)))
    lungs = sum(_ellipse(size, (s * 0.4, 0), (0.3, random.uniform(0.4, 0.55, n))) for s in (-1, 1))
    strength = random.uniform(0.0, 0.12, n) + random.uniform(0.1, 0.35, n) * y
    values = 0.62 * body - 0.5 * lungs + _spots(lungs, strength, size, 0.65, random)
    values += 0.03 * _texture(n, size, 24, random) * body + random.normal(0, 0.015, values.shape)
    return values[:, None]


def _ultrasound(y: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    n = len(y)
    x0, y0 = random.uniform(-0.25, 0.25, (2, n))
    wide = random.uniform(0.25, 0.42, n) * (1 - 0.3 * y)
    tall = random.uniform(0.18, 0.34, n) * (1 + 0.35 * y)
    lesion = _ellipse(size, (x0, y0), (wide, tall), random.uniform(0, 0.1, n) + 0.12 * y)
    below = _ellipse(size, (x0, y0 + 0.8), (0.8 * wide, 0.7)) * (1 - lesion)
    echo = random.normal(0.3, 0.25, n) - 0.6 * y
    depth = np.linspace(0.6, 0.4, size, dtype=np.float32)[None, :, None]
    tissue = depth * (1 + 0.2 * _texture(n, size, 10, random)) * (1 - 0.75 * lesion)
    tissue = tissue * (1 + echo[:, None, None] * below)
    grey = tissue * random.gamma(6, 1 / 6, tissue.shape)
    return np.repeat(grey[:, None], 3, axis=1)


_TINTS = np.array(
    [
        [0.52, 0.32, 0.60], [0.84, 0.50, 0.66], [0.66, 0.40, 0.52], [0.34, 0.26, 0.56],
        [0.74, 0.62, 0.58], [0.62, 0.50, 0.78], [0.90, 0.80, 0.84], [0.92, 0.92, 0.92],
    ],
    np.float32,
)  # fmt: skip
_GRAINS = (28, 14, 22, 36, 18, 24, 9, 5)


def _tissue(y: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    n = len(y)
    tint = _TINTS[y] + random.normal(0, 0.1, (n, 3)).astype(np.float32)
    grain = np.stack([_texture(1, size, _GRAINS[label], random)[0] for label in y])
    values = (
        tint[:, :, None, None] + 0.09 * grain[:, None] + random.normal(0, 0.03, (n, 3, size, size))
    )
    return values


_DRAWINGS: dict[str, Drawing] = {
    "xray": _xray,
    "ct": _ct,
    "ultrasound": _ultrasound,
    "tissue": _tissue,
}
