"""Compiled transforms of random bits to noise, several times as fast as NumPy's generators (numba).

The bits are those of a NumPy bit generator. Normal values follow Box and Muller (1958), two from
64 bits, without a branch, so that the compiler does a vector register of them at a time. Of 23
bits the largest radius is 5.77; one in 17 million would lie beyond.
"""

from __future__ import annotations

import numpy as np

from medrobust.runtime.compiled import compiled

_HALF, _ONE, _TWO = np.float32(0.5), np.float32(1.0), np.float32(2.0)
_TO_UNIT = np.float32(2.0**-23)
_TO_SIGNED = np.float32(2.0**-31)
_TO_QUARTER = np.float32(2.0**-22)
_ROOT_TWO, _HALF_PI = np.float32(1.41421356), np.float32(1.57079633)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_BIAS, _MANTISSA = np.int32(127), np.int32(0x7FFFFF)
_BITS_OF_ONE, _MANTISSA_BITS = np.int32(0x3F800000), np.int32(23)
_QUADRANT_BITS, _LOW_BITS = np.uint32(22), np.uint32(0x3FFFFF)
# 23 bits and a half are exact in float32.
_RADIUS_SHIFT, _ANGLE_SHIFT = np.uint32(9), np.uint32(8)
# Of numba an int64 and an uint64 make a float64: shifts need their own type.
_WORD_1, _WORD_3, _WORD_11 = np.uint64(1), np.uint64(3), np.uint64(11)
_WORD_24, _WORD_40 = np.uint64(24), np.uint64(40)
_QUADRANT_1, _QUADRANT_2 = np.int32(1), np.int32(2)
# Polynomials of Cephes: logf, sinf, cosf.
_L = (
    *(np.float32(7.0376836292e-2), np.float32(-1.1514610310e-1), np.float32(1.1676998740e-1)),
    *(np.float32(-1.2420140846e-1), np.float32(1.4249322787e-1), np.float32(-1.6668057665e-1)),
    *(np.float32(2.0000714765e-1), np.float32(-2.4999993993e-1), np.float32(3.3333331174e-1)),
)
_S = (np.float32(-1.9515295891e-4), np.float32(8.3321608736e-3), np.float32(-1.6666654611e-1))
_C = (np.float32(2.44331571e-5), np.float32(-1.38873163e-3), np.float32(4.16666456e-2))


@compiled
def _log(x: float) -> float:
    """Returns the logarithm of a positive, normal float32."""
    bits = np.float32(x).view(np.int32)
    exponent = np.float32((bits >> _MANTISSA_BITS) - _BIAS)
    mantissa = np.int32((bits & _MANTISSA) | _BITS_OF_ONE).view(np.float32)
    large = mantissa > _ROOT_TWO
    mantissa = mantissa * _HALF if large else mantissa
    exponent = exponent + _ONE if large else exponent
    t = mantissa - _ONE
    p = ((_L[0] * t + _L[1]) * t + _L[2]) * t + _L[3]
    p = ((((p * t + _L[4]) * t + _L[5]) * t + _L[6]) * t + _L[7]) * t + _L[8]
    square = t * t
    return t + (p * t * square + exponent * _LN2_LOW - _HALF * square) + exponent * _LN2_HIGH


@compiled
def _pairs(bits: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    for i in range(first.size):
        uniform = (np.float32(np.int32(bits[2 * i] >> _RADIUS_SHIFT)) + _HALF) * _TO_UNIT
        radius = np.sqrt(-_TWO * _log(uniform))
        turn = bits[2 * i + 1] >> _ANGLE_SHIFT
        quadrant = np.int32(turn >> _QUADRANT_BITS)
        # An angle within an eighth of a turn, either way, and one of four directions.
        part = (np.float32(np.int32(turn & _LOW_BITS)) + _HALF) * _TO_QUARTER - _HALF
        angle = part * _HALF_PI
        square = angle * angle
        sine = ((_S[0] * square + _S[1]) * square + _S[2]) * square * angle + angle
        cosine = ((_C[0] * square + _C[1]) * square + _C[2]) * square * square
        cosine = cosine - _HALF * square + _ONE
        odd = (quadrant & _QUADRANT_1) == _QUADRANT_1
        x, y = (sine, cosine) if odd else (cosine, sine)
        x = -x if quadrant in (_QUADRANT_1, _QUADRANT_2) else x
        y = -y if quadrant >= _QUADRANT_2 else y
        first[i], second[i] = radius * x, radius * y


@compiled
def draw_words(state: np.ndarray, words: np.ndarray) -> None:
    """Overwrites words by the next of NumPy's SFC64 (Chris Doty-Humphrey's small fast generator).

    Args:
        state: uint64 ``[4]``, as ``SFC64(...).state["state"]["state"]``; overwritten.
        words: uint64 ``[k]``.
    """
    a, b, c, count = state[0], state[1], state[2], state[3]
    for i in range(words.size):
        word = a + b + count
        count += _WORD_1
        a = b ^ (b >> _WORD_11)
        b = c + (c << _WORD_3)
        c = ((c << _WORD_24) | (c >> _WORD_40)) + word
        words[i] = word
    state[0], state[1], state[2], state[3] = a, b, c, count


@compiled
def draw_normal(state: np.ndarray, words: np.ndarray, row: np.ndarray) -> None:
    """Overwrites a row by independent standard normal values.

    Args:
        state: as for :func:`draw_words`; a row takes ``ceil(d / 2)`` words.
        words: uint64 ``[m]``, room for some of them: what is drawn is used while it is near.
        row: float32 ``[d]``; of an odd row's last pair one value is left out.
    """
    bits, half = words.view(np.uint32), row.size // 2
    for start in range(0, half, words.size):
        size = min(words.size, half - start)
        draw_words(state, words[:size])
        stop = start + size
        _pairs(bits[: 2 * size], row[start:stop], row[half + start : half + stop])
    if 2 * half < row.size:
        draw_words(state, words[:1])
        _pairs(bits[:2], row[2 * half :], np.empty(1, dtype=np.float32))


@compiled
def draw_signed(state: np.ndarray, words: np.ndarray, row: np.ndarray) -> None:
    """Overwrites a row by independent values, uniform in [-1, 1]; arguments as above."""
    bits, pairs = words.view(np.uint32), (row.size + 1) // 2
    for start in range(0, pairs, words.size):
        size = min(words.size, pairs - start)
        draw_words(state, words[:size])
        first = 2 * start
        for j in range(first, min(first + 2 * size, row.size)):
            row[j] = np.float32(np.int32(bits[j - first])) * _TO_SIGNED


@compiled
def signed(bits: np.ndarray, values: np.ndarray) -> None:
    """Overwrites values by independent ones, uniform in [-1, 1].

    Args:
        bits: uint32 ``[k, at least d]``, random.
        values: float32 ``[k, d]``.
    """
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            values[i, j] = np.float32(np.int32(bits[i, j])) * _TO_SIGNED
