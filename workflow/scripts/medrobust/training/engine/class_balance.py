"""The order of an epoch in which every class comes up equally often.

Nsr, authors' code ("up-sampling" in section 2.1): the points of each class are repeated in turn
until they are as many as those of the largest class, always in the order that they were shuffled
into at the start of the epoch, and classes alternate point by point.
"""

from __future__ import annotations

import numpy as np


def balanced_order(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns rows in the order of one epoch, int64 ``[classes * largest class]``.

    Each class's rows are put into a random order, which repeats up to the size of the largest
    class: between two turns of a row every other row of its class has one. Classes take turns, in
    a random order that stays for the epoch.

    Args:
        y: labels, int64 ``[n]``; classes without a point have no turn.
        rng: generator of this epoch.
    """
    labels, counts = np.unique(y, return_counts=True)
    turns = np.empty((counts.max(), len(labels)), dtype=np.int64)
    for place, label in enumerate(rng.permutation(labels)):
        turns[:, place] = np.resize(rng.permutation(np.flatnonzero(y == label)), counts.max())
    return turns.reshape(-1)


def balanced_points(y: np.ndarray) -> int:
    """Returns the length of :func:`balanced_order`."""
    counts = np.unique(y, return_counts=True)[1]
    return int(counts.max() * len(counts))
