"""Compiled loops of instance normalisation and leaky ReLU in one (numba).

Maps are float32 ``[n, pixels, channels]``, contiguous: channels lie side by side, and innermost
loops are over them. An image's maps stay in the processor's cache from one loop to the next.

Sums are float32 over at most :data:`PIXELS_PER_SUM` pixels, and float64 over these.
"""

from __future__ import annotations

import numpy as np

from medrobust.runtime.compiled import compiled

PIXELS_PER_SUM = 32
ZERO = np.float32(0)


@compiled
def _add(part: np.ndarray, total: np.ndarray) -> None:
    """Moves float32 sums ``[channels]`` into float64 ones."""
    for k in range(part.size):
        total[k] += part[k]
    part[:] = ZERO


@compiled
def _sum(x: np.ndarray, centre: np.ndarray, total: np.ndarray) -> None:
    """Overwrites ``total``, float64 ``[channels]``, by the sums of ``x - centre``."""
    part = np.zeros(centre.size, np.float32)
    total[:] = 0.0
    for first in range(0, len(x), PIXELS_PER_SUM):
        for pixel in range(first, min(first + PIXELS_PER_SUM, len(x))):
            values = x[pixel]
            for k in range(part.size):
                part[k] += values[k] - centre[k]
        _add(part, total)


@compiled
def _sum_squares(x: np.ndarray, centre: np.ndarray, total: np.ndarray) -> None:
    """Overwrites ``total``, float64 ``[channels]``, by the sums of ``(x - centre) ** 2``."""
    part = np.zeros(centre.size, np.float32)
    total[:] = 0.0
    for first in range(0, len(x), PIXELS_PER_SUM):
        for pixel in range(first, min(first + PIXELS_PER_SUM, len(x))):
            values = x[pixel]
            for k in range(part.size):
                away = values[k] - centre[k]
                part[k] += away * away
        _add(part, total)


@compiled
def normalise(
    x: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    epsilon: float,
    slope: np.float32,
    y: np.ndarray,
    mean: np.ndarray,
    inverse: np.ndarray,
) -> None:
    """Writes the leaky ReLU of normalised maps, and the statistics of each image's maps.

    Args:
        x: maps.
        scale, shift: float32 ``[channels]``.
        epsilon: that is added to variances.
        slope: of the leaky ReLU below zero.
        y: maps, overwritten.
        mean: float32 ``[n, channels]``, overwritten.
        inverse: of the deviation; float32 ``[n, channels]``, overwritten.
    """
    n, pixels, channels = x.shape
    total, factor = np.empty(channels, np.float64), np.empty(channels, np.float32)
    for i in range(n):
        maps, results, centre = x[i], y[i], mean[i]
        # Sums of differences to a value of the map: those of a constant map are zeros.
        first = maps[0]
        _sum(maps, first, total)
        for k in range(channels):
            centre[k] = first[k] + total[k] / pixels
        _sum_squares(maps, centre, total)
        for k in range(channels):
            inverse[i, k] = 1.0 / np.sqrt(total[k] / pixels + epsilon)
            factor[k] = inverse[i, k] * scale[k]
        for pixel in range(pixels):
            values, result = maps[pixel], results[pixel]
            for k in range(channels):
                value = (values[k] - centre[k]) * factor[k] + shift[k]
                result[k] = value if value > ZERO else value * slope


@compiled
def slopes(
    g: np.ndarray,
    x: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    slope: np.float32,
    mean: np.ndarray,
    inverse: np.ndarray,
    to_x: np.ndarray,
    to_scale: np.ndarray,
    to_shift: np.ndarray,
) -> None:
    """Writes the slopes at what :func:`normalise` had, from those at its result.

    Args:
        g: slopes, maps.
        x, scale, shift, slope, mean, inverse: as in :func:`normalise`.
        to_x: maps, overwritten.
        to_scale, to_shift: float64 ``[channels]``, zeros at first, added to.
    """
    n, pixels, channels = x.shape
    part, parts = np.zeros(channels, np.float32), np.zeros(channels, np.float32)
    total, totals = np.empty(channels, np.float64), np.empty(channels, np.float64)
    factor, level = np.empty(channels, np.float32), np.empty(channels, np.float32)
    tilt = np.empty(channels, np.float32)
    for i in range(n):
        maps, results, centre = x[i], to_x[i], mean[i]
        for k in range(channels):
            factor[k] = inverse[i, k] * scale[k]
        total[:] = 0.0
        totals[:] = 0.0
        for first in range(0, pixels, PIXELS_PER_SUM):
            for pixel in range(first, min(first + PIXELS_PER_SUM, pixels)):
                values, given, result = maps[pixel], g[i, pixel], results[pixel]
                for k in range(channels):
                    away = values[k] - centre[k]
                    # As in the way there, to the last bit, so that signs are the same.
                    above = away * factor[k] + shift[k] > ZERO
                    result[k] = given[k] if above else given[k] * slope
                    part[k] += result[k]
                    parts[k] += result[k] * away
            _add(part, total)
            _add(parts, totals)
        for k in range(channels):
            to_shift[k] += total[k]
            to_scale[k] += totals[k] * inverse[i, k]
            level[k] = total[k] / pixels
            tilt[k] = totals[k] / pixels * inverse[i, k] * inverse[i, k]
        for pixel in range(pixels):
            values, result = maps[pixel], results[pixel]
            for k in range(channels):
                away = values[k] - centre[k]
                result[k] = factor[k] * (result[k] - level[k] - away * tilt[k])
