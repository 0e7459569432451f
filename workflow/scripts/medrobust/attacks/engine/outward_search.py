"""Starts near the points under attack: lines from a point, searched from the point outwards.

A start far away leads where bisection happens to end: on a segment that crosses the boundary
several times it finds any of the crossings. So each run draws lines from its point to rows of the
clip box and asks all of them at one distance after the other, each larger than the one before,
until one is adversarial; then the bracket is halved, all lines that were adversarial together.
What is found is the nearest adversarial row of all that were asked about.

Foolbox's start blends outwards too, along one line whose end is adversarial, in equal steps. Here
lines count wherever they end, and distances grow geometrically: near boundaries are found finely,
far ones coarsely. Runs are searched in lockstep; a run's start depends on the run alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

#: The first distance asked about, as a part of the longest line of a run.
NEAREST = 2.0**-10
_MOST_HALVINGS = 5

Asks = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Effort:
    """How the queries of a run are spent: at most ``lines * (distances + halvings)`` of them."""

    lines: int
    distances: int
    halvings: int

    @classmethod
    def within(cls, queries: int, lines: int | None = None) -> Effort:
        """Returns an effort of at most ``queries`` (>= 1).

        Args:
            queries: of a run.
            lines: by default about as many as there are queries on each.
        """
        lines = math.isqrt(queries) if lines is None else lines
        each = queries // lines
        halvings = min(_MOST_HALVINGS, each // 4)
        return cls(lines, each - halvings, halvings)

    def shares(self) -> np.ndarray:
        """Returns the distances as parts of the longest line, ascending to 1."""
        return np.geomspace(1.0, NEAREST, self.distances)[::-1]


def nearest_on_lines(
    points: np.ndarray,
    ends: np.ndarray,
    effort: Effort,
    norm: Literal[2, "inf"],
    box: tuple[np.float32, np.float32],
    asks: Asks,
) -> tuple[np.ndarray, np.ndarray]:
    """Searches the lines of several runs outwards, all runs in lockstep.

    Args:
        points: float32 ``[runs, d]``, not adversarial.
        ends: float32 ``[runs, lines, d]``, where the lines end.
        effort: how many distances and halvings.
        norm: of the distances.
        box: lowest and highest value.
        asks: given rows, float32 ``[k, d]``, and their runs, int64 ``[k]``, ascending: which rows
            are adversarial, bool ``[k]``.

    Returns:
        which runs have a start, bool ``[runs]``, and the nearest adversarial row that each was
        asked about, float32 ``[runs, d]`` (the point itself where there is none).
    """
    search = _Search(points, ends, norm, box, asks)
    for share in effort.shares():
        search.reach_out(share * search.longest)
    for _ in range(effort.halvings):
        search.halve()
    return search.found, search.nearest


class _Search:
    """The state of a search: of each run a bracket of distances, and the lines that count."""

    def __init__(
        self,
        points: np.ndarray,
        ends: np.ndarray,
        norm: Literal[2, "inf"],
        box: tuple[np.float32, np.float32],
        asks: Asks,
    ) -> None:
        self._points, self._ends, self._box, self._asks = points, ends, box, asks
        away = ends.astype(np.float64) - points[:, None]
        self._length = np.linalg.norm(away, 2 if norm == 2 else np.inf, axis=2)
        self.longest = self._length.max(axis=1)
        self._lower, self._upper = np.zeros(len(points)), np.zeros(len(points))
        self._hit = np.zeros(self._length.shape, dtype=bool)
        self.found = np.zeros(len(points), dtype=bool)
        self.nearest = points.copy()

    def reach_out(self, distance: np.ndarray) -> None:
        """Asks all lines of the runs without a start at a distance, float64 ``[runs]``."""
        # A line that is shorter is asked at its end, once.
        left = ~self.found[:, None] & (self._length > self._lower[:, None])
        self._ask(left, distance)

    def halve(self) -> None:
        """Asks the lines that count in the middle of their run's bracket."""
        several = self.found & (self._hit.sum(axis=1) > 1)
        self._ask(self._hit & several[:, None], (self._lower + self._upper) / 2)

    def _ask(self, lines: np.ndarray, distance: np.ndarray) -> None:
        run, line = np.nonzero(lines)
        if not run.size:
            return
        length = self._length[run, line]
        reached = np.minimum(distance[run], length)
        x = self._points[run].astype(np.float64)
        rows = x + (reached / length)[:, None] * (self._ends[run, line] - x)
        rows = np.clip(rows, *self._box).astype(np.float32)
        hit = self._asks(rows, run)
        asked, some = np.zeros(len(lines), dtype=bool), np.zeros(len(lines), dtype=bool)
        asked[run], some[run[hit]] = True, True
        self._upper = np.where(some, distance, self._upper)
        self._lower = np.where(asked & ~some, distance, self._lower)
        self._hit[some] = False
        self._hit[run[hit], line[hit]] = True
        self.found |= some
        order = np.flatnonzero(hit)
        order = order[np.lexsort((reached[order], run[order]))]
        first = order[np.unique(run[order], return_index=True)[1]]
        self.nearest[run[first]] = rows[first]
