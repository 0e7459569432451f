"""Compiled parts of SPSA: rows perturbed by random signs, and their weighted sum (numba).

Signs are bits of a stream (:func:`medrobust.attacks.engine.ball_kernels.fill_bits`): bit j of a
direction's words is 1 where value j is lowered first.
"""

from __future__ import annotations

import numpy as np

from medrobust.attacks.engine.ball_kernels import fill_bits, stream_key
from medrobust.runtime.compiled import compiled

_ONE_BIT = np.uint32(1)
_WORD = 32


@compiled
def _choose(
    word: int, up: np.ndarray, down: np.ndarray, plus: np.ndarray, minus: np.ndarray
) -> None:
    for j in range(up.size):
        lowered = (word >> np.uint32(j)) & _ONE_BIT == _ONE_BIT
        plus[j] = down[j] if lowered else up[j]
        minus[j] = up[j] if lowered else down[j]


@compiled
def _add(word: int, weight: float, total: np.ndarray) -> None:
    for j in range(total.size):
        total[j] += -weight if (word >> np.uint32(j)) & _ONE_BIT == _ONE_BIT else weight


@compiled
def perturb(
    x: np.ndarray,
    seed: int,
    stream: int,
    first: int,
    delta: float,
    bits: np.ndarray,
    plus: np.ndarray,
    minus: np.ndarray,
) -> None:
    """Overwrites ``plus`` and ``minus`` by ``x + delta v`` and ``x - delta v``, v of random signs.

    Args:
        x: float32 ``[d]``.
        seed: of the run, int64.
        stream: number of the stream.
        first: number of the first direction within the stream.
        delta: float32.
        bits: uint64 ``[k, ceil(d / 64)]``, overwritten by the signs.
        plus, minus: float32 ``[k, d]``.
    """
    words = bits.shape[1]
    fill_bits(stream_key(seed, stream), first * words, bits.reshape(-1))
    halves = bits.view(np.uint32)
    up, down = x + delta, x - delta
    for k in range(plus.shape[0]):
        for w in range((x.size + _WORD - 1) // _WORD):
            part = slice(w * _WORD, (w + 1) * _WORD)
            _choose(halves[k, w], up[part], down[part], plus[k, part], minus[k, part])


@compiled
def add_weighted(weights: np.ndarray, bits: np.ndarray, total: np.ndarray) -> None:
    """Adds the directions, each times its weight, to ``total``.

    Args:
        weights: float64 ``[k]``.
        bits: from :func:`perturb`.
        total: float64 ``[d]``, changed.
    """
    halves = bits.view(np.uint32)
    for k in range(weights.size):
        weight = weights[k]
        for w in range((total.size + _WORD - 1) // _WORD):
            _add(halves[k, w], weight, total[w * _WORD : (w + 1) * _WORD])
