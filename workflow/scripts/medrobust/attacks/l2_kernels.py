"""Compiled parts of attacks within a ball of L2: starts, steps, projection (numba).

Rows are computed one by one, each from its own values alone, in float64.
"""

from __future__ import annotations

import numpy as np

from medrobust.attacks.ball_kernels import fill_bits, stream_key
from medrobust.attacks.noise_kernels import signed
from medrobust.compiled import compiled

# Rows stay so much within the radius, so that no other order of summation finds them beyond it.
_WITHIN = 1.0 - 1e-10


@compiled
def pull_in(
    point: np.ndarray, epsilon: float, low: float, high: float, wish: np.ndarray, row: np.ndarray
) -> None:
    """Overwrites row by where a wish leads: cut to the clip box, then shortened to the radius.

    What is left of the wish is rounded towards the point, so the row is neither farther from it
    than epsilon, in float64, nor outside the box (where the point lies outside: not farther out).

    Args:
        point: float32 ``[d]``, the centre.
        epsilon: radius, float64.
        low, high: the clip box, float32.
        wish: float64 ``[d]``, overwritten.
        row: float32 ``[d]``.
    """
    square = 0.0
    for j in range(point.size):
        least = np.float64(min(low, point[j]))
        most = np.float64(max(high, point[j]))
        away = min(max(wish[j], least), most) - np.float64(point[j])
        wish[j] = away
        square += away * away
    length, radius = np.sqrt(square), epsilon * _WITHIN
    scale = radius / length if length > radius else 1.0
    for j in range(point.size):
        exact, away = np.float64(point[j]), scale * wish[j]
        value = np.float32(exact + away)
        if abs(np.float64(value) - exact) > abs(away):
            value = np.nextafter(value, point[j])
        row[j] = value


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
        square = 0.0
        for j in range(wish.size):
            slope = np.float64(slopes[i, j])
            square += slope * slope
        if not 0.0 < square < np.inf:
            continue
        scale = size / np.sqrt(square)
        for j in range(wish.size):
            wish[j] = np.float64(rows[i, j]) + scale * np.float64(slopes[i, j])
        pull_in(points[i], epsilon, low, high, wish, rows[i])
