"""Compiled parts of HopSkipJump's gradient estimate: noise to queries, answers to sums (numba).

Every row is computed alone and sums run in the order of rows, so nothing depends on how rows are
grouped into blocks.
"""

from __future__ import annotations

import numpy as np

from medrobust.runtime.compiled import compiled

_ZERO = np.float32(0.0)


@compiled
def _dot(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the inner product in float32, in eight partial sums that run side by side."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = _ZERO
    whole = a.size // 8 * 8
    for j in range(0, whole, 8):
        s0 += a[j] * b[j]
        s1 += a[j + 1] * b[j + 1]
        s2 += a[j + 2] * b[j + 2]
        s3 += a[j + 3] * b[j + 3]
        s4 += a[j + 4] * b[j + 4]
        s5 += a[j + 5] * b[j + 5]
        s6 += a[j + 6] * b[j + 6]
        s7 += a[j + 7] * b[j + 7]
    for j in range(whole, a.size):
        s0 += a[j] * b[j]
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))


@compiled
def _axpy(factor: float, x: np.ndarray, y: np.ndarray) -> None:
    for j in range(x.size):
        y[j] += factor * x[j]


@compiled
def _place(noise: np.ndarray, centre: np.ndarray, scale: float, low: float, high: float) -> None:
    for j in range(noise.size):
        value = centre[j] + scale * noise[j]
        value = low if value < low else value
        noise[j] = high if value > high else value


@compiled
def perturb(
    noise: np.ndarray,
    centre: np.ndarray,
    radius: float,
    normal: np.ndarray,
    low: float,
    high: float,
) -> None:
    """Overwrites noise by ``clip(centre + radius * noise / |noise|)``.

    Args:
        noise: float32 ``[k, d]``.
        centre: float32 ``[d]``.
        radius: L2 length of the perturbation before it is clipped.
        normal: unit vector, float32 ``[d]``: the part of the noise along it is taken off first;
            of length 0 where nothing is.
        low, high: the clip box.
    """
    for i in range(noise.shape[0]):
        row = noise[i]
        if normal.size:
            _axpy(-_dot(row, normal), normal, row)
        length = np.sqrt(_dot(row, row))
        scale = np.float32(radius) / length if length > _ZERO else _ZERO
        _place(row, centre, scale, np.float32(low), np.float32(high))


@compiled
def _add(row: np.ndarray, centre: np.ndarray, total: np.ndarray) -> None:
    for j in range(row.size):
        total[j] += np.float64(row[j] - centre[j])


@compiled
def accumulate(
    rows: np.ndarray,
    centre: np.ndarray,
    adversarial: np.ndarray,
    total: np.ndarray,
    hits: np.ndarray,
) -> None:
    """Adds perturbations to their sums.

    Args:
        rows: float32 ``[k, d]``, as :func:`perturb` left them.
        centre: float32 ``[d]``.
        adversarial: bool ``[k]``, the answers.
        total, hits: float64 ``[d]``: sums over all rows, and over the adversarial ones.
    """
    for i in range(rows.shape[0]):
        _add(rows[i], centre, total)
        if adversarial[i]:
            _add(rows[i], centre, hits)
