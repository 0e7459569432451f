"""Compiled parts of attacks within a ball of the maximum norm: limits, starts, steps (numba).

Rows are computed one by one, each from its own values alone.
"""

from __future__ import annotations

import numpy as np

from medrobust.attacks.engine.noise_kernels import signed
from medrobust.runtime.compiled import compiled

# SplitMix64 (Steele, Lea and Flood 2014): a bijection of 64-bit words, here of a counter.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST_FACTOR, _SECOND_FACTOR = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_FIRST_SHIFT, _SECOND_SHIFT, _THIRD_SHIFT = np.uint64(30), np.uint64(27), np.uint64(31)

# Words of float32 numbers: all bits but the sign's, and infinity.
_WITHOUT_SIGN, _INFINITE = np.uint32(0x7FFFFFFF), np.uint32(0x7F800000)

SIGN, ADAM, ADAMAX = 0, 1, 2
# Defaults of torch.optim.Adam and Adamax.
FIRST_DECAY, SECOND_DECAY = 0.9, 0.999
_ONE = np.float32(1.0)
_FIRST_WEIGHT = np.float32(1.0 - FIRST_DECAY)
_SECOND_DECAY = np.float32(SECOND_DECAY)
_SECOND_WEIGHT = np.float32(1.0 - SECOND_DECAY)
_EPSILON = np.float32(1e-8)


@compiled
def mixed(word: int) -> int:
    """Returns a word of 64 bits, uint64, every bit of which depends on all of ``word``, uint64."""
    z = word + _GOLDEN
    z = (z ^ (z >> _FIRST_SHIFT)) * _FIRST_FACTOR
    z = (z ^ (z >> _SECOND_SHIFT)) * _SECOND_FACTOR
    return z ^ (z >> _THIRD_SHIFT)


@compiled
def stream_key(seed: int, stream: int) -> int:
    """Returns the key, uint64, of one of the streams that a run's seed, int64, gives."""
    return mixed(mixed(np.uint64(seed)) ^ np.uint64(stream))


@compiled
def fill_bits(key: int, first: int, words: np.ndarray) -> None:
    """Overwrites words, uint64 ``[k]``, by numbers ``first, first + 1, ...`` of a stream."""
    for i in range(words.size):
        words[i] = mixed(key + _GOLDEN * np.uint64(first + i))


@compiled
def limits(
    x: np.ndarray, epsilon: float, low: float, high: float, least: np.ndarray, most: np.ndarray
) -> None:
    """Overwrites ``least`` and ``most`` by the ends of what the values of rows may become.

    They are the float32 numbers nearest to ``x - epsilon`` and ``x + epsilon`` whose difference
    from x, taken in float64, is at most epsilon, cut to the clip box (where x itself lies outside:
    not farther out).

    Args:
        x: float32 ``[k, d]``.
        epsilon: radius, float64.
        low, high: the clip box, float32.
        least, most: float32 ``[k, d]``.
    """
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            value = x[i, j]
            exact = np.float64(value)
            up = np.float32(exact + epsilon)
            if np.float64(up) - exact > epsilon:
                up = np.nextafter(up, np.float32(-np.inf))
            down = np.float32(exact - epsilon)
            if exact - np.float64(down) > epsilon:
                down = np.nextafter(down, np.float32(np.inf))
            most[i, j] = max(min(up, high), value)
            least[i, j] = min(max(down, low), value)


@compiled
def uniform_start(
    x: np.ndarray,
    seeds: np.ndarray,
    stream: int,
    epsilon: float,
    least: np.ndarray,
    most: np.ndarray,
    rows: np.ndarray,
) -> None:
    """Overwrites rows by ``x + U(-epsilon, epsilon)``, each from its own seed, within the limits.

    Args:
        x: float32 ``[k, d]``.
        seeds: int64 ``[k]``.
        stream: number of the stream to draw from.
        epsilon: radius, float64.
        least, most: from :func:`limits`.
        rows: float32 ``[k, d]``.
    """
    d = x.shape[1]
    words = np.empty((1, (d + 1) // 2), dtype=np.uint64)
    noise = np.empty((1, d), dtype=np.float32)
    size = np.float32(epsilon)
    for i in range(x.shape[0]):
        fill_bits(stream_key(seeds[i], stream), 0, words[0])
        signed(words.view(np.uint32), noise)
        for j in range(d):
            value = x[i, j] + size * noise[0, j]
            rows[i, j] = min(max(value, least[i, j]), most[i, j])


@compiled
def ascend(
    optimizer: int,
    active: np.ndarray,
    slopes: np.ndarray,
    sizes: np.ndarray,
    corrections: np.ndarray,
    least: np.ndarray,
    most: np.ndarray,
    rows: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
) -> None:
    """Takes a step up the sign of the slopes, within the limits, in one pass over memory.

    ``SIGN`` adds ``size * sign``. ``ADAM`` and ``ADAMAX`` treat ``-sign`` as the gradient of what
    they lower (Kingma and Ba 2015, algorithms 1 and 2, as PyTorch has them).

    Args:
        optimizer: ``SIGN``, ``ADAM`` or ``ADAMAX``.
        active: bool ``[k]``, the rows that move.
        slopes: float32 ``[k, d]``; the sign of NaN is 0.
        sizes: float32 ``[k]``: the length of a step, divided by ``1 - FIRST_DECAY**t`` for all but
            ``SIGN``.
        corrections: float32 ``[k]``: for ``ADAM`` the root of ``1 - SECOND_DECAY**t``.
        least, most: from :func:`limits`.
        rows: float32 ``[k, d]``, changed.
        first, second: moments, float32 ``[k, d]``, changed (but by ``SIGN``); 0 before step 1.
    """
    for i in range(rows.shape[0]):
        if not active[i]:
            continue
        size, correction = sizes[i], corrections[i]
        for j in range(rows.shape[1]):
            slope = slopes[i, j]
            sign = np.float32(slope > 0) - np.float32(slope < 0)
            move = sign
            if optimizer != SIGN:
                mean = first[i, j] + _FIRST_WEIGHT * (sign - first[i, j])
                first[i, j] = mean
                if optimizer == ADAMAX:
                    scale = max(_SECOND_DECAY * second[i, j], abs(sign) + _EPSILON)
                    second[i, j] = scale
                else:
                    square = second[i, j] * _SECOND_DECAY + _SECOND_WEIGHT * (sign * sign)
                    second[i, j] = square
                    scale = np.sqrt(square) / correction + _EPSILON
                move = mean / scale
            value = rows[i, j] + size * move
            rows[i, j] = min(max(value, least[i, j]), most[i, j])


@compiled
def count_unusable(active: np.ndarray, bits: np.ndarray, counts: np.ndarray) -> None:
    """Adds 1 to the counts of rows whose slopes are all 0, or not all finite.

    Args:
        active: bool ``[k]``, the rows that count.
        bits: uint32 ``[k, d]``, the slopes' float32 numbers as they lie in memory: without the
            sign, larger words are larger numbers, and those of infinity and NaN the largest.
        counts: int64 ``[k]``, changed.
    """
    for i in range(bits.shape[0]):
        if not active[i]:
            continue
        largest = np.uint32(0)
        for j in range(bits.shape[1]):
            largest = max(largest, bits[i, j] & _WITHOUT_SIGN)
        if largest == 0 or largest >= _INFINITE:
            counts[i] += 1
