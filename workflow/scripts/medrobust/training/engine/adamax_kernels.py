"""A step of Adamax and the decay of a vector, each as one loop: compiled, float32, for the CPU.

The same roundings as PyTorch's vectorised functions, called one after the other, have on a
processor that multiplies and adds in one; these need a dozen passes over memory.
"""

from __future__ import annotations

import numpy as np

from medrobust.runtime.compiled import compiled, fused_multiply_add

_DECAY, _EPSILON = np.float32(0.999), np.float32(1e-8)
_ONE, _NONE = np.float32(1), np.float32(0)


@compiled
def step(
    values: np.ndarray,
    gradient: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    share: np.float32,
    rate: np.float32,
) -> None:
    """Moves values and both moments, float32 ``[p]``, in place.

    Args:
        values: parameters.
        gradient: their gradient.
        first: running mean of gradients.
        second: running maximum of their sizes.
        share: of the new gradient in the running mean.
        rate: step size, corrected for the start of the mean at 0.
    """
    for i in range(len(values)):
        first[i] = fused_multiply_add(share, gradient[i] - first[i], first[i])
        second[i] = max(second[i] * _DECAY, abs(gradient[i]) + _EPSILON)
        values[i] -= rate * first[i] / second[i]


@compiled
def decay(values: np.ndarray, towards_zero: np.float32, kept: np.float32) -> None:
    """Takes ``towards_zero * sign`` off each value, then multiplies it by ``kept``, in place."""
    for i in range(len(values)):
        sign = _ONE if values[i] > 0 else (-_ONE if values[i] < 0 else _NONE)
        values[i] = (values[i] - towards_zero * sign) * kept
