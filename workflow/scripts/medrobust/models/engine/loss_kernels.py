"""Compiled slopes of the attacks' losses at the logits, each row by itself (numba)."""

from __future__ import annotations

import numpy as np

from medrobust.runtime.compiled import compiled

#: The least value of 1 - p_y: a saturated row keeps the direction of its slope.
SMALLEST_DOUBT = 1e-20


@compiled
def rival(logits: np.ndarray, label: int) -> int:
    """Returns the class of the largest logit but the label's, the lowest number of equals.

    Args:
        logits: ``[c]``, at least two.
        label: class to leave out.
    """
    best = 1 if label == 0 else 0
    for k in range(best + 1, logits.size):
        if k != label and logits[k] > logits[best]:
            best = k
    return best


@compiled
def margins(logits: np.ndarray, labels: np.ndarray, losses: np.ndarray) -> None:
    """Overwrites losses by ``max_{i != y} z_i - z_y``.

    Args:
        logits: float32 ``[n, c]``.
        labels: int64 ``[n]``.
        losses: float64 ``[n]``.
    """
    for i in range(labels.size):
        row, label = logits[i], labels[i]
        losses[i] = np.float64(row[rival(row, label)]) - np.float64(row[label])


@compiled
def margin_slopes(logits: np.ndarray, labels: np.ndarray, slopes: np.ndarray) -> None:
    """Overwrites slopes by those of the margin: 1 at the best other class, -1 at the label.

    Args:
        logits: float32 ``[n, c]``.
        labels: int64 ``[n]``.
        slopes: float32 ``[n, c]``.
    """
    for i in range(labels.size):
        slopes[i, :] = 0.0
        slopes[i, rival(logits[i], labels[i])] = 1.0
        slopes[i, labels[i]] = -1.0


@compiled
def cross_entropy_slopes(logits: np.ndarray, labels: np.ndarray, slopes: np.ndarray) -> None:
    """Overwrites slopes by those of the cross-entropy, ``softmax(z) - onehot(y)``.

    They are computed in float64 from the other classes alone, so that none is lost where the
    probability of the label rounds to 1; see :data:`SMALLEST_DOUBT`. Arguments as above.
    """
    for i in range(labels.size):
        row, label = logits[i], labels[i]
        largest = np.float64(row[rival(row, label)])
        others = 0.0
        for k in range(row.size):
            if k != label:
                others += np.exp(np.float64(row[k]) - largest)
        # The odds of the label against all others together.
        odds = np.exp(min(np.float64(row[label]) - largest, 700.0)) / others
        doubt = max(1.0 / (1.0 + odds), SMALLEST_DOUBT)
        for k in range(row.size):
            slopes[i, k] = doubt * np.exp(np.float64(row[k]) - largest) / others
        slopes[i, label] = -doubt
