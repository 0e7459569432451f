"""Compiled training of one multi-layer perceptron: an epoch of gradient descent (numba).

The gradient is written out. Each network is computed alone, in memory of its own, so it depends
neither on its place in a stack nor on the thread. The matrix products are those of the BLAS that
NumPy's ``dot`` calls under numba, SciPy's; it has to run on one thread (more may round otherwise).

Within an epoch weights lie as ``[inputs + 1, outputs]``: the last row is the bias, which meets an
input of 1. Of the layouts tried, the products of the first layer run fastest so.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from medrobust.runtime.compiled import compiled, prefetch

_LOG2_E = np.float32(1.44269504)
# 1.5 * 2**23: adding it to a float32 leaves the nearest integer in the low bits.
_ROUND = np.float32(12582912.0)
# ln 2 in two parts, so that the multiple of it that is taken off is exact; Cephes, expf.
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_P0, _P1, _P2 = (
    np.float32(1.9875691500e-4),
    np.float32(1.3981999507e-3),
    np.float32(8.3334519073e-3),
)
_P3, _P4, _P5 = (
    np.float32(4.1665795894e-2),
    np.float32(1.6666665459e-1),
    np.float32(5.0000001201e-1),
)
_LARGEST = np.float32(87.0)
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_EXPONENT = np.int32(23)
_ROWS_AHEAD = 16
_CACHE_LINE = np.uint64(16)  # values of 4 bytes

Layers = tuple[np.ndarray, np.ndarray, np.ndarray]


class Rule(NamedTuple):
    """How steps are taken.

    Attributes:
        logistic: hidden units have the logistic function, else the rectifier.
        batch_size: points per step; the last batch of an epoch may be smaller.
        learning_rate, momentum, nesterov: as PyTorch's SGD names them.
        l2_penalty: the loss of a batch contains ``l2_penalty / 2 * sum(w**2) / points``.
    """

    logistic: bool
    batch_size: int
    learning_rate: float
    momentum: float
    nesterov: bool
    l2_penalty: float


@compiled
def _exp(x: float) -> float:
    """Returns exp(x) in float32, x held within +-87; relative error below 2e-7; NaN stays NaN.

    Unlike a call of the C library's function, these steps are done for a whole vector register.
    """
    x = -_LARGEST if x < -_LARGEST else x
    x = _LARGEST if x > _LARGEST else x
    shifted = x * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = ((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5
    p = p * (r * r) + r + _ONE
    power = (np.float32(shifted).view(np.int32) << _EXPONENT) + np.float32(1.0).view(np.int32)
    return p * np.int32(power).view(np.float32)


# The loops below run over whole slices from 0: only then does the compiler use vectors.
@compiled
def _gather(points: np.ndarray, order: np.ndarray, start: int, x: np.ndarray) -> None:
    """Copies rows of ``points``, from ``order[start]`` on, to ``x``, except its last column.

    Rows lie anywhere in a large array: most of the time would be spent on waiting for memory, so
    those due soon are asked for ahead.
    """
    flat, last = _flat(points), order.size - 1
    width = np.uint64(points.shape[1])
    for i in range(x.shape[0]):
        soon = np.uint64(order[min(start + i + _ROWS_AHEAD, last)]) * width
        for value in range(np.uint64(0), width, _CACHE_LINE):
            prefetch(flat, soon + value)
        _copy(points[np.uint64(order[start + i])], x[i])


@compiled
def _copy(source: np.ndarray, target: np.ndarray) -> None:
    for j in range(source.size):
        target[j] = source[j]


@compiled
def _logistic(values: np.ndarray) -> None:
    for i in range(values.size):
        values[i] = _ONE / (_ONE + _exp(-values[i]))


@compiled
def _relu(values: np.ndarray) -> None:
    for i in range(values.size):
        values[i] = _ZERO if values[i] < _ZERO else values[i]


@compiled
def _times_slope(gradient: np.ndarray, hidden: np.ndarray, logistic: bool) -> None:
    """Multiplies the gradient of hidden values by the slope of their function."""
    if logistic:
        for i in range(hidden.size):
            gradient[i] *= (_ONE - hidden[i]) * hidden[i]
    else:
        for i in range(hidden.size):
            gradient[i] *= _ONE if hidden[i] > _ZERO else _ZERO


@compiled
def _add(values: np.ndarray, constant: float) -> None:
    for i in range(values.size):
        values[i] += constant


@compiled
def _largest(logits: np.ndarray, largest: np.ndarray) -> None:
    for i in range(largest.size):
        # NaN of the first class stays; that of another comes back with its exponential.
        largest[i] = logits[i] if logits[i] > largest[i] else largest[i]


@compiled
def _exponentials(logits: np.ndarray, largest: np.ndarray, total: np.ndarray) -> None:
    """Overwrites one class's logits by ``exp(logit - largest)`` and adds these to ``total``."""
    for i in range(total.size):
        logits[i] = _exp(logits[i] - largest[i])
        total[i] += logits[i]


@compiled
def _quotients(values: np.ndarray, total: np.ndarray, points: float) -> None:
    for i in range(total.size):
        values[i] /= total[i] * points


@compiled
def _sum_of_logs(values: np.ndarray) -> float:
    """Returns the summed logarithms of values in ``1 .. classes``, of 32 at a time."""
    result, product = 0.0, 1.0
    for i in range(values.size):
        product *= values[i]
        if i % 32 == 31:
            result += math.log(product)
            product = 1.0
    return result + math.log(product)


