"""Adversarial starting points for decision-based attacks, drawn from a stream of the run's own.

``random``: uniform in the clip box, as in the published attack. ``blended``: the same draws
first; where none of them is adversarial, as many more of other kinds, in turn:

0. every value at one end of the box, the share of upper ends drawn too;
1. runs of equal values (1, 2, 4, ... runs, in the order of the flattened point);
2. and 3. the point itself blended with a draw of the first or of the second kind.

``outward``: the nearest adversarial row on lines from the point, searched from the point outwards
(:mod:`medrobust.attacks.engine.outward_search`); where there is none, the first adversarial draw of
``blended``, and the nearest adversarial row on the line to it. The lines end in uniform draws and
in draws of the kinds 0 and 1, in turn.

A classifier that calls all noise by one name still has a boundary against these. Draws come one
after another, so which is found does not depend on the blocks in which they are asked about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from medrobust.attacks.engine.outward_search import Effort, nearest_on_lines
from medrobust.attacks.engine.spec import HopSkipJumpSpec

DRAWS = 64
_LARGEST_POWER = 7
_KINDS = 4

Asks = Callable[[np.ndarray], np.ndarray]
RunAsks = Callable[[np.ndarray, np.ndarray], np.ndarray]
# Memory of the lines that are searched together.
_LINE_BYTES = 2**25


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


def line_ends(
    x: np.ndarray, seed: int, lines: int, box: tuple[np.float32, np.float32]
) -> np.ndarray:
    """Returns where the lines of an outward search end, float32 ``[lines, *shape]``.

    Args:
        x: float32 ``[*shape]``, the point under attack.
        seed: of the run.
        lines: their number.
        box: lowest and highest value.
    """
    low, high = box
    random = np.random.default_rng([seed, 4])
    ends = [
        random.uniform(low, high, x.shape)
        if i % 2 == 0
        else _structured(x, random, i // 2 % 2, low, high)
        for i in range(lines)
    ]
    return np.clip(np.stack(ends).astype(np.float32), low, high)


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


def find_starts(
    points: np.ndarray,
    seeds: Sequence[int],
    spec: HopSkipJumpSpec,
    asks: RunAsks,
) -> list[np.ndarray | None]:
    """Returns an adversarial start of each run, float32 ``[*shape]``, or None where none is found.

    Args:
        points: float32 ``[runs, *shape]``, not adversarial.
        seeds: of the runs.
        spec: settings that ask for starts to be drawn.
        asks: given rows, float32 ``[k, *shape]``, and their runs, int64 ``[k]``: which rows are
            adversarial, bool ``[k]``. All rows count as queries.
    """
    starts: list[np.ndarray | None] = [None] * len(points)
    if spec.start == "outward" and len(points):
        effort = Effort.within(spec.init_size)
        rows = min(spec.batch_size, _LINE_BYTES // (4 * points[0].size))
        group = max(rows // effort.lines, 1)
        for first in range(0, len(points), group):
            runs = np.arange(first, min(first + group, len(points)))
            ends = [line_ends(points[i], seeds[i], effort.lines, spec.box()) for i in runs]
            starts[first : first + group] = _on_lines(points, runs, ends, effort, spec, asks)
    return [
        _drawn_start(points, i, seeds[i], spec, asks) if start is None else start
        for i, start in enumerate(starts)
    ]


def _drawn_start(
    points: np.ndarray, run: int, seed: int, spec: HopSkipJumpSpec, asks: RunAsks
) -> np.ndarray | None:
    x, blended = points[run], spec.start != "random"
    candidates = draws(x, seed, spec.init_size, spec.box(), blended=blended)
    start = first_adversarial(candidates, lambda rows: asks(rows, np.full(len(rows), run)))
    if start is None or spec.start != "outward":
        return start
    effort = Effort.within(min(spec.init_size, DRAWS), lines=1)
    nearer = _on_lines(points, np.array([run]), [start[None]], effort, spec, asks)[0]
    return start if nearer is None else nearer


def _on_lines(
    points: np.ndarray,
    runs: np.ndarray,
    ends: list[np.ndarray],
    effort: Effort,
    spec: HopSkipJumpSpec,
    asks: RunAsks,
) -> list[np.ndarray | None]:
    """Returns of each of some runs the nearest adversarial row found on its lines, or None."""
    shape = points.shape[1:]
    found, rows = nearest_on_lines(
        points[runs].reshape(len(runs), -1),
        np.stack(ends).reshape(len(runs), effort.lines, -1),
        effort,
        spec.norm,
        spec.box(),
        lambda rows, owners: asks(rows.reshape(-1, *shape), runs[owners]),
    )
    return [row.reshape(shape) if ok else None for ok, row in zip(found, rows, strict=True)]
