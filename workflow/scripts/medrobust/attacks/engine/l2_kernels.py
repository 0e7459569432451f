"""Compiled parts of attacks within a ball of L2: starts, steps, projection (numba).

Rows are computed one by one, each from its own values alone, in float64.
"""

from __future__ import annotations

import numpy as np

from medrobust.attacks.engine.ball_kernels import fill_bits, stream_key
from medrobust.attacks.engine.noise_kernels import signed
from medrobust.runtime.compiled import compiled

# Rows stay so much within the radius, so that no other order of summation finds them beyond it.
_WITHIN = 1.0 - 1e-10
# The most by which a value may be off after rounding to float32, as a share of it.
_ROUNDING = 2.0**-24 * (1.0 + 1e-6)


@compiled
def length(values: np.ndarray) -> float:
    """Returns the L2 norm of values ``[d]``, summed in float64.

    Four sums side by side: a processor adds to one while it waits for another.
    """
    first = second = third = fourth = 0.0
    whole = values.size - values.size % 4
    for j in range(0, whole, 4):
        first += np.float64(values[j]) * np.float64(values[j])
        second += np.float64(values[j + 1]) * np.float64(values[j + 1])
        third += np.float64(values[j + 2]) * np.float64(values[j + 2])
        fourth += np.float64(values[j + 3]) * np.float64(values[j + 3])
    for j in range(whole, values.size):
        first += np.float64(values[j]) * np.float64(values[j])
    return np.sqrt((first + second) + (third + fourth))


@compiled
def pull_in(
    point: np.ndarray, epsilon: float, low: float, high: float, wish: np.ndarray, row: np.ndarray
) -> None:
    """Overwrites row by where a wish leads: cut to the clip box, then shortened to the radius.

    The radius is made smaller by what rounding to float32 may add, some 1e-7 of the lengths of the
    point and the step. So the row is not farther from the point than epsilon, in float64, nor
    outside the box (where the point lies outside: not farther out).

    Args:
        point: float32 ``[d]``, the centre.
        epsilon: radius, float64.
        low, high: the clip box, float32.
        wish: float64 ``[d]``, overwritten.
        row: float32 ``[d]``.
    """
    for j in range(point.size):
        least = np.float64(min(low, point[j]))
        most = np.float64(max(high, point[j]))
        wish[j] = min(max(wish[j], least), most) - np.float64(point[j])
    far = length(wish)
    radius = epsilon * _WITHIN - _ROUNDING * (length(point) + min(far, epsilon))
    scale = max(radius, 0.0) / far if far > radius else 1.0
    for j in range(point.size):
        row[j] = np.float32(np.float64(point[j]) + scale * wish[j])
        # The sum of a point and the way to a bound near 0 may be rounded to beyond the bound.
        if row[j] < min(low, point[j]):
            row[j] = min(low, point[j])
        elif row[j] > max(high, point[j]):
            row[j] = max(high, point[j])


@compiled
def box_start(
    x: np.ndarray,
    seeds: np.ndarray,
    stream: int,
    epsilon: float,
    low: float,
    high: float,
    rows: np.ndarray,
) -> None:
    """Overwrites rows by uniform draws from the clip box, shortened to the radius around x.

    Args:
        x: float32 ``[k, d]``.
        seeds: int64 ``[k]``, of each row.
        stream: number of the stream to draw from.
        epsilon: radius, float64.
        low, high: the clip box, float32.
        rows: float32 ``[k, d]``.
    """
    d = x.shape[1]
    words = np.empty((1, (d + 1) // 2), dtype=np.uint64)
    noise = np.empty((1, d), dtype=np.float32)
    wish = np.empty(d)
    middle = (np.float64(low) + np.float64(high)) / 2
    half = (np.float64(high) - np.float64(low)) / 2
    for i in range(x.shape[0]):
        fill_bits(stream_key(seeds[i], stream), 0, words[0])
        signed(words.view(np.uint32), noise)
        for j in range(d):
            wish[j] = middle + half * np.float64(noise[0, j])
        pull_in(x[i], epsilon, low, high, wish, rows[i])


@compiled
def climb(
    active: np.ndarray,
    slopes: np.ndarray,
    size: float,
    points: np.ndarray,
    epsilon: float,
    low: float,
    high: float,
    rows: np.ndarray,
) -> None:
    """Takes a step of length ``size`` along the slopes, then :func:`pull_in`.

    Args:
        active: bool ``[k]``, the rows that move.
        slopes: float32 ``[k, d]``; a row that is 0, or not finite, moves nothing.
        size: length of a step in L2, float64.
        points: float32 ``[k, d]``, the centres.
        epsilon: radius, float64.
        low, high: the clip box, float32.
        rows: float32 ``[k, d]``, changed.
    """
    wish = np.empty(rows.shape[1])
    for i in range(rows.shape[0]):
        if not active[i]:
            continue
        steepness = length(slopes[i])
        if not 0.0 < steepness < np.inf:
            continue
        scale = size / steepness
        for j in range(wish.size):
            wish[j] = np.float64(rows[i, j]) + scale * np.float64(slopes[i, j])
        pull_in(points[i], epsilon, low, high, wish, rows[i])
