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
TWO, THREE, FOUR = np.float32(2), np.float32(3), np.float32(4)


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
def transform_maps(x: np.ndarray, first: int, tiles: np.ndarray) -> None:
    """Writes transformed tiles of maps, which have a border of zeros of width 1.

    Rows of tiles are numbered through all maps, first map first. A map has a third of its height
    such rows, each of a third of its width tiles, both rounded up.

    Args:
        x: float32 ``[n, height, width, c]``, contiguous.
        first: number of the first row of tiles.
        tiles: float32 ``[25, rows * columns, c]``, overwritten.
    """
    _, height, width, channels = x.shape
    rows, columns = -(-height // SIDE), -(-width // SIDE)
    line, wide = width * channels, (SIDE * columns + 2) * channels
    outside = np.zeros(line, np.float32)
    above = np.empty(5 * line, np.float32)
    strip = np.zeros(5 * wide, np.float32)
    flat, across = tiles.reshape(-1), tiles.shape[1] * channels
    pixels = x.reshape(-1)
    for row in range(tiles.shape[1] // columns):
        i, place = divmod(first + row, rows)
        top = SIDE * place - 1
        if top >= 0 and top + 5 <= height:
            start = (i * height + top) * line
            _to_products(pixels, start, line, strip, channels, wide, line)
        else:
            for p in range(5):
                own = _line(above, p, 0, line, line)
                if 0 <= top + p < height:
                    own[:] = _line(pixels, i * height + top + p, 0, line, line)
                else:
                    own[:] = outside
            _to_products(above, 0, line, strip, channels, wide, line)
        for p in range(5):
            start = 5 * p * across + row * columns * channels
            for column in range(columns):
                _to_products(
                    strip, p * wide + SIDE * column * channels, channels,
                    flat, start + column * channels, across, channels,
                )  # fmt: skip


@compiled
def finish_maps(
    products: np.ndarray,
    first: int,
    biases: np.ndarray,
    y: np.ndarray,
    added: bool,
    least: np.float32,
) -> None:
    """Writes the maps of transformed tiles, with biases.

    Args:
        products: float32 ``[25, rows * columns, c]``.
        first: number of the first row of tiles, as in :func:`transform_maps`.
        biases: float32 ``[c]``.
        y: float32 ``[n, height, width, c]``, contiguous, overwritten.
        added: whether what ``y`` holds is added.
        least: what is written in place of smaller values: 0 for ReLU, minus infinity for none.
    """
    _, height, width, channels = y.shape
    rows, columns = -(-height // SIDE), -(-width // SIDE)
    line = columns * channels
    half = np.empty(15 * line, np.float32)
    whole = np.empty(SIDE * line, np.float32)
    flat, across = products.reshape(-1), products.shape[1] * channels
    for row in range(products.shape[1] // columns):
        i, place = divmod(first + row, rows)
        top = SIDE * place
        for q in range(5):
            start = q * across + row * line
            _from_products(flat, start, 5 * across, half, q * line, 5 * line, line)
        for p in range(min(SIDE, height - top)):
            for column in range(columns):
                own = column * channels
                _from_products(
                    half, 5 * p * line + own, line, whole, SIDE * own, channels, channels
                )
            for q in range(width):
                maps, values = y[i, top + p, q], whole[q * channels : (q + 1) * channels]
                if added:
                    for k in range(channels):
                        maps[k] = max(values[k] + biases[k] + maps[k], least)
                else:
                    for k in range(channels):
                        maps[k] = max(values[k] + biases[k], least)