@compiled
def _output_gradient(
    logits: np.ndarray, y: np.ndarray, largest: np.ndarray, total: np.ndarray
) -> tuple[float, int]:
    """Overwrites logits by the gradient of the mean cross-entropy.

    Args:
        logits: ``[classes, n]``.
        y: labels, int64 ``[n]``.
        largest, total: ``[n]``, overwritten.

    Returns:
        the cross-entropy summed over points, and of how many the label has the largest logit.
    """
    largest[:] = logits[0]
    for c in range(1, logits.shape[0]):
        _largest(logits[c], largest)
    loss, correct = 0.0, 0
    for i in range(y.size):
        below = largest[i] - logits[y[i], i]
        loss += below
        correct += below == _ZERO
    total[:] = _ZERO
    for c in range(logits.shape[0]):
        _exponentials(logits[c], largest, total)
    loss += _sum_of_logs(total)
    points = np.float32(y.size)
    for c in range(logits.shape[0]):
        _quotients(logits[c], total, points)
    for i in range(y.size):
        logits[y[i], i] -= _ONE / points
    return loss, correct


@compiled
def _sum_of_squares(weights: np.ndarray) -> float:
    return np.dot(_flat(weights), _flat(weights))


@compiled
def _move(
    values: np.ndarray, velocity: np.ndarray, gradient: np.ndarray, decay: float, rule: Rule
) -> None:
    """Takes one step of momentum, as PyTorch's SGD; ``decay`` is the slope of the penalty."""
    rate, momentum = np.float32(rule.learning_rate), np.float32(rule.momentum)
    decay = np.float32(decay)
    own, ahead = (_ONE, momentum) if rule.nesterov else (_ZERO, _ONE)
    for i in range(values.size):
        slope = gradient[i] + decay * values[i]
        velocity[i] = momentum * velocity[i] + slope
        values[i] -= rate * (own * slope + ahead * velocity[i])


@compiled
def _flat(matrix: np.ndarray) -> np.ndarray:
    return matrix.reshape(matrix.size)


@compiled
def epoch(
    points: np.ndarray,
    labels: np.ndarray,
    order: np.ndarray,
    weights: Layers,
    velocities: Layers,
    rule: Rule,
) -> tuple[float, float]:
    """Takes one pass over the data.

    Args:
        points: float32 ``[n, d]``.
        labels: int64 ``[n]``, below the number of outputs, or below 2 where there is one output.
        order: int64, the rows to take, in batches from the first.
        weights: overwritten: first layer ``[d + 1, h]``, second layer ``[o, h]``, its biases
            ``[o]``, all float32.
        velocities: overwritten: of the same shapes.
        rule: how steps are taken.

    Returns:
        the mean loss, the penalty included, and the share of points classified correctly, each
        by the weights that its batch met.
    """
    whole = order.size // rule.batch_size * rule.batch_size
    size = rule.batch_size
    loss, correct = _steps(points, labels, order[:whole], size, weights, velocities, rule)
    if whole < order.size:
        size = order.size - whole
        more = _steps(points, labels, order[whole:], size, weights, velocities, rule)
        loss, correct = loss + more[0], correct + more[1]
    return loss / order.size, correct / order.size


@compiled
def _steps(
    points: np.ndarray,
    labels: np.ndarray,
    order: np.ndarray,
    size: int,
    weights: Layers,
    velocities: Layers,
    rule: Rule,
) -> tuple[float, int]:
    """Takes a step for every ``size`` rows; returns summed loss and number of correct points."""
    first, second, bias = weights
    inputs, units, outputs = points.shape[1], first.shape[1], second.shape[0]
    x = np.ones((size, inputs + 1), dtype=np.float32)
    ones = np.ones(size, dtype=np.float32)
    hidden = np.empty((size, units), dtype=np.float32)
    slopes = np.empty((size, units), dtype=np.float32)
    # One output is the logit of class 1; that of class 0 is 0.
    classes = max(outputs, 2)
    memory = np.empty(classes * size, dtype=np.float32)
    logits = memory.reshape((classes, size))
    out = memory[(classes - outputs) * size :].reshape((outputs, size))
    largest, sums = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.float32)
    first_slope, second_slope = np.empty_like(first), np.empty_like(second)
    bias_slope = np.empty_like(bias)
    decay = rule.l2_penalty / size
    loss, correct = 0.0, 0
    for start in range(0, order.size, size):
        _gather(points, order, start, x)
        np.dot(x, first, hidden)
        if rule.logistic:
            _logistic(_flat(hidden))
        else:
            _relu(_flat(hidden))
        logits[0] = _ZERO
        np.dot(second, hidden.T, out)
        for c in range(outputs):
            _add(out[c], bias[c])
        y = labels[order[start : start + size]]
        batch_loss, batch_correct = _output_gradient(logits, y, largest, sums)
        loss, correct = loss + batch_loss, correct + batch_correct
        squares = _sum_of_squares(first[:inputs]) + _sum_of_squares(second)
        loss += 0.5 * rule.l2_penalty * squares
        np.dot(out, hidden, second_slope)
        np.dot(out, ones, bias_slope)
        np.dot(out.T, second, slopes)
        _times_slope(_flat(slopes), _flat(hidden), rule.logistic)
        np.dot(x.T, slopes, first_slope)
        w, v, g = _flat(first), _flat(velocities[0]), _flat(first_slope)
        end = inputs * units
        _move(w[:end], v[:end], g[:end], decay, rule)
        _move(w[end:], v[end:], g[end:], 0.0, rule)
        _move(_flat(second), _flat(velocities[1]), _flat(second_slope), decay, rule)
        _move(bias, velocities[2], bias_slope, 0.0, rule)
    return loss, correct
