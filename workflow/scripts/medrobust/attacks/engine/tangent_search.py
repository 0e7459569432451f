"""Search in the tangent plane: what HopSkipJump can be refined by once it is near.

Where the boundary is nearly flat, the direction from the point to its nearest boundary row is
nearly the boundary's normal, and estimating the normal again teaches little: averaging N answers
of one bit leaves a distance of ``sqrt(1 + (pi / 2) d / N)`` times the least at best. What is still
wrong is the tilt, the normal's part across that direction. Perturbations orthogonal to the
direction are answered by the sign of their product with the tilt alone, however small it is, so
each estimate takes a constant share off what is left of it.

One iteration: estimate the tilt from perturbations orthogonal to the direction, then search the
length of the step along it. All candidates of a run are bisected together, at one distance: what
is adversarial there stays, so the nearest of them is found at little more than the cost of one.
A run never gets worse. It does not climb either: use it after HopSkipJump's own iterations.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from medrobust.attacks.engine.lockstep import Normals, Setting, smallest_radius

if TYPE_CHECKING:
    from medrobust.attacks.engine.tensor_normals import TensorNormals

# The ratio of one candidate's step to the next, and their number, once a good step is known.
_RATIO, _CANDIDATES = 1.5, 5
# Steps of the first search, as parts of the distance: 16 to 1/32.
_FIRST_POWERS = np.arange(4, -6, -1)
_RADIUS = 0.01
_SMALLEST_STEP = 1e-4
_FINEST = 2e-5


class TangentSearch:
    """Iterations in the tangent plane, for norm 2.

    Args:
        setting: the attack.
        normals: estimates from answers.
        theta: relative tolerance of HopSkipJump's own bisection.
    """

    def __init__(self, setting: Setting, normals: Normals | TensorNormals, theta: float) -> None:
        self._setting, self._normals = setting, normals
        # The boundary must be known better than a perturbation reaches along the normal.
        self._tolerance = min(theta / 4, _FINEST)
        # What one of HopSkipJump's iterations spends beside its estimate.
        self._allowance = math.ceil(math.log2(1 / theta)) + 2

    def take(
        self,
        nearest: np.ndarray,
        distance: np.ndarray,
        step: np.ndarray,
        overspent: np.ndarray,
        size: int,
        iteration: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Takes one iteration with all runs.

        Args:
            nearest: float32 ``[runs, d]``, adversarial rows on the boundary.
            distance: float64 ``[runs]``, their distances.
            step: float64 ``[runs]``, the best step of the last search as a part of the distance,
                0 before the first; overwritten.
            overspent: int64 ``[runs]``, queries of the last search beyond what an iteration of
                HopSkipJump spends, taken off this estimate; overwritten.
            size: queries of an estimate.
            iteration: names the streams of random numbers.

        Returns:
            the nearest rows and their distances.
        """
        setting = self._setting
        runs = np.arange(len(nearest))
        direction = nearest.astype(np.float64) - setting.x
        # At distance 0 there is no direction; only a model that changes its answers gets there.
        direction /= np.where(distance > 0, distance, 1.0)[:, None]
        radius = np.maximum(_RADIUS * distance, smallest_radius(setting))
        counts = np.maximum(size - np.maximum(overspent, 0), 1)
        unit = direction.astype(np.float32)
        tilt = self._normals.estimate(nearest, radius, counts, iteration, unit)
        tilt -= (tilt * direction).sum(axis=1)[:, None] * direction
        length = np.sqrt(np.square(tilt).sum(axis=1))
        tilt /= np.where(length > 0, length, 1.0)[:, None]
        before = setting.queries.counts.copy()
        candidates = _Candidates(setting, nearest, distance, tilt, self._steps(step))
        found, chosen = candidates.search(self._tolerance)
        moved = np.isfinite(chosen)
        # Without a nearer one: smaller steps next time, or large ones again after the smallest.
        smaller = np.where(step > 0, step, 1.0) / _RATIO ** (_CANDIDATES // 2 + 1)
        smaller = np.where(smaller < _SMALLEST_STEP, 0.0, smaller)
        step[:] = np.where(moved, chosen, smaller)
        overspent[:] = setting.queries.counts - before - self._allowance
        after = setting.distance(found, runs)
        # Rounding to float32 may undo a gain that is smaller than itself.
        nearer = after < distance
        return np.where(nearer[:, None], found, nearest), np.where(nearer, after, distance)

    def _steps(self, step: np.ndarray) -> list[np.ndarray]:
        """Returns the steps to try of each run, as parts of the distance."""
        powers = _CANDIDATES // 2 - np.arange(_CANDIDATES)
        near = _RATIO ** powers.astype(np.float64)
        first = 2.0**_FIRST_POWERS
        return [value * near if value > 0 else first for value in step]


class _Candidates:
    """Rows at several steps along the tilt of each run, drawn to the points together."""

    def __init__(
        self,
        setting: Setting,
        nearest: np.ndarray,
        distance: np.ndarray,
        tilt: np.ndarray,
        steps: list[np.ndarray],
    ) -> None:
        self._setting, self._nearest, self._distance = setting, nearest, distance
        self._owner = np.repeat(np.arange(len(steps)), [len(values) for values in steps])
        self._step = np.concatenate(steps)
        moves = (self._step * distance[self._owner])[:, None] * tilt[self._owner]
        self._rows = setting.box(nearest[self._owner] + moves)
        self._reach = setting.distance(self._rows, self._owner)

    def search(self, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns the nearest adversarial rows found, and their steps (NaN: none is nearer).

        Args:
            tolerance: part of the distance by which a row has to be nearer to count, and to
                which the least distance is found.
        """
        runs = len(self._nearest)
        found, chosen = self._nearest.copy(), np.full(runs, np.nan)
        alive = self._reach > 0
        upper, lower = np.ones(runs), np.zeros(runs)
        gain, growing = np.full(runs, 2 * tolerance), np.ones(runs, dtype=bool)
        while (active := growing | (np.isfinite(chosen) & (upper - lower > tolerance))).any():
            # Ever larger gains until none is adversarial, then bisection.
            part = np.where(growing, np.maximum(1 - gain, 0.0), (upper + lower) / 2)
            asked = np.flatnonzero(alive & active[self._owner])
            owner = self._owner[asked]
            rows = self._at(asked, part[owner])
            hit = self._setting.queries.adversarial(rows, owner)
            any_hit = np.zeros(runs, dtype=bool)
            any_hit[owner[hit]] = True
            self._keep(asked, hit, rows, found, chosen)
            alive[asked] &= hit | ~any_hit[owner]
            upper = np.where(active & any_hit, part, upper)
            lower = np.where(active & ~any_hit, part, lower)
            growing &= any_hit & (part > 0)
            gain = np.where(growing, 4 * gain, gain)
        return found, chosen

    def _at(self, asked: np.ndarray, part: np.ndarray) -> np.ndarray:
        """Returns candidates drawn to ``part`` of their run's distance, where that is nearer."""
        owner = self._owner[asked]
        extent = np.minimum(part * self._distance[owner] / self._reach[asked], 1.0)
        return self._setting.towards(self._rows[asked], owner, extent)

    def _keep(
        self,
        asked: np.ndarray,
        hit: np.ndarray,
        rows: np.ndarray,
        found: np.ndarray,
        chosen: np.ndarray,
    ) -> None:
        """Keeps the middle one of each run's hits."""
        owner = self._owner[asked]
        hits = np.flatnonzero(hit)
        starts = np.flatnonzero(np.r_[True, np.diff(owner[hits]) != 0]) if hits.size else hits
        sizes = np.diff(np.r_[starts, hits.size])
        middle = hits[starts + sizes // 2]
        found[owner[middle]] = rows[middle]
        chosen[owner[middle]] = self._step[asked[middle]]
