"""Compiled parts of HopSkipJump's gradient estimate: noise to queries, answers to sums (numba).

Every row is computed alone and sums run in the order of rows, so nothing depends on how rows are
grouped into blocks.
"""

from __future__ import annotations

import numpy as np

from medrobust.attacks.engine.noise_kernels import draw_normal, draw_signed
from medrobust.runtime.compiled import compiled

_ZERO = np.float32(0.0)
# Random words drawn, and columns summed, at a time: they stay in the processor's first cache.
_WORDS, _COLUMNS = 1024, 1024


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
def perturbed(
    state: np.ndarray,
    normal_values: bool,
    rows: np.ndarray,
    centre: np.ndarray,
    radius: float,
    normal: np.ndarray,
    low: float,
    high: float,
) -> None:
    """Overwrites rows by ``clip(centre + radius * noise / |noise|)``.

    A row is drawn and placed before the next, so that it is read while it is near.

    Args:
        state: of the stream, uint64 ``[4]`` (:func:`~noise_kernels.draw_words`); overwritten.
        normal_values: whether noise is normal; else it is uniform in [-1, 1].
        rows: float32 ``[k, d]``.
        centre: float32 ``[d]``.
        radius: L2 length of the perturbation before it is clipped.
        normal: unit vector, float32 ``[d]``: the part of the noise along it is taken off first;
            of length 0 where nothing is.
        low, high: the clip box.
    """
    words = np.empty(_WORDS, dtype=np.uint64)
    for i in range(rows.shape[0]):
        row = rows[i]
        if normal_values:
            draw_normal(state, words, row)
        else:
            draw_signed(state, words, row)
        if normal.size:
            _axpy(-_dot(row, normal), normal, row)
        length = np.sqrt(_dot(row, row))
        scale = np.float32(radius) / length if length > _ZERO else _ZERO
        _place(row, centre, scale, np.float32(low), np.float32(high))


@compiled
def accumulate(
    rows: np.ndarray,
    centre: np.ndarray,
    adversarial: np.ndarray,
    total: np.ndarray,
    hits: np.ndarray,
) -> None:
    """Adds perturbations to their sums, some columns of all rows at a time.

    Args:
        rows: float32 ``[k, d]``, as :func:`perturbed` left them.
        centre: float32 ``[d]``.
        adversarial: bool ``[k]``, the answers.
        total, hits: float64 ``[d]``: sums over all rows, and over the adversarial ones.
    """
    for start in range(0, centre.size, _COLUMNS):
        part = slice(start, min(start + _COLUMNS, centre.size))
        here, all_rows, some = centre[part], total[part], hits[part]
        for i in range(rows.shape[0]):
            row = rows[i, part]
            if adversarial[i]:
                for j in range(row.size):
                    move = np.float64(row[j] - here[j])
                    all_rows[j] += move
                    some[j] += move
            else:
                for j in range(row.size):
                    all_rows[j] += np.float64(row[j] - here[j])
