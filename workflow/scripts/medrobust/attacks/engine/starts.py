"""Adversarial starting points for decision-based attacks, drawn from a stream of the run's own.

``random``: uniform in the clip box, as in the published attack. ``blended``: the same draws
first; where none of them is adversarial, as many more of other kinds, in turn:

0. every value at one end of the box, the share of upper ends drawn too;
1. runs of equal values (1, 2, 4, ... runs, in the order of the flattened point);
2. and 3. the point itself blended with a draw of the first or of the second kind.

A classifier that calls all noise by one name still has a boundary against these. Draws come one
after another, so which is found does not depend on the blocks in which they are asked about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

DRAWS = 64
_LARGEST_POWER = 7
_KINDS = 4

Asks = Callable[[np.ndarray], np.ndarray]


def draws(
    x: np.ndarray, seed: int, size: int, box: tuple[np.float32, np.float32], *, blended: bool
) -> Iterator[np.ndarray]:
    """Yields candidates, float32 ``[at most DRAWS, *shape]``, within the box.

    Args:
        x: float32 ``[*shape]``, the point under attack.
        seed: of the run.
        size: number of uniform draws, and of the others.
        box: lowest and highest value.
        blended: whether the other kinds follow.
    """
    low, high = box
    random = np.random.default_rng([seed, 1])
    for first in range(0, size, DRAWS):
        count = min(DRAWS, size - first)
        uniform = random.uniform(low, high, (count, *x.shape))
        yield np.clip(uniform.astype(np.float32), low, high)
    if not blended:
        return
    random = np.random.default_rng([seed, 2])
    for first in range(0, size, DRAWS):
        count = min(DRAWS, size - first)
        rows = [_structured(x, random, (first + i) % _KINDS, low, high) for i in range(count)]
        yield np.clip(np.stack(rows).astype(np.float32), low, high)


def _structured(
    x: np.ndarray, random: np.random.Generator, kind: int, low: float, high: float
) -> np.ndarray:
    if kind % 2 == 0:
        share = random.uniform()
        drawn = np.where(random.uniform(size=x.size) < share, high, low)
    else:
        runs = min(2 ** int(random.integers(_LARGEST_POWER)), x.size)
        drawn = random.uniform(low, high, runs)[np.arange(x.size) * runs // x.size]
    drawn = drawn.reshape(x.shape)
    if kind < 2:
        return drawn
    weight = random.uniform()
    return (1 - weight) * x + weight * drawn


def first_adversarial(candidates: Iterator[np.ndarray], asks: Asks) -> np.ndarray | None:
    """Returns the first adversarial candidate, float32 ``[*shape]``, or None.

    Args:
        candidates: blocks, as :func:`draws` yields them.
        asks: which rows of a block are adversarial. All rows of a block count as queries.
    """
    for block in candidates:
        hits = np.flatnonzero(asks(block))
        if len(hits):
            return block[hits[0]]
    return None
