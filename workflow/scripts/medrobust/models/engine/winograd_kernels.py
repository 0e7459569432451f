"""Compiled transforms of Winograd's convolution F(3 x 3, 3 x 3) (numba).

A tile is 5 x 5 values of the input and 3 x 3 of the output. Along one axis, three outputs of a
kernel of width 3 are ``A ((G kernel) * (B values))``, products taken one by one: interpolation at
0, 1, -1, 2 and infinity. ``B`` stands in :func:`_to_products`, ``A`` in :func:`_from_products`, and
``G`` in :mod:`medrobust.models.engine.winograd`.

Channels lie side by side in memory, and innermost loops are over them; each has one result, as
LLVM makes vector instructions of those.
"""

from __future__ import annotations

import numpy as np

from medrobust.runtime.compiled import compiled

SIDE = 3
ZERO, TWO, THREE, FOUR = np.float32(0), np.float32(2), np.float32(3), np.float32(4)


@compiled
def _line(x: np.ndarray, number: int, first: int, step: int, channels: int) -> np.ndarray:
    """Returns the line of a number of those that begin at ``first``, ``step`` apart."""
    start = first + number * step
    return x[start : start + channels]


@compiled
def _to_products(
    x: np.ndarray, first: int, step: int, y: np.ndarray, start: int, stride: int, channels: int
) -> None:
    """Writes ``B`` times five lines of ``x``: from ``first`` on, ``step`` apart, into ``y``."""
    x0, x1 = _line(x, 0, first, step, channels), _line(x, 1, first, step, channels)
    x2, x3 = _line(x, 2, first, step, channels), _line(x, 3, first, step, channels)
    x4 = _line(x, 4, first, step, channels)
    y0, y1 = _line(y, 0, start, stride, channels), _line(y, 1, start, stride, channels)
    y2, y3 = _line(y, 2, start, stride, channels), _line(y, 3, start, stride, channels)
    y4 = _line(y, 4, start, stride, channels)
    for k in range(channels):
        v0, v1, v2, v3, v4 = x0[k], x1[k], x2[k], x3[k], x4[k]
        y0[k] = TWO * (v0 - v2) - v1 + v3
        y1[k] = v3 - v2 - TWO * v1
        y2[k] = TWO * v1 - THREE * v2 + v3
        y3[k] = v3 - v1
        y4[k] = TWO * (v1 - v3) - v2 + v4


@compiled
def _from_products(
    x: np.ndarray, first: int, step: int, y: np.ndarray, start: int, stride: int, channels: int
) -> None:
    """Writes ``A`` times five lines of ``x``, as :func:`_to_products` does, into three of ``y``."""
    x0, x1 = _line(x, 0, first, step, channels), _line(x, 1, first, step, channels)
    x2, x3 = _line(x, 2, first, step, channels), _line(x, 3, first, step, channels)
    x4 = _line(x, 4, first, step, channels)
    y0, y1 = _line(y, 0, start, stride, channels), _line(y, 1, start, stride, channels)
    y2 = _line(y, 2, start, stride, channels)
    for k in range(channels):
        v0, v1, v2, v3, v4 = x0[k], x1[k], x2[k], x3[k], x4[k]
        y0[k] = v0 + v1 + v2 + v3
        y1[k] = v1 - v2 + TWO * v3
        y2[k] = v1 + v2 + FOUR * v3 + v4


@compiled
def transform_maps(x: np.ndarray, tiles: np.ndarray) -> None:
    """Writes the transformed tiles of maps, which have a border of zeros of width 1.

    Args:
        x: float32 ``[n, height, width, c]``, contiguous.
        tiles: float32 ``[25, n * rows * columns, c]``, overwritten; rows and columns of tiles are a
            third of the map's height and width, rounded up.
    """
    n, height, width, channels = x.shape
    rows, columns = -(-height // SIDE), -(-width // SIDE)
    outside = np.zeros(channels, np.float32)
    patch = np.empty(25 * channels, np.float32)
    half = np.empty(25 * channels, np.float32)
    flat, across = tiles.reshape(-1), tiles.shape[1] * channels
    line = 5 * channels
    for tile in range(n * rows * columns):
        i, place = tile // (rows * columns), tile % (rows * columns)
        top, left = SIDE * (place // columns) - 1, SIDE * (place % columns) - 1
        for p in range(5):
            for q in range(5):
                own = _line(patch, q, p * line, channels, channels)
                inside = 0 <= top + p < height and 0 <= left + q < width
                maps = x[i, top + p, left + q] if inside else outside
                for k in range(channels):
                    own[k] = maps[k]
        for q in range(5):
            _to_products(patch, q * channels, line, half, q * channels, line, channels)
        for p in range(5):
            start = 5 * p * across + tile * channels
            _to_products(half, p * line, channels, flat, start, across, channels)


@compiled
def finish_maps(products: np.ndarray, biases: np.ndarray, y: np.ndarray, added: bool) -> None:
    """Writes the maps of transformed tiles, with biases, after ReLU.

    Args:
        products: float32 ``[25, n * rows * columns, c]``.
        biases: float32 ``[c]``.
        y: float32 ``[n, height, width, c]``, contiguous, overwritten.
        added: whether what ``y`` holds is added before ReLU.
    """
    n, height, width, channels = y.shape
    rows, columns = -(-height // SIDE), -(-width // SIDE)
    half = np.empty(15 * channels, np.float32)
    whole = np.empty(9 * channels, np.float32)
    flat, across = products.reshape(-1), products.shape[1] * channels
    line = 5 * channels
    for tile in range(n * rows * columns):
        i, place = tile // (rows * columns), tile % (rows * columns)
        top, left = SIDE * (place // columns), SIDE * (place % columns)
        for q in range(5):
            first = q * across + tile * channels
            _from_products(flat, first, 5 * across, half, q * channels, line, channels)
        for p in range(min(SIDE, height - top)):
            start = SIDE * p * channels
            _from_products(half, p * line, channels, whole, start, channels, channels)
            for q in range(min(SIDE, width - left)):
                maps, own = y[i, top + p, left + q], whole[start + q * channels :]
                if added:
                    for k in range(channels):
                        maps[k] = max(own[k] + biases[k] + maps[k], ZERO)
                else:
                    for k in range(channels):
                        maps[k] = max(own[k] + biases[k], ZERO)
